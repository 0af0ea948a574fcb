r"""The algebra of least-squares ratios: one linear system, and leaving each row out of it in closed form.

The relative ratio :math:`r_\alpha = p / (\alpha p + (1 - \alpha) q)`, which is :math:`p / q` at :math:`\alpha = 0`, is
sought as :math:`g = \sum_l \theta_l \phi_l` with least

.. math:: \tfrac{\alpha}{2} \mathbb{E}_p[g^2] + \tfrac{1 - \alpha}{2} \mathbb{E}_q[g^2] - \mathbb{E}_p[g]
    + \tfrac{\lambda}{2} \|\theta\|^2

so :math:`\theta = (\hat H + \lambda I)^{-1} \hat h` with :math:`\hat H = \alpha \, \overline{\phi \phi^T}_p +
(1 - \alpha) \, \overline{\phi \phi^T}_q` and :math:`\hat h = \bar\phi_p`; negative coefficients are then set to 0.

**Leaving out** row i of p (with features :math:`x_i`) and row i of q (:math:`y_i`) takes a matrix of rank 2 from
:math:`\hat H`. With :math:`M = \frac{\alpha n}{n - 1} \overline{\phi \phi^T}_p + \frac{(1 - \alpha) m}{m - 1}
\overline{\phi \phi^T}_q + \lambda I` and :math:`U_i = [\sqrt{\alpha / (n - 1)} \, x_i, \sqrt{(1 - \alpha) / (m - 1)}
\, y_i]`,

.. math:: \theta^{(i)} = (M - U_i U_i^T)^{-1} h_i = M^{-1} \left(h_i + U_i (I - U_i^T M^{-1} U_i)^{-1} U_i^T M^{-1}
    h_i\right), \quad h_i = \frac{n \hat h - x_i}{n - 1}

The eigenvectors of M are those for every :math:`\lambda`, so that one decomposition for each bandwidth, and one
product of matrices for each :math:`\lambda`, give all coefficients that were left out. Rows go by in blocks: memory is
that of the features.

References:
    | A Least-squares Approach to Direct Importance Estimation (Kanamori, Hido and Sugiyama, 2009), figure 2
    | https://www.jmlr.org/papers/v10/kanamori09a.html
    | Relative Density-Ratio Estimation for Robust Distribution Comparison (Yamada et al., 2013)
    | https://arxiv.org/abs/1106.4729
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BLOCK = 512
"""Rows left out at a time: their coefficients stay in a processor's cache."""

Formula = Literal["exact", "densratio"]
"""``"exact"`` leaves rows out as derived above. ``"densratio"`` is the formula of the package of that name (0.4.0): it
lacks one of the paper's denominators, and leaves no row of p out of H. It is here so that choices can be compared."""


@dataclass(frozen=True)
class Moments:
    r"""What the system needs to know of one set of samples.

    Attributes:
        count: Number of samples.
        first: Mean of :math:`\phi`, with shape (b,).
        second: Mean of :math:`\phi \phi^T`, with shape (b, b).
    """

    count: int
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, blocks: Iterable[Tensor]) -> Moments:
        """From the features of all samples in blocks of rows, each with shape (rows, b); none is kept."""
        count, first, second = 0, torch.zeros(()), torch.zeros(())
        for features in blocks:
            if not count:
                first, second = features.sum(0), features.T @ features
            else:
                first += features.sum(0)
                second.addmm_(features.T, features)
            count += len(features)
        return cls(count, first / count, second / count)


def coefficients(p: Moments, q: Moments, ridge: float, alpha: float = 0.0) -> Tensor:
    r"""The solution :math:`(\hat H + \lambda I)^{-1} \hat h`, negative entries set to 0.

    Args:
        p: Moments of the samples of p.
        q: Moments of the samples of q.
        ridge: :math:`\lambda`, positive.
        alpha: The share of p in the denominator, in [0, 1).

    Returns:
        Coefficients with shape (b,).
    """
    matrix = alpha * p.second + (1 - alpha) * q.second
    matrix.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):  # a ridge below the rounding errors of the matrix
        values, vectors = torch.linalg.eigh(matrix)
        return (vectors @ ((vectors.T @ p.first) / values.clamp(min=ridge))).clamp(min=0)
    return torch.cholesky_solve(p.first[:, None], factor)[:, 0].clamp(min=0)


