"""From simulations to an emulator: failed rows left out, some set aside, the others learned from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_infer.catalogue import find
from implicit_infer.fitting.emulators.adversarial import AdversarialEmulation
from implicit_infer.fitting.emulators.emulation import Emulation, Rows
from implicit_infer.fitting.emulators.emulator import Emulator, made_of, spread_out
from implicit_infer.fitting.emulators.flow import FlowEmulation
from implicit_infer.fitting.emulators.frame import Frame
from implicit_infer.fitting.emulators.scored import ScoredEmulation
from implicit_simulators import Simulator, Stream

EMULATIONS: dict[str, type[Emulation]] = {
    "flow": FlowEmulation,
    "gan": AdversarialEmulation,
    "energy": ScoredEmulation,
}
"""Ways to learn an emulator, by name."""

FEWEST = 20
"""Simulations without which nothing is learned."""


def learned(
    simulator: Simulator,
    emulation: Emulation,
    theta: Tensor,
    x: Tensor,
    held_out: float,
    seed: int,
    device: str,
    progress: bool,
) -> Emulator:
    r"""The emulator that simulations give, failed rows left out.

    Args:
        simulator: What was simulated.
        emulation: How to learn.
        theta: Parameters with shape (n, d).
        x: Simulations with shape (n, \*event_shape), failed ones NaN.
        held_out: Share to choose by, and as many again for the check.
        seed: Root of all random numbers.
        device: Where to train.
        progress: Whether to show progress.

    Raises:
        ValueError: If too few simulations did not fail.
    """
    spent = len(x)
    usable = torch.isfinite(x.reshape(spent, -1)).all(1)
    theta, x = theta[usable], x[usable]
    if len(x) < FEWEST:
        raise ValueError(f"budget: expected at least {FEWEST} simulations that did not fail; got {len(x)} of {spent}")
    warnings = []
    if len(x) < spent:
        share = 1 - len(x) / spent
        warnings.append(
            f"{spent - len(x)} of {spent} simulations failed ({share:.1%}); what is emulated are the others"
        )
    whole = (x == x.round()).reshape(len(x), -1).all(0) & (x.reshape(len(x), -1) != x.reshape(len(x), -1)[0]).any(0)
    if bool(whole.any()):
        warnings.append(
            f"{int(whole.sum())} of {len(whole)} entries of x are whole numbers; emulated ones are spread over the "
            "unit interval around them"
        )
    order = torch.randperm(len(x), generator=Stream.of(seed, role="split").torch())
    theta, x = theta[order], x[order]
    aside = min(math.ceil(held_out * len(x)), 5000)
    parts = [slice(2 * aside, None), slice(aside, 2 * aside), slice(0, aside)]
    smooth = spread_out(x, whole if bool(whole.any()) else None, Stream.of(seed, 2, "split").torch())
    frame = Frame.fit(simulator, theta[parts[0]], smooth[parts[0]]).to(device)
    place = torch.device(device)
    sets = []
    for part in parts[:2]:
        c = frame.conditions(theta[part].to(place))
        sets += [frame.free(smooth[part].to(place), c), c]
    network = emulation.network(sets[0].shape[1], simulator.dim, seed).to(place)
    kept, figures = emulation.train(network, Rows(*sets), seed=seed, progress=progress)
    return made_of(
        simulator,
        frame,
        kept,
        method=emulation.name,
        region=torch.stack((theta.amin(0), theta.amax(0))),
        simulations=spent,
        held_out=(theta[parts[2]], x[parts[2]]),
        whole=whole if bool(whole.any()) else None,
        figures={name: value for name, value in figures.items() if name != "warnings"},
        warnings=warnings + figures["warnings"],
    )


def resolve_emulation(method: str | Emulation | type[Emulation]) -> Emulation:
    """A way to learn from its name, its class, or as it is.

    Raises:
        ValueError: If there is none of that name.
        TypeError: If ``method`` is neither.
    """
    if isinstance(method, str):
        method = find(method, EMULATIONS, "method")
    if isinstance(method, type) and issubclass(method, Emulation):
        method = method()
    if not isinstance(method, Emulation):
        raise TypeError(f"method: expected a name or a FlowEmulation(...) or such; got {type(method).__name__}")
    return method
