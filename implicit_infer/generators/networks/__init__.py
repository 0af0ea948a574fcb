"""Networks that draw, by name: each is an ``nn.Module`` called with noise, and with a condition where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from implicit_estimators.seeds import Seed
from implicit_infer.generators.networks.base import Generator
from implicit_infer.generators.networks.conv import ConvGenerator
from implicit_infer.generators.networks.flow import FlowGenerator
from implicit_infer.generators.networks.mlp import MLPGenerator
from implicit_infer.generators.networks.pyramid import DetailGenerator, PyramidGenerator

GENERATORS: dict[str, type[Generator]] = {
    "mlp": MLPGenerator,
    "flow": FlowGenerator,
    "conv": ConvGenerator,
    "pyramid": PyramidGenerator,
}
"""Every generator network there is, by name."""

__all__ = [
    "GENERATORS",
    "ConvGenerator",
    "DetailGenerator",
    "FlowGenerator",
    "Generator",
    "MLPGenerator",
    "PyramidGenerator",
    "make_generator",
    "rebuild",
]


def make_generator(
    name: str,
    event_shape: int | Sequence[int],
    latent: int | None = None,
    condition_width: int = 0,
    seed: Seed = None,
    **settings: Any,
) -> Generator:
    """A generator network by name.

    Args:
        name: A name in ``GENERATORS``.
        event_shape: Shape of one sample; an int d is (d,).
        latent: Width of the noise; 2 for the "mlp" and 64 for "conv" and "pyramid" if None. A flow's noise has the
            width of a sample, and no other.
        condition_width: Width of a condition; 0 for none.
        seed: Seed of the initial weights.
        settings: Whatever else the network's class takes.

    Returns:
        The network.

    Raises:
        ValueError: If there is none of that name, or a flow is to have another latent width than a sample has.
        TypeError: If the class does not know a setting.

    Example:
        >>> make_generator("mlp", 2, latent=3, seed=0, hidden=(16,)).sample(5, seed=0).shape
        torch.Size([5, 2])
    """
    if name not in GENERATORS:
        raise ValueError(f"generator: expected one of {', '.join(GENERATORS)}; got {name!r}")
    shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
    if name == "flow":
        made = FlowGenerator(shape, condition_width, seed=seed, **settings)
        if latent is not None and made.latent_shape != (latent,):
            raise ValueError(f"latent: expected {made.latent_shape[0]}, the entries of a sample, or None; got {latent}")
        return made
    latent = {"mlp": 2}.get(name, 64) if latent is None else latent
    kind: Any = GENERATORS[name]
    return kind(shape, latent, condition_width, seed=seed, **settings)


def rebuild(config: Mapping[str, Any]) -> Generator:
    """The network that a ``config`` describes, with fresh weights: load its ``state_dict`` next.

    Raises:
        ValueError: If there is none of its name.
        TypeError: If a setting is unknown.
    """
    known: dict[str, Any] = {**GENERATORS, DetailGenerator.name: DetailGenerator}
    settings = dict(config)
    name = settings.pop("name", None)
    if name not in known:
        raise ValueError(f"config: expected a name of {', '.join(known)}; got {name!r}")
    if settings.get("bounds") is not None:
        settings["bounds"] = tuple(settings["bounds"])
    return known[name](**settings)
