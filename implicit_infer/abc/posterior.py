"""Posteriors that are weighted particles, and the honest taking of draws from them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc.particles import Particles, repeated
from implicit_infer.posteriors.base import Posterior
from implicit_infer.progress import track
from implicit_simulators import Stream

logger = logging.getLogger(__name__)


class ParticlePosterior(Posterior):
    """Draws by systematic resampling of particles. A child writes ``particles(x, seed)``.

    There are never more distinct draws than particles. ``figures["draws"]`` and ``figures["distinct draws"]`` tell how
    many were taken last and how many of them differ, and a warning says so when some repeat.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._repeats = ""

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """The weighted particles for one observation with shape ``event_shape`` (None: the one asked about).

        Args:
            x: The observation.
            seed: Root of the random numbers, where finding the particles needs any.
        """
        raise NotImplementedError(f"{type(self).__name__} must write particles")

    def plot_run(self, path: str | os.PathLike[str]) -> Path:
        """How a run in generations went, as a picture; see :func:`implicit_infer.abc.picture.draw_run`."""
        from implicit_infer.abc.picture import draw_run

        return draw_run(self.figures, path)

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        generator = stream.torch()
        draws = x.new_empty((n, len(x), self.simulator.dim))
        with track(f"sampling {self.method}", total=len(x), show=progress) as bar:
            for i, one in enumerate(x):
                particles = self.particles(one, Stream.of(stream.key, i, "sample").key)
                draws[:, i], distinct = self._draw(n, particles, generator)
                self._tell(n, distinct, particles)
                bar.update()
        return draws

    def _draw(self, n: int, particles: Particles, generator: torch.Generator) -> tuple[Tensor, int]:
        """Draws (n, d) from particles, and how many of them differ; a child may draw otherwise."""
        picked = particles.pick(n, generator)
        return particles.theta[picked], len(picked.unique())

    def _tell(self, draws: int, distinct: int, particles: Particles) -> None:
        """Keep the newest word on repeated draws, in place of the one before."""
        self.figures.update({"draws": draws, "distinct draws": distinct})
        if self._repeats in self.warnings:
            self.warnings.remove(self._repeats)
        self._repeats = ""
        if distinct < draws:
            self._repeats = repeated(draws, distinct, particles)
            self.warnings.append(self._repeats)
            logger.info("%s: %s", self.method, self._repeats)
