"""A simulator that was learned from another one: differentiable in its parameters, and as good as its check says."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks import storage
from implicit_infer.fitting.emulators.check import EmulatorCheck, check_pairs
from implicit_infer.fitting.emulators.frame import Frame
from implicit_infer.fitting.emulators.network import rebuild
from implicit_simulators import Seed, Simulator, Stream, resolve_seed
from implicit_simulators.engines.noise import row_normal

KIND = "emulator"


class Emulator(Simulator):
    r"""A differentiable approximation of a simulator, with its prior, names and shapes: what ``ii.emulate`` gives.

    .. math:: x = T(g_\phi(z, c(\theta)), c(\theta)), \quad z \sim N(0, I)

    with the maps c and T of :class:`~implicit_infer.fitting.emulators.frame.Frame`. With one seed, x is a smooth
    function of theta. Outside of the region that it learned from it goes on as its network happens to; ``inside`` says
    where that is.

    Args:
        parent: The simulator that it stands in for.
        frame: The units.
        network: Noise and conditions to v.
        method: Name of the way it was learned.
        region: The lowest and highest parameters that it learned from, with shape (2, d).
        simulations: Simulations spent, failed ones included.
        held_out: Parameters and simulations that it has not seen, for its check; None for none.
        whole: Which entries of x were whole numbers, with shape (k,) and dtype bool: draws are spread over the unit
            interval around them.
        figures: What training says of itself: JSON-able.
        warnings: Sentences that a user should read.
    """

    differentiable = True

    def __init__(
        self,
        parent: Simulator,
        frame: Frame,
        network: nn.Module,
        *,
        method: str,
        region: Tensor,
        simulations: int,
        held_out: tuple[Tensor, Tensor] | None = None,
        whole: Tensor | None = None,
        figures: dict[str, Any] | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        self.parent = parent
        self.name = f"emulated-{parent.name}"
        self.parameter_names = parent.parameter_names
        self.event_shape = parent.event_shape
        self.prior = parent.prior
        self.reference_theta = parent.reference_theta
        self.block = parent.block
        self.points = parent.points
        self.observations = parent.observations  # type: ignore[misc]  # a class constant of what is emulated
        self.frame = frame.cpu().eval().requires_grad_(False)
        self.network = network.cpu().eval().requires_grad_(False)
        self.method, self.region, self.simulations = method, region.cpu(), simulations
        self.held_out, self.whole = held_out, whole
        self.figures, self.warnings = dict(figures or {}), list(warnings or [])
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Frame, Any]] = {}

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        frame, network = self.parts(theta)
        c = frame.conditions(theta)
        shape = (len(theta), *network.latent_shape)
        z = row_normal(shape, stream.torch(theta.device), theta.dtype)
        return frame.place(network(z, c), c)

    def parts(self, like: Tensor) -> tuple[Frame, Any]:
        """The frame and the network in the dtype and on the device of ``like``."""
        at = (like.dtype, like.device)
        if at not in self._copies:
            self._copies[at] = (copy.deepcopy(self.frame).to(*at[::-1]), copy.deepcopy(self.network).to(*at[::-1]))
        return self._copies[at]

    def summarize(self, x: Tensor) -> Tensor:
        """The parent's summary statistics."""
        return self.parent.summarize(x)

    def _observation(self, name: str) -> Tensor:
        return self.parent.observation(name)

    def settings(self) -> dict[str, Any]:
        """What it was learned from, and how."""
        return {
            "parent": self.parent.name,
            "parent_settings": json.loads(json.dumps(self.parent.settings(), default=repr)),
            "method": self.method,
            "simulations": self.simulations,
        }

    def inside(self, theta: Any) -> Tensor:
        """Which rows of theta, with shape (n, d), lie in the box that it learned from; with shape (n,), dtype bool."""
        theta = self.check_theta(theta)
        low, high = self.region.to(theta)
        return ((theta >= low) & (theta <= high)).all(1)

    def check(self, simulations: int | None = None, *, seed: Seed = 0, permutations: int = 999) -> EmulatorCheck:
        """How far to trust it: whether a critic tells its draws from simulations that it has not seen.

        Args:
            simulations: Fresh simulations of the parent to check with, in the box that it learned from; None for those
                that were set aside, which cost nothing.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.
            permutations: Of the test; the p-value is at least 1 / (permutations + 1).

        Returns:
            What came of it; ``str`` gives it in a sentence.

        Raises:
            ValueError: If there are fewer than 40 simulations that did not fail.
        """
        seed = resolve_seed(seed)
        if simulations is not None:
            low, high = self.region
            generator = Stream.of(seed, role="prior").torch()
            theta = low + (high - low) * torch.rand((simulations, self.dim), generator=generator)
            x = self.parent.simulate(theta, seed)
        elif self.held_out is not None:
            theta, x = self.held_out
        else:
            raise ValueError("simulations: none were set aside; expected how many fresh ones may be spent; got None")
        usable = torch.isfinite(x.reshape(len(x), -1)).all(1)
        theta, x = theta[usable], spread_out(x[usable], self.whole, Stream.of(seed, role="split").torch())
        made = self.simulate(theta, Stream.of(seed, role="sample").key)
        c = self.frame.conditions(theta)
        sides = [self.frame.free(side, c) for side in (x, made)]
        spread = self.frame.spread.square().sum(1).sqrt()
        residuals = [self.frame.residuals(side, c) / spread for side in (x, made)]
        return check_pairs(c, *sides, *residuals, seed=seed, permutations=permutations)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one safetensors file, without the parent, which :meth:`load` must be given.

        Args:
            path: File to write; its folder must exist.
        """
        parts = {"frame": self.frame.state_dict(), "network": self.network.state_dict()}
        rest = {"region": self.region}
        if self.held_out is not None:
            rest |= {"theta": self.held_out[0], "x": self.held_out[1]}
        if self.whole is not None:
            rest["whole"] = self.whole
        config = {
            "settings": self.settings(),
            "parameter_names": list(self.parameter_names),
            "event_shape": list(self.event_shape),
            "squash": self.frame.squash,
            "network": self.network.config,
            "figures": self.figures,
            "warnings": self.warnings,
        }
        storage.save(path, KIND, storage.joined(parts | {"rest": rest}), config)

    @classmethod
    def load(cls, path: str | os.PathLike[str], parent: Simulator) -> Emulator:
        """Read what :meth:`save` wrote.

        Args:
            path: The file.
            parent: The simulator that was emulated.

        Returns:
            The emulator, with a density where it had one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds something else, or an emulator of another simulator.
        """
        tensors, config = storage.load(path, KIND)
        parts = storage.parted(tensors)
        theirs = {"name": config["settings"]["parent"], "settings": config["settings"]["parent_settings"]}
        theirs |= {"parameters": config["parameter_names"], "event_shape": config["event_shape"]}
        ours = {"name": parent.name, "settings": json.loads(json.dumps(parent.settings(), default=repr))}
        ours |= {"parameters": list(parent.parameter_names), "event_shape": list(parent.event_shape)}
        for key, value in ours.items():
            if theirs[key] != value:
                raise ValueError(f"parent: the file is of a simulator with {key} {theirs[key]!r}; got {value!r}")
        network = rebuild(config["network"])
        network.load_state_dict(parts["network"])
        rest = parts["rest"]
        return made_of(
            parent,
            Frame(parent, parts["frame"], config["squash"]),
            network,
            method=config["settings"]["method"],
            region=rest["region"],
            simulations=config["settings"]["simulations"],
            held_out=(rest["theta"], rest["x"]) if "theta" in rest else None,
            whole=rest.get("whole"),
            figures=config["figures"],
            warnings=config["warnings"],
        )


class FlowEmulator(Emulator):
    """An emulator whose law has a density."""

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log-density of x given theta under the emulator, in nats, differentiable in both.

        .. math:: \log q(x \mid \theta) = \log q(v \mid c) + \log \left| \det \frac{\partial v}{\partial x} \right|

        Args:
            theta: Parameters with shape (n, d).
            x: Simulations or data with shape event_shape or (n, \*event_shape).

        Returns:
            Log-densities with shape (n,).
        """
        theta = self.check_theta(theta)
        x = x.to(theta).expand(len(theta), *self.event_shape)
        frame, network = self.parts(theta)
        c = frame.conditions(theta)
        density: Tensor = network.log_prob(frame.free(x, c), c) + frame.log_det(x)
        return density


def made_of(parent: Simulator, frame: Frame, network: nn.Module, **about: Any) -> Emulator:
    """The emulator of a network: with a density, if the network has one."""
    kind = FlowEmulator if hasattr(network, "log_prob") else Emulator
    return kind(parent, frame, network, **about)


def spread_out(x: Tensor, whole: Tensor | None, random: torch.Generator) -> Tensor:
    """Entries that are whole numbers, spread evenly over the unit interval around each: a law with a density."""
    if whole is None:
        return x
    noise = torch.rand(x.shape, generator=random, device=x.device, dtype=x.dtype) - 0.5
    return torch.where(whole.to(x.device).reshape(x.shape[1:]), x + noise, x)
