"""The one face of every toy target: a distribution to be learned by a generator, with what is known of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import as_tensor
from implicit_simulators.streams import Seed, Stream


class Target:
    """A distribution in a few dimensions from which samples are drawn.

    To add a target, copy ``ring.py``: set ``name`` and ``dim``, write ``_sample(n, stream)``, and add ``modes``,
    ``scale`` and ``log_prob`` where there are any. All of these are checked for every target by the contract in
    ``tests/simulators/test_targets.py``.

    Attributes:
        name: Short name, used on the command line and in reports.
        dim: Numbers in one sample.
        scale: Standard deviation of a mode in each coordinate, or None where there are no modes.
    """

    name: str = "target"
    dim: int = 2
    scale: float | None = None

    @property
    def modes(self) -> Tensor:
        """The centres of the modes, with shape (k, dim); k is 0 where there are none."""
        return torch.zeros(0, self.dim)

    def sample(self, n: int, seed: Seed = None, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``n`` samples; the first are the same however many follow (on a CPU).

        Args:
            n: How many.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.
            device: Where to draw them.

        Returns:
            Samples with shape (n, dim), float32.

        Raises:
            ValueError: If ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"n: expected a non-negative int; got {n}")
        return self._sample(n, Stream.of(seed, role="sample"), torch.device(device))

    def _sample(self, n: int, stream: Stream, device: torch.device) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _sample(n, stream, device)")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density at ``x`` with shape (n, dim); result (n,).

        Raises:
            NotImplementedError: If the target has no density, as a point or a line in the plane has none.
        """
        raise NotImplementedError(f"{self.name} has no density")

    def quality(self, x: Any, within: float = 3.0) -> tuple[int, float]:
        """Modes that a generator's samples reach, and the part of the samples that are good.

        A sample is good if it lies within ``within`` standard deviations of the nearest mode, and a mode is reached if
        a good sample is nearest to it, as VEEGAN and PacGAN count. Of the target's own samples in two dimensions,
        98.9 % are good at 3, and 99.97 % at 4.

        Args:
            x: Samples with shape (n, dim).
            within: Distance, in standard deviations of a mode.

        Returns:
            The number of modes reached, and the part of good samples.

        Raises:
            ValueError: If the target has no modes, or ``x`` has another shape.

        References:
            | VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017)
            | https://arxiv.org/abs/1705.07761
            | PacGAN: the power of two samples in generative adversarial networks (Lin et al., 2018)
            | https://arxiv.org/abs/1712.04086
        """
        modes = self.modes
        if not len(modes) or self.scale is None:
            raise ValueError(f"quality: {self.name} has no modes of a known width")
        x = as_tensor(x, "x")
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x: expected shape (n, {self.dim}); got {tuple(x.shape)}")
        distance, nearest = torch.cdist(x.double(), modes.to(x.device).double()).min(1)
        good = distance <= within * self.scale
        return len(nearest[good].unique()), float(good.double().mean()) if len(x) else 0.0

    def settings(self) -> dict[str, Any]:
        """What else made the target what it is (JSON-able)."""
        return {}

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({settings})"
