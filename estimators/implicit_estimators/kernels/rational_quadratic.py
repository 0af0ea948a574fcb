r"""Rational quadratic kernels: Gaussians of all bandwidths at once, with tails that still pull from far away.

.. math:: k(x, y) = \frac{1}{A} \sum_a \left(1 + \frac{\|x - y\|^2}{2 \alpha_a \ell^2}\right)^{-\alpha_a}

Each is a mixture of Gaussian kernels whose inverse squared bandwidths are Gamma distributed with shape
:math:`\alpha` and mean :math:`1 / \ell^2`; with small :math:`\alpha` it decays so slowly that a model far from the
data has a gradient. Bińkowski et al. write the sum where this is the mean.

References:
    | Demystifying MMD GANs (Bińkowski, Sutherland, Arbel and Gretton, 2018)
    | https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.kernels.base import Compiled, Kernel, positive
from implicit_estimators.seeds import Seed, resolve_seed


@dataclass(frozen=True)
class RationalQuadratic(Kernel):
    r"""The mean of rational quadratic kernels.

    Args:
        alphas: :math:`\alpha_a`: how fast the tails decay.
        width: :math:`\ell`, in the units of the samples.

    Raises:
        ValueError: If one is not positive.

    Example:
        >>> import torch
        >>> RationalQuadratic((1.0,)).matrix(torch.zeros(1, 1), torch.ones(1, 1))  # 1 / (1 + 1/2)
        tensor([[0.6667]])
    """

    alphas: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)
    width: float = 1.0

    name: ClassVar[str] = "rational-quadratic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas", tuple(map(float, self.alphas)))
        positive(self.alphas, "alphas")
        positive((self.width,), "width")

    def of(self, argument: Tensor) -> Tensor:
        """The mean over alphas."""
        total = torch.zeros_like(argument)
        for alpha in self.alphas:
            total = total + torch.exp(-alpha * torch.log1p(argument / (2 * alpha * self.width**2)))
        return total / len(self.alphas)

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        r"""The mean, and the mean of :math:`(1 + s / 2 \alpha \ell^2)^{-\alpha - 1} / \ell^2`."""
        total, weight = torch.zeros_like(argument), torch.zeros_like(argument)
        for alpha in self.alphas:
            grown = argument / (2 * alpha * self.width**2)
            part = torch.exp(-alpha * torch.log1p(grown))
            total += part
            weight += part / (1 + grown)
        return total.div_(len(self.alphas)), weight.div_(len(self.alphas) * self.width**2)

    @property
    def compiled(self) -> Compiled:
        """Rows of (factor of the squared distance, alpha, weight of the slope)."""
        import numpy as np

        rows = [(1 / (2 * a * self.width**2), a, 1 / self.width**2) for a in self.alphas]
        return Compiled(1, np.array(rows, np.float32), 1 / len(self.alphas))

    def frequencies(self, count: int, dim: int, seed: Seed = None) -> Tensor:
        """Normal given a Gamma distributed precision, with each alpha's share."""
        import numpy as np

        draw = np.random.default_rng(resolve_seed(seed))
        shape = np.array(self.alphas)[np.arange(count) % len(self.alphas)]
        precision = draw.gamma(shape) / (shape * self.width**2)
        return torch.from_numpy(draw.standard_normal((count, dim)) * np.sqrt(precision)[:, None])
