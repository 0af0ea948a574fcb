r"""Mixtures of two normals against their mirror image, far apart: the test of conditional probability paths.

With components at :math:`(m \pm k \sigma / 2) \mathbf 1`, m = -2 for p and 2 for q, and covariance
:math:`\sigma^2 I`, :math:`\sigma^2 = 4 / (4 + k^2)`, everything happens along :math:`\mathbf 1 / \sqrt d`: the ratio is
that of two mixtures on a line, and so is its KL divergence, which the trapezoid rule gives to rounding.

References:
    | Density Ratio Estimation with Conditional Probability Paths (Yu, Klami, Hyvarinen, Korba and Chehab, 2025)
    | https://arxiv.org/abs/2502.02300
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.problems.problem import Draw, Problem


def mixtures(dimension: int, k: float) -> Problem:
    """The mixtures in ``dimension`` columns, whose components lie k standard deviations apart in each."""
    sd = math.sqrt(4 / (4 + k**2))
    root = math.sqrt(dimension)
    places = {m: torch.tensor([m - k * sd / 2, m + k * sd / 2], dtype=torch.float64) for m in (-2, 2)}

    def along(t: Tensor) -> Tensor:
        """The log-ratio at points with coordinate t along the diagonal."""
        logs = [torch.logsumexp(-0.5 * ((t[:, None] - root * places[m].to(t)) / sd) ** 2, 1) for m in (-2, 2)]
        return logs[0] - logs[1]

    def draws(m: int) -> Draw:
        def draw(n: int, generator: torch.Generator) -> Tensor:
            which = torch.randint(2, (n, 1), generator=generator)
            return places[m][which] + sd * torch.randn(n, dimension, generator=generator, dtype=torch.float64)

        return draw

    t = torch.linspace(root * (-2 - k) - 12 * sd, root * (-2 + k) + 12 * sd, 100_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((t[:, None] - root * places[-2]) / sd) ** 2).mean(1) / (sd * math.sqrt(2 * math.pi))
    return Problem(
        f"mixtures-{dimension}",
        dimension,
        float(torch.trapezoid(density * along(t), t)),
        f"two normals {k:g} standard deviations apart in each of {dimension} columns against their mirror image",
        "Yu, Klami, Hyvarinen, Korba and Chehab 2025",
        draws(-2),
        draws(2),
        lambda x: along(x.sum(1) / root),
    )


MIXTURES: tuple[Problem, ...] = (mixtures(20, 1.0),)
