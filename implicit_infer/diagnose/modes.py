r"""Which modes of a known mixture a model reaches, and how many of its draws lie in one: what collapse looks like.

A draw is *of high quality* if it lies within ``radius`` of the nearest mode (three standard deviations of the mixture's
components, as a rule), and a mode is *covered* if at least one such draw is nearest to it. Neither says whether the
modes are reached in the right shares; the reverse Kullback-Leibler divergence of the shares does,

.. math:: KL(\hat q \| w) = \sum_k \hat q_k \log \frac{\hat q_k}{w_k},

with :math:`\hat q_k` the share of mode k among the draws of high quality. It is finite where modes are missed, and n
draws of the truth itself give :math:`(K - 1) / 2n` on average. None of them sees the shape of a mode: a model that has
collapsed to one point in each of them is perfect by all three.

Of a normal component in two dimensions, :math:`1 - e^{-9/2} = 98.89\,\%` lies within three standard deviations: no
model of the mixture itself does better.

References:
    | VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017)
    | https://arxiv.org/abs/1705.07761
    | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018)
    | https://arxiv.org/abs/1712.04086
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import as_tensor


@dataclass(frozen=True)
class ModeCoverage:
    """What :func:`mode_coverage` found.

    Attributes:
        counts: Draws of high quality nearest to each mode, int64, with shape (K,).
        covered: Modes with at least one of them.
        high_quality: Share of all draws that are of high quality.
        reverse_kl: Divergence of the modes' shares from their weights, in nats; NaN if no draw is of high quality.
    """

    counts: Tensor
    covered: int
    high_quality: float
    reverse_kl: float


def mode_coverage(samples: Any, modes: Any, radius: float, weights: Any = None) -> ModeCoverage:
    """Hold draws of a model against the modes of the mixture that it was to learn; see the module.

    Args:
        samples: Draws with shape (n, d).
        modes: The modes with shape (K, d), farther apart than ``radius``.
        radius: Largest Euclidean distance from its mode of a draw of high quality, in the units of the samples.
        weights: Weights of the modes, with shape (K,), positive and of any sum; equal if None.

    Returns:
        The coverage. Draws that are not finite are of no mode.

    Raises:
        ValueError: If shapes disagree, there is no draw, two modes are one, or a number is not positive.
    """
    x, centres = as_tensor(samples, "samples").detach(), as_tensor(modes, "modes").detach()
    if x.ndim != 2 or centres.ndim != 2 or x.shape[1] != centres.shape[1] or not len(x) or not len(centres):
        shapes = f"{tuple(x.shape)} and {tuple(centres.shape)}"
        raise ValueError(f"samples, modes: expected shapes (n, d) and (K, d) with n, K > 0; got {shapes}")
    if not radius > 0:
        raise ValueError(f"radius: expected a positive number; got {radius}")
    gaps = torch.nn.functional.pdist(centres.double())
    if len(gaps) and not float(gaps.min()) > radius:  # the same mode twice: a circle that closes itself
        raise ValueError(f"modes: expected modes farther apart than the radius {radius}; got {float(gaps.min()):.3g}")
    share = _shares(weights, centres)
    # not by the matrix product: it cancels where modes are narrow and far from the origin
    distance = torch.cdist(x.double(), centres.to(x.device).double(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest, mode = distance.min(1)
    good = nearest <= radius
    counts = torch.bincount(mode[good], minlength=len(centres)).cpu()
    return ModeCoverage(counts, int((counts > 0).sum()), float(good.double().mean()), _reverse_kl(counts, share))


def _shares(weights: Any, centres: Tensor) -> Tensor:
    if weights is None:
        return torch.full((len(centres),), 1 / len(centres), dtype=torch.float64)
    given = as_tensor(weights, "weights").detach().cpu().double()
    if given.shape != (len(centres),) or not bool((given > 0).all()) or not bool(given.isfinite().all()):
        raise ValueError(f"weights: expected {len(centres)} positive numbers; got {given.tolist()}")
    return given / given.sum()


def _reverse_kl(counts: Tensor, weights: Tensor) -> float:
    q = counts.double() / counts.sum()
    return float((torch.xlogy(q, q) - torch.xlogy(q, weights)).sum())
