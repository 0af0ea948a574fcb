r"""Problems whose p and q are both normal: :math:`\log p/q` is quadratic, and every figure has a closed form.

.. math:: \mathrm{KL}(p \| q) = \tfrac12 \left[ \operatorname{tr}(\Sigma_q^{-1} \Sigma_p) - d
    + (\mu_q - \mu_p)^\top \Sigma_q^{-1} (\mu_q - \mu_p) + \log\frac{|\Sigma_q|}{|\Sigma_p|} \right]

References:
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020): the ladder and the narrow normal
    | https://arxiv.org/abs/2006.12204
    | Density Ratio Estimation via Infinitesimal Classification (Choi, Meng, Song and Ermon, 2022)
    | https://arxiv.org/abs/2111.11010
    | Estimating the Density Ratio between Distributions with High Discrepancy using Multinomial Logistic Regression
    | (Srivastava et al., 2023)
    | https://arxiv.org/abs/2305.00869
    | Density Ratio Estimation with Conditional Probability Paths (Yu, Klami, Hyvarinen, Korba and Chehab, 2025)
    | https://arxiv.org/abs/2502.02300
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.problems.problem import Draw, Problem

TRE = "Rhodes, Xu and Gutmann 2020"


def normals(
    name: str,
    p: tuple[Tensor, Tensor],
    q: tuple[Tensor, Tensor],
    description: str,
    source: str,
    split: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Two normal distributions, each by its mean, with shape (d,), and covariance, with shape (d, d)."""
    (mean_p, cov_p), (mean_q, cov_q) = ((mean.double(), covariance.double()) for mean, covariance in (p, q))
    factor_p, factor_q = torch.linalg.cholesky(cov_p), torch.linalg.cholesky(cov_q)
    dimension = len(mean_p)
    shrunk = torch.linalg.solve_triangular(factor_q, factor_p, upper=False)
    shift = torch.linalg.solve_triangular(factor_q, (mean_p - mean_q)[:, None], upper=False)
    logs = (factor_q.diagonal().log() - factor_p.diagonal().log()).sum()

    def exact(x: Tensor) -> Tensor:
        return 0.5 * (_distance(x, mean_q, factor_q) - _distance(x, mean_p, factor_p)) + logs

    return Problem(
        name,
        dimension,
        float(0.5 * ((shrunk**2).sum() - dimension + (shift**2).sum()) + logs),
        description,
        source,
        _draws(mean_p, factor_p),
        _draws(mean_q, factor_q),
        exact,
        split,
        dtype,
    )


def correlated(name: str, covariance: Tensor, split: int, description: str, source: str) -> Problem:
    """A centred normal against the product of the marginals of its first ``split`` columns and of the others."""
    mean, product = torch.zeros(len(covariance)), covariance.clone()
    product[:split, split:] = product[split:, :split] = 0.0
    return normals(name, (mean, covariance), (mean, product), description, source, split)


def pairs(count: int, correlation: float) -> Tensor:
    """Covariance of ``count`` pairs: column i with column ``count + i``."""
    return torch.kron(torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64), torch.eye(count))


def _distance(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Squared Mahalanobis distances, with shape (n,)."""
    return (torch.linalg.solve_triangular(factor.to(x.device), (x - mean.to(x.device)).T, upper=False) ** 2).sum(0)


def _draws(mean: Tensor, factor: Tensor) -> Draw:
    return lambda n, generator: mean + torch.randn(n, len(mean), generator=generator, dtype=torch.float64) @ factor.T


def _line(name: str, p: tuple[float, float], q: tuple[float, float], source: str) -> Problem:
    """Two normals on the line, each by its mean and standard deviation."""
    parts = [(torch.tensor([mean]), torch.tensor([[sd]], dtype=torch.float64) ** 2) for mean, sd in (p, q)]
    described = " against ".join(f"N({mean:g}, {sd:g}^2)" for mean, sd in (p, q))
    return normals(name, parts[0], parts[1], described, source, dtype=torch.float64)


def _rung(name: str, dimension: int) -> Problem:
    """A rung of the ladder: pairs with a mutual information of d/4 nats in all."""
    rho = math.sqrt(1 - math.exp(-1.0))
    described = f"{dimension // 2} pairs with correlation {rho:.3f} against independent normals"
    return correlated(name, pairs(dimension // 2, rho), dimension // 2, described, TRE)


_STANDARD = (torch.zeros(2), torch.eye(2))
_SHIFTED = (torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
_A = "N(0, I) in the plane against a shifted, correlated normal; E_q r^2 is infinite"

GAUSSIANS: tuple[Problem, ...] = (
    normals("a", _STANDARD, _SHIFTED, _A, "usual in tutorials"),
    normals("a_rev", _SHIFTED, _STANDARD, "a with p and q exchanged", "usual in tutorials"),
    correlated("b", pairs(5, 0.5), 5, "five pairs with correlation 1/2 against independent normals", TRE),
    _rung("c", 40),
    *(_rung(f"ladder-{dimension}", dimension) for dimension in (20, 40, 80, 160, 320)),
    _line("peaked-1e-6", (0.0, 1e-6), (0.0, 1.0), TRE),
    _line("peaked-1e-3", (0.0, 1e-3), (0.0, 1.0), "Choi, Meng, Song and Ermon 2022"),
    _line("narrow-apart", (-1.0, 0.08), (2.0, 0.15), "Choi, Meng, Song and Ermon 2022"),
    _line("wide-apart", (-5.0, 1.0), (5.0, 1.0), "Choi, Meng, Song and Ermon 2022"),
    _line("mdre", (-1.0, 0.1), (1.0, 0.2), "Srivastava et al. 2023"),
    normals(
        "corner",
        (torch.full((2,), 4.0), torch.eye(2)),
        (torch.zeros(2), torch.eye(2)),
        "N(4, I) in the plane against N(0, I)",
        "Yu, Klami, Hyvarinen, Korba and Chehab 2025",
    ),
)
