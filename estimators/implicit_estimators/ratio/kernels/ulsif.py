r"""uLSIF: the ratio itself by least squares, in closed form.

References:
    | A Least-squares Approach to Direct Importance Estimation (Kanamori, Hido and Sugiyama, 2009)
    | https://www.jmlr.org/papers/v10/kanamori09a.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from implicit_estimators.ratio.kernels.rulsif import Criterion, RuLSIFRatio


class ULSIFRatio(RuLSIFRatio):
    r"""Unconstrained least-squares importance fitting: ``RuLSIFRatio`` with alpha = 0.

    .. math:: r(x) = \sum_l \max(0, \theta_l) \exp\left(-\frac{\|x - c_l\|^2}{2 \sigma^2}\right), \quad
        \theta = (\hat H + \lambda I)^{-1} \hat h

    with the centres at samples of p; :mod:`~implicit_estimators.ratio.kernels.least_squares` has the algebra, with
    every pair of rows left out in closed form. With no coefficient below 0, :math:`\log r` is a log-sum-exp:
    finite everywhere, and far out as far below 0 as the nearest Gaussian is. It is least sure there, for the squared
    error hardly sees small ratios; and where :math:`\mathbb{E}_q[r^2]` is infinite it has no finite optimum, and the
    relative ratio (``RuLSIFRatio``) is the better target.

    After :meth:`fit`, ``bandwidth`` and ``ridge`` are what was chosen. Time and memory grow with the number of samples:
    100,000 of each take seconds.

    Args:
        centres: How many samples of p to put Gaussians at, or the points themselves, with shape (b, d).
        bandwidths: Standard deviations to choose from, in standardised units; multiples of median distances if None.
        ridges: Values of :math:`\lambda` to choose from; if None, multiples of the mean eigenvalue of H, and
            powers of ten.
        rows: Pairs of rows to leave out, at most.
        criterion: What is least at the rows left out: the log loss of the classifier with odds r ("log"), the paper's
            squared error ("squared"), or what the package densratio 0.4.0 takes for it ("densratio").
        standardise: Whether columns are shifted and scaled together first.
        folds: Parts that are held out in turn for :meth:`check`.

    Raises:
        ValueError: If a number is out of its range, or there is no such criterion.

    Example:
        >>> import torch
        >>> p = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = ULSIFRatio().fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
    """

    name = "ulsif"

    def __init__(
        self,
        centres: int | Any = 200,
        *,
        bandwidths: Sequence[float] | None = None,
        ridges: Sequence[float] | None = None,
        rows: int = 5000,
        criterion: Criterion = "log",
        standardise: bool = True,
        folds: int = 5,
    ) -> None:
        super().__init__(
            0.0,
            centres,
            bandwidths=bandwidths,
            ridges=ridges,
            rows=rows,
            criterion=criterion,
            standardise=standardise,
            folds=folds,
        )
