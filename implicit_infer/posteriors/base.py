"""What every posterior is, whoever made it: draws given an observation, and a density where there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_simulators import Seed, Simulator, Stream
from implicit_simulators.base import as_tensor

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Posterior:
    """Draws theta given x. A child writes ``_sample`` and, where it has a density, ``_log_prob`` or ``_potential``.

    The signatures are those that sbi's diagnostics call, so that ``sbi.diagnostics.run_sbc`` and ``run_tarp`` take any
    of our posteriors as they are.

    :meth:`save` writes what a posterior holds (``_state``, all its attributes): tensors, modules, dataclasses and plain
    data. A child that holds something else leaves it out in ``_state`` and makes it anew in ``_of_state``.

    Args:
        simulator: The simulator that was asked about.
        observed: The observation that is meant when ``x`` is not given, with shape ``simulator.event_shape``.
        method: Name of the method that made it.
        simulations: Simulations spent, failed ones included.
        figures: What the method says of its own run (losses, acceptance, effective sample size, ...): JSON-able.
        warnings: Sentences that a user should read.
    """

    def __init__(
        self,
        simulator: Simulator,
        observed: Tensor,
        *,
        method: str,
        simulations: int,
        figures: dict[str, Any] | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        self.simulator = simulator
        self.observed = observed
        self.method = method
        self.simulations = simulations
        self.figures = dict(figures or {})
        self.warnings = list(warnings or [])

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of theta's columns."""
        return self.simulator.parameter_names

    def sample(
        self,
        sample_shape: tuple[int, ...] | torch.Size = (),
        x: Any = None,
        show_progress_bars: bool = False,
        *,
        seed: Seed = None,
    ) -> Tensor:
        r"""Draw from the posterior at one observation.

        Args:
            sample_shape: How many draws, as a shape.
            x: One observation, with shape ``event_shape`` or (1, \*event_shape); the one that was asked about if None.
            show_progress_bars: Whether long sampling shows its progress.
            seed: An int, a ``torch.Generator`` or None.

        Returns:
            Draws with shape (\*sample_shape, d), on the CPU.

        Raises:
            ValueError: If ``x`` has another shape or is not finite.
        """
        shape = torch.Size(sample_shape)
        x = self.observed if x is None else self.simulator.check_observation(x)
        draws = self._sample(shape.numel(), x[None], Stream.of(seed, role="sample"), show_progress_bars)
        return draws[:, 0].reshape(*shape, -1)

    def sample_batched(
        self,
        sample_shape: tuple[int, ...] | torch.Size,
        x: Any,
        show_progress_bars: bool = False,
        *,
        seed: Seed = None,
    ) -> Tensor:
        r"""Draw at B observations at once: x of shape (B, \*event_shape) gives (\*sample_shape, B, d)."""
        shape = torch.Size(sample_shape)
        x = as_tensor(x, "x")
        if x.shape[1:] != self.simulator.event_shape:
            expected = ("B", *self.simulator.event_shape)
            raise ValueError(f"x: expected shape ({', '.join(map(str, expected))}); got {tuple(x.shape)}")
        draws = self._sample(shape.numel(), x, Stream.of(seed, role="sample"), show_progress_bars)
        return draws.reshape(*shape, len(x), -1)

    def log_prob(self, theta: Any, x: Any = None) -> Tensor:
        """Log posterior density at theta of shape (n, d), with shape (n,).

        Raises:
            NotImplementedError: If the method has draws but no density (ABC, GATSBI), or no normalised one (NRE: see
                ``potential``).
        """
        theta, x = self._arguments(theta, x)
        return self._log_prob(theta, x)

    def potential(self, theta: Any, x: Any = None) -> Tensor:
        """Log posterior density up to a constant in theta, with shape (n,) for theta (n, d), or () for theta (d,).

        Raises:
            NotImplementedError: If the method has no density at all.
        """
        single = as_tensor(theta, "theta").ndim == 1
        theta, x = self._arguments(theta, x)
        value = self._potential(theta, x)
        return value[0] if single else value

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one safetensors file, without pickle: ``ii.load_posterior(path, simulator)`` reads it.

        Raises:
            TypeError: If it holds what cannot be written so, such as a network of sbi's.
        """
        from implicit_infer.posteriors.saving import save_posterior

        save_posterior(self, path)

    def to_xarray(self, draws: int = 1000, chains: int = 1, seed: Seed = 0, x: Any = None) -> xr.DataTree:
        """Draws with names, as ArviZ reads them; see :func:`implicit_infer.posteriors.labelled.labelled`."""
        from implicit_infer.posteriors.labelled import labelled

        return labelled(self, draws, chains, seed, x)

    def summary(self, draws: int = 4000, seed: Seed = 0, x: Any = None) -> pd.DataFrame:
        """Mean, standard deviation and quantiles; see :func:`implicit_infer.posteriors.labelled.summarised`."""
        from implicit_infer.posteriors.labelled import summarised

        return summarised(self, draws, seed, x)

    def map(self, x: Any = None, *, seed: Seed = 0) -> Tensor:
        """Where the density is highest, with shape (d,); see :func:`implicit_infer.posteriors.mode.highest`."""
        from implicit_infer.posteriors.mode import highest

        return highest(self, x, seed)

    def plot(self, path: str | os.PathLike[str], draws: int = 4000, seed: Seed = 0, x: Any = None) -> Path:
        """Marginals and pairs as a picture; see :func:`implicit_infer.posteriors.picture.draw_pairs`."""
        from implicit_infer.posteriors.picture import draw_pairs

        return draw_pairs(self, path, draws, seed, x)

    def _state(self) -> dict[str, Any]:
        """What is saved, by attribute."""
        return dict(vars(self))

    def _of_state(self, state: dict[str, Any]) -> None:
        """Take what was saved; nothing else has been called on the object."""
        vars(self).update(state)

    def _arguments(self, theta: Any, x: Any) -> tuple[Tensor, Tensor]:
        theta = as_tensor(theta, "theta")
        theta = self.simulator.check_theta(theta[None] if theta.ndim == 1 else theta)
        return theta, self.observed if x is None else self.simulator.check_observation(x)

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        r"""N draws at each of B observations (B, \*event_shape), with shape (n, B, d)."""
        raise NotImplementedError(f"{type(self).__name__} must write _sample")

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError(f"a {self.method} posterior has draws but no normalised density")

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._log_prob(theta, x)

    def __repr__(self) -> str:
        return (
            f"<{self.method} posterior of {self.simulator!r}: d = {self.simulator.dim}, {self.simulations} simulations>"
        )
