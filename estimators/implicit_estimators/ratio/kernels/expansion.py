r"""What the kernel ratios share: centres, bandwidths, and a sum of Gaussians whose log is exact however far out.

.. math:: g(x) = \sum_l \theta_l \exp\left(-\frac{\|x - c_l\|^2}{2 \sigma^2}\right), \quad \theta_l \ge 0

Far from all centres, g is 0 in any floating-point format. Its log is not: with coefficients that are not negative,
:math:`\log g` is a log-sum-exp, which far out follows the nearest centre's parabola.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.inputs import as_samples
from implicit_estimators.kernels import median_distance, squared_distances
from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.seeds import stream

FACTORS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Bandwidths tried, in units of the median distances."""
ROWS = 1024
"""Rows whose kernel values are held at a time."""
LARGEST = 1e30
"""Log-ratios are cut off here, so that they fit float32."""
NARROWEST = 1e-8
"""The narrowest bandwidth, in units of the median distance: below, distances are rounding errors."""


@dataclass(frozen=True)
class Expansion:
    """A sum of Gaussians with coefficients that are not negative.

    Attributes:
        centres: Where they lie, with shape (b, d), in float64.
        log_weights: Logs of the coefficients, with shape (b,).
        bandwidth: Their common standard deviation.
    """

    centres: Tensor
    log_weights: Tensor
    bandwidth: float

    @classmethod
    def of_weights(cls, centres: Tensor, weights: Tensor, bandwidth: float) -> Expansion:
        """From coefficients, of which those that are not positive are dropped; at least one must be."""
        kept = weights > 0
        return cls(centres[kept], weights[kept].log(), bandwidth)

    def log(self, x: Tensor) -> Tensor:
        """Log of the sum at x of shape (n, d), in float64, with shape (n,)."""
        exponent = -0.5 / self.bandwidth**2
        return torch.cat(
            [
                torch.logsumexp(squared_distances(rows, self.centres) * exponent + self.log_weights, 1)
                for rows in x.split(ROWS)
            ]
        )


def gaussians(x: Tensor, centres: Tensor, bandwidth: float) -> Tensor:
    """Values of the Gaussians at ``centres``, with shape (n, b); those below 1e-147 are 0.

    Smaller ones would be lost in sums of squares anyway, and numbers near the end of the format are slow.
    """
    exponents = squared_distances(x, centres).mul_(-0.5 / bandwidth**2)
    return exponents.masked_fill_(exponents < -340, -torch.inf).exp_()


def in_blocks(x: Tensor, centres: Tensor, bandwidth: float) -> Iterator[Tensor]:
    """:func:`gaussians` at ``ROWS`` rows of x at a time."""
    return (gaussians(rows, centres, bandwidth) for rows in x.split(ROWS))


def default_bandwidths(p: Tensor, q: Tensor, seed: int) -> tuple[float, ...]:
    """``FACTORS`` times the median distance within p and q together.

    Where p is much narrower than q, its own median distance is the scale on which the ratio varies, and its multiples
    are tried as well.

    Args:
        p: Samples of the numerator, with shape (n, d).
        q: Samples of the denominator, with shape (m, d).
        seed: Seed of the subsample whose distances are taken.

    Returns:
        Bandwidths in ascending order.
    """
    together = median_distance(p, q, seed)
    within = median_distance(p, p[:0], seed) if len(p) > 1 else together
    scales = (together,) if within > 0.5 * together else (within, together)
    return tuple(sorted({max(scale * factor, NARROWEST * together) for scale in scales for factor in FACTORS}))


def log_loss(log_ratio_p: Tensor, log_ratio_q: Tensor) -> Tensor:
    """Mean log loss of the classifier whose logit is the log-ratio, p and q weighing the same, over the last axis."""
    return 0.5 * (softplus(-log_ratio_p).mean(-1) + softplus(log_ratio_q).mean(-1))


def positive(values: Sequence[float] | None, name: str) -> tuple[float, ...] | None:
    """``values`` as a tuple of positive numbers, or None where they are to be found.

    Raises:
        ValueError: If there are none, or one is not positive and finite.
    """
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    if not numbers or not all(0 < value < math.inf for value in numbers):
        raise ValueError(f"{name}: expected positive numbers; got {values!r}")
    return numbers


class KernelRatio(RatioEstimator):
    r"""A ratio that is a sum of Gaussians, with one bandwidth that samples choose.

    A child writes ``_fit``, and ``_of_log_sum`` where the sum is not the ratio itself.

    Attributes:
        bandwidth: The bandwidth that was chosen, in standardised units.
    """

    bandwidth: float
    centres: int | list[list[float]]
    standardise: bool
    folds: int

    def _check_settings(self, centres: Any, folds: int) -> None:
        if not isinstance(centres, int):
            centres = as_samples(centres, "centres", rows=1).tolist()
        elif centres < 1:
            raise ValueError(f"centres: expected at least 1; got {centres}")
        if folds < 2:
            raise ValueError(f"folds: expected at least 2; got {folds}")
        self.centres, self.folds = centres, folds

    def _standardiser_of(self, p: Tensor, q: Tensor) -> Standardiser:
        if self.standardise:
            return Standardiser.fit(p, q)
        width = p.shape[1]
        return Standardiser(p.new_zeros(width), p.new_ones(width))

    def _draw_centres(self, p: Tensor, q: Tensor, seed: int) -> Tensor:
        """Rows of p, drawn without return; or those that were asked for."""
        if not isinstance(self.centres, int):
            given = torch.tensor(self.centres, dtype=torch.float64, device=p.device)
            if given.shape[1] != p.shape[1]:
                raise ValueError(f"centres: expected {p.shape[1]} columns; got {given.shape[1]}")
            return self._standardiser(given)
        draw = stream(seed, "subsample")
        return p[torch.randperm(len(p), generator=draw)[: self.centres].to(p.device)]

    def _log_ratio(self, x: Tensor) -> Tensor:
        z = self._standardiser(x.to(self._expansion.centres.device, torch.float64))
        return self._of_log_sum(self._expansion.log(z)).clamp(-LARGEST, LARGEST).float().to(x.device)

    def _of_log_sum(self, log_sum: Tensor) -> Tensor:
        """The log-ratio where the log of the sum is ``log_sum``."""
        return log_sum

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {
            "centres": self._expansion.centres,
            "log_weights": self._expansion.log_weights,
            "location": self._standardiser.location,
            "scale": self._standardiser.scale,
        }
        return tensors, {"bandwidth": self.bandwidth}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._standardiser = Standardiser(tensors["location"], tensors["scale"])
        self.bandwidth = rest["bandwidth"]
        self._expansion = Expansion(tensors["centres"], tensors["log_weights"], self.bandwidth)