def leave_one_out(
    rows_p: Tensor,
    rows_q: Tensor,
    p: Moments,
    q: Moments,
    ridges: Sequence[float],
    alpha: float = 0.0,
    formula: Formula = "exact",
) -> tuple[Tensor, Tensor]:
    """Values of g at pairs of rows, by coefficients (clipped at 0) that were learned without the two.

    Args:
        rows_p: Features at rows of p, with shape (k, b).
        rows_q: Features at as many rows of q.
        p: Moments of all samples of p, at least 2, those rows among them.
        q: Moments of all samples of q, at least 2, those rows among them.
        ridges: Values of lambda, positive.
        alpha: The share of p in the denominator, in [0, 1).
        formula: How they are left out.

    Returns:
        Values at ``rows_p`` and at ``rows_q``, each with shape (number of ridges, k).
    """
    n, m, exact = p.count, q.count, formula == "exact"
    grown_p, grown_q = (n / (n - 1), m / (m - 1)) if exact else (1.0, 1.0)
    values, vectors = torch.linalg.eigh(alpha * grown_p * p.second + (1 - alpha) * grown_q * q.second)
    added = torch.tensor(ridges, dtype=values.dtype, device=values.device) * (1.0 if exact else (m - 1) / m)
    inverse = 1 / (values.clamp(min=0)[:, None] + added)  # (b, ridges)
    target = vectors.T @ p.first
    back = [(vectors * column).T.contiguous() for column in inverse.T]
    result_p, result_q = (rows_p.new_empty(len(ridges), len(rows_p)) for _ in range(2))
    for top in range(0, len(rows_p), BLOCK):
        block = slice(top, top + BLOCK)
        x, y = rows_p[block], rows_q[block]
        turned_x, turned_y = x @ vectors, y @ vectors
        products = [
            turned_x.square() @ inverse,
            (turned_x * turned_y) @ inverse,
            turned_y.square() @ inverse,
            turned_x @ (inverse * target[:, None]),
            turned_y @ (inverse * target[:, None]),
        ]
        of_target, of_x, of_y = _combination(products, n, m, alpha, exact)
        for index, turn_back in enumerate(back):
            mixed = torch.addcmul(turned_x * of_x[:, index, None], turned_y, of_y[:, index, None])
            left_out = torch.addmm((of_target * target @ turn_back)[None], mixed, turn_back).clamp_(min=0)
            result_p[index, block] = torch.linalg.vecdot(left_out, x)
            result_q[index, block] = torch.linalg.vecdot(left_out, y)
    return result_p, result_q


def _combination(products: list[Tensor], n: int, m: int, alpha: float, exact: bool) -> tuple[float, Tensor, Tensor]:
    """How much of h, of each x and of each y the inverse is applied to, from their products in its metric."""
    xx, xy, yy, xh, yh = products
    if not exact:
        scale = (m - 1) / (m * (n - 1))
        return scale * n, torch.full_like(xx, -scale), scale * (n * yh / (m - yy) - xy)
    root_x, root_y = math.sqrt(alpha / (n - 1)), math.sqrt((1 - alpha) / (m - 1))
    right_x, right_y = (root * (n * h - x) / (n - 1) for root, h, x in ((root_x, xh, xx), (root_y, yh, xy)))
    one, cross, other = 1 - alpha / (n - 1) * xx, root_x * root_y * xy, 1 - (1 - alpha) / (m - 1) * yy
    # above 0 in exact arithmetic, for the ridge keeps what is left positive definite
    determinant = (one * other - cross.square()).clamp(min=1e-12)
    part_x, part_y = (other * right_x + cross * right_y) / determinant, (cross * right_x + one * right_y) / determinant
    return n / (n - 1), root_x * part_x - 1 / (n - 1), root_y * part_y


def score(values_p: Tensor, values_q: Tensor, alpha: float = 0.0) -> Tensor:
    r"""The least-squares objective at values of g, least for the best, averaged over the last axis.

    .. math:: \tfrac{\alpha}{2} \overline{g^2}_p + \tfrac{1 - \alpha}{2} \overline{g^2}_q - \bar g_p
    """
    squares_p, squares_q = values_p.square().mean(-1), values_q.square().mean(-1)
    return alpha / 2 * squares_p + (1 - alpha) / 2 * squares_q - values_p.mean(-1)
