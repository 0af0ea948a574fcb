r"""Simulations of which some values are not seen, as the data will be: values beside a mask, so that nothing is NaN.

.. math:: x' = (\text{where seen } x \text{ else a constant}, \; \text{seen}), \qquad \text{seen} \in \{0, 1\}

A network that is trained on simulations with holes learns the posterior given what was seen. Which constant fills the
holes matters little beside the mask, which Wang et al. find the most robust way to tell a network; the middle of the
simulations keeps the column's scale. Where values are missing at random, the mask tells nothing of theta and the
posterior is :math:`p(\theta \mid x_\text{seen})`; where whether a value is missing depends on the value, say how, and
the posterior takes that into account.

NaN keeps its meaning in simulations: one that failed. Only in an observation does it mean a value that is missing.

References:
    | Missing data in amortized simulation-based neural posterior estimation (Wang, Hasenauer & Schälte, 2024)
    | https://doi.org/10.1371/journal.pcbi.1012184
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.code import fingerprint
from implicit_simulators.streams import Stream

PILOT = 200
"""Draws of the prior that the middle of the simulations is found by."""

Mechanism = Callable[[Tensor, torch.Generator], Any]
r"""Which values of x (n, \*event_shape) are missing, given x and a generator: True where they are."""


class Missing(Simulator):
    r"""Hides values of ``simulator``'s x, and takes observations that hold NaN.

    x has shape (\*event_shape of the simulator, 2): the value, and 1 where it was seen or 0 where it is missing.

    Args:
        simulator: What draws the whole x.
        missing: Which values are missing: the probability of each, by itself; a pair (low, high), between which the
            probability is drawn anew for every simulation; patterns with shape event_shape or (k, \*event_shape), True
            where missing, one of which is chosen for every simulation, such as ``torch.isnan(observed)``; or a function
            (x, generator) -> patterns (n, \*event_shape), which may depend on the values.
        fill: What stands in for a missing value, a number or an array of shape event_shape. If None, the median of each
            entry over 200 simulations from the prior, made here, as a trial run that no budget counts.

    Raises:
        TypeError: If ``simulator`` is no simulator.
        ValueError: If a probability, a pattern or ``fill`` does not fit, or no simulation of the trial run was finite.

    Example:
        >>> from implicit_simulators.benchmark import GaussianLinear
        >>> simulator = Missing(GaussianLinear(2), 0.5, fill=0.0)
        >>> simulator.encode([0.3, float("nan")])
        tensor([[0.3000, 1.0000],
                [0.0000, 0.0000]])
    """

    def __init__(self, simulator: Simulator, missing: Any = (0.0, 0.5), fill: Any = None) -> None:
        if not isinstance(simulator, Simulator):
            raise TypeError(f"simulator: expected a Simulator; got {type(simulator).__name__}")
        self.simulator = simulator
        self.name = f"missing-{simulator.name}"
        self.parameter_names, self.prior = simulator.parameter_names, simulator.prior
        self.differentiable, self.releases_gil = simulator.differentiable, simulator.releases_gil
        self.reference_theta, self.block = simulator.reference_theta, simulator.block
        self.event_shape = torch.Size((*simulator.event_shape, 2))
        self.missing, self._kind = self._mechanism(missing)
        self.fill = self._middle() if fill is None else self._filling(fill)

    def _mechanism(self, missing: Any) -> tuple[Any, str]:
        """What ``missing`` says, and how it is to be read: "share", "patterns" or "function"."""
        inner = self.simulator.event_shape
        if callable(missing) and not isinstance(missing, Tensor):
            return missing, "function"
        if isinstance(missing, (int, float)) and not isinstance(missing, bool):
            missing = (missing, missing)
        # a list of bools is a pattern
        numbers = isinstance(missing, (tuple, list)) and all(type(entry) in (int, float) for entry in missing)
        if numbers and len(missing) == 2:
            low, high = map(float, missing)
            if not 0 <= low <= high <= 1 or low == 1:
                raise ValueError(f"missing: expected probabilities 0 <= low <= high <= 1, low < 1; got {missing}")
            return (low, high), "share"
        patterns = as_tensor(missing, "missing") > 0.5
        if patterns.shape == inner:
            patterns = patterns[None]
        if patterns.shape[1:] != inner or not len(patterns):
            expected = ", ".join(map(str, ("k", *inner)))
            raise ValueError(f"missing: expected patterns of shape ({expected}); got {tuple(patterns.shape)}")
        return patterns, "patterns"

    def _filling(self, fill: Any) -> Tensor:
        fill = as_tensor(fill, "fill")
        if fill.shape not in (torch.Size(), self.simulator.event_shape) or not torch.isfinite(fill).all():
            expected = tuple(self.simulator.event_shape)
            raise ValueError(f"fill: expected a finite number or an array of shape {expected}; got {fill}")
        return fill.expand(self.simulator.event_shape).clone()

    def _middle(self) -> Tensor:
        with torch.no_grad():
            x = self.simulator.simulate(self.simulator.sample_prior(PILOT, seed=0), seed=0)
        whole = x[torch.isfinite(x).reshape(len(x), -1).all(1)]
        if not len(whole):
            raise ValueError(f"fill: none of {PILOT} simulations was finite; give what stands in for missing values")
        return whole.median(0).values

    def prepare(self) -> float:
        """Prepare the simulator; the seconds that took."""
        return self.simulator.prepare()

    def settings(self) -> dict[str, Any]:
        """What is missing, what stands in for it, and what is drawn."""
        said: Any = self.missing
        if self._kind == "patterns":
            said = hashlib.sha256(self.missing.cpu().numpy().tobytes()).hexdigest()
        elif self._kind == "function":
            said = fingerprint(self.missing)
        fill = hashlib.sha256(self.fill.float().cpu().numpy().tobytes()).hexdigest()
        return {
            "simulator": self.simulator.name,
            self._kind: list(said) if isinstance(said, tuple) else said,
            "fill": fill,
            "settings": self.simulator.settings(),
        }

    def simulate_block(self, theta: Tensor, seed: int, block: int) -> Tensor:
        """The simulator's own block at this seed, with values hidden."""
        x = self.simulator.simulate_block(theta, seed, block)
        hidden = self._hidden(x, Stream.of(seed, block, "observe").torch(x.device))
        return self._marked(x, ~hidden)

    def _hidden(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Which values of x (n, *event_shape) are missing."""
        if self._kind == "function":
            hidden = self.missing(x.detach(), generator)
            hidden = (hidden if isinstance(hidden, Tensor) else as_tensor(hidden, "outcome of missing")).to(x.device)
            if hidden.shape != x.shape:
                raise ValueError(f"missing: expected patterns of shape {tuple(x.shape)}; got {tuple(hidden.shape)}")
            return hidden > 0.5
        if self._kind == "patterns":
            chance = torch.rand(len(x), generator=generator, device=x.device)
            return self.missing.to(x.device)[(chance * len(self.missing)).long().clamp(max=len(self.missing) - 1)]
        low, high = self.missing
        chance = torch.rand((len(x), 1 + x[0].numel() if len(x) else 1), generator=generator, device=x.device)
        share = low + (high - low) * chance[:, :1]
        return (chance[:, 1:] < share).reshape(x.shape)

    def _marked(self, x: Tensor, seen: Tensor) -> Tensor:
        failed = ~torch.isfinite(x)
        # a simulation that failed stays failed, whether or not what it lacks would have been seen
        kept = torch.where(seen | failed, x, self.fill.to(x))
        return torch.stack((kept, seen.to(x)), -1)

    def encode(self, x: Any) -> Tensor:
        r"""An observation with shape (\*event_shape of the simulator), NaN where a value is missing, as one x.

        Raises:
            ValueError: If it has another shape, or holds infinity.
        """
        x = as_tensor(x, "observed")
        inner = self.simulator.event_shape
        if x.shape == (1, *inner):
            x = x[0]
        if x.shape != inner or torch.isinf(x).any():
            raise ValueError(
                f"observed: expected shape {tuple(inner)}, finite or NaN where missing; got {tuple(x.shape)}"
                + (" with infinity" if x.shape == inner else "")
            )
        seen = ~torch.isnan(x)
        return self._marked(torch.where(seen, x, self.fill.to(x)), seen)

    def check_observation(self, x: Any) -> Tensor:
        """The observation as one x: one with NaN, or with nothing missing, is encoded; an encoded x stays as it is."""
        x = as_tensor(x, "observed")
        if x.shape in (self.event_shape, (1, *self.event_shape)):
            return super().check_observation(x)
        return super().check_observation(self.encode(x))

    def summarize(self, x: Tensor) -> Tensor:
        """The simulator's summaries of the filled x, and which of its values were seen."""
        return torch.cat((self.simulator.summarize(x[..., 0]), x[..., 1].reshape(len(x), -1)), 1)
