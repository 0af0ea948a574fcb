r"""How far an estimate would move with other data: sandwich covariances, without refitting.

An estimate solves :math:`g(\theta; \text{data}) = 0`. If data of m observations scatter g with covariance V / m, and g
moves with the parameters that made the data by :math:`-H`, the estimate has covariance

.. math:: \tfrac1m H^{-1} V H^{-\top}.

Both are seen at once by simulating data sets at parameters a little off the estimate, :math:`v_b = \hat v + \delta_b`,
and regressing what they give on :math:`\delta_b`: the slope is -H, the residuals are V. That is as if the data were the
fitted simulator's (a parametric bootstrap to first order), and asks for neither second derivatives nor independence of
the rows inside one observation.

- :func:`of_gradients`, where nothing is trained: g is the gradient of the loss itself, one for each group of data.
- :func:`of_kernel`, for kernels (MMD, energy) and a simulator without gradients: the derivative of the model's side of
  the witness is itself a regression, of the kernel between a datum and simulations on how far off those were made.
- :func:`of_features`, where a critic is: the critic learns from the data as well, so that the gradient of a finished
  critic says nothing. To first order around the equilibrium, though, a critic that is linear in its features
  :math:`\phi` weighs them by the inverse of their covariance, and the fit is the moment estimator with these moments
  and weights: :math:`\frac1m (J^\top \Sigma^{-1} J)^{-1}`, with :math:`J = \partial_\theta \mathbb{E}[\phi]` and
  :math:`\Sigma` the covariance of :math:`\phi` (Hansen, 1982). The features are the critic's last hidden layer, frozen.
  Noise in J would add information that is not there: J comes from two halves, whose errors are independent.

The prior's precision is added to that of the data, so that parameters, or combinations of them, that the comparison
does not tell keep the prior's width in place of an infinite one.

References:
    | Large sample properties of generalized method of moments estimators (Hansen, 1982)
    | https://doi.org/10.2307/1912775
    | Maximum likelihood estimation of misspecified models (White, 1982), for the sandwich
    | https://doi.org/10.2307/1912526
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from implicit_infer.fitting.space import Space
from implicit_simulators import Stream

STEP = 0.2
"""Standard deviation of the distance from the estimate, in units of the prior's."""

TOLD = 0.5
"""A standard error beyond this, in units of the prior's standard deviation, is worth a warning."""

COMPONENTS = 16
"""Most principal components of the features that are looked at."""

KEPT = 1000
"""Draws that stand for the uncertainty."""


def offsets(n: int, dim: int, random: torch.Generator) -> Tensor:
    """Distances from the estimate, in pairs of opposite sign and in random order, with shape (n, d); n is even."""
    half = STEP * torch.randn(n // 2, dim, generator=random, dtype=torch.float64)
    return torch.cat([half, -half])[torch.randperm(n, generator=random)]


def of_gradients(gradients: Tensor, delta: Tensor, per_group: int, m: int) -> Tensor:
    """The covariance of the estimate from gradients of groups of simulated data.

    Args:
        gradients: g of each group, with shape (groups, d).
        delta: How far from the estimate its data were made, with shape (groups, d).
        per_group: Observations in a group.
        m: Observations in the data.

    Returns:
        With shape (d, d), in the units of ``delta``.
    """
    return _covariance(gradients.double(), delta, m / per_group)


def of_features(features: Tensor, delta: Tensor, m: int) -> Tensor:
    """The covariance of the estimate from what a critic looks at.

    Args:
        features: The mean features of each simulated observation, with shape (n, k).
        delta: How far from the estimate each was made, with shape (n, d).
        m: Observations in the data.

    Returns:
        With shape (d, d), in the units of ``delta``.
    """
    features = features.double()
    centred = features - features.mean(0)
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    usable = values > 1e-4 * values[0]
    return _covariance(centred @ vectors[usable][:COMPONENTS].T, delta, m)


def untold(covariance: Tensor, names: Sequence[str]) -> list[str]:
    """The warning that a covariance in units of the prior gives cause for, if any."""
    wide = [name for name, value in zip(names, covariance.diagonal().tolist(), strict=True) if value > TOLD**2]
    if not wide:
        return []
    return [f"the comparison hardly tells {', '.join(wide)}: the uncertainty there is that of the prior"]


def of_kernel(across: Tensor, delta_x: Tensor, delta_y: Tensor, m: int) -> Tensor:
    r"""The covariance of the estimate from a kernel, without gradients of the simulator.

    With :math:`T(x) = \partial_\theta \mathbb{E}_{y \sim \theta} k(x, y)`, the estimate solves
    :math:`\mathbb{E}_{\text{data}}[T(x)] = \mathbb{E}_{x \sim \theta}[T(x)]`. T is the slope of k(x, y) on the
    distance at which y was made.

    Args:
        across: The mean of k over the rows of x and those of y, with shape (n_x, n_y).
        delta_x: How far from the estimate each x was made, with shape (n_x, d).
        delta_y: The same of each y, with shape (n_y, d).
        m: Observations in the data.

    Returns:
        With shape (d, d), in the units of ``delta``.
    """
    design = torch.cat([torch.ones(len(delta_y), 1, dtype=torch.float64), delta_y], 1)
    moments = torch.linalg.lstsq(design, across.double().T).solution[1:].T
    # the noise in T is a fixed function of x: it moves slope and residuals alike
    return of_gradients(moments, delta_x, 1, m)


def through(space: Space, v: Tensor, covariance: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Parameters that are normal in unconstrained space.

    Args:
        space: The maps.
        v: The mean, with shape (d,).
        covariance: With shape (d, d).
        seed: Source of the draws.

    Returns:
        Draws of theta with shape (k, d), and the covariance of theta to first order, with shape (d, d).
    """
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    root = (vectors * values.clamp_min(0).sqrt()).float()
    random = Stream.of(seed, role="sample").torch()
    draws = space.theta(v + torch.randn(KEPT, len(v), generator=random) @ root.T)
    jacobian = torch.autograd.functional.jacobian(lambda one: space.theta(one[None])[0], v)
    return draws, jacobian @ covariance.float() @ jacobian.T


def _covariance(moments: Tensor, delta: Tensor, m: float) -> Tensor:
    """The covariance of the estimate by moments that are weighted by their inverse covariance.

    Slopes come from two halves, whose errors are independent: the product of slopes has no bias by their noise. What
    lies below the noise still is no information.
    """
    order = torch.arange(len(moments)) % 2 == 0
    (first, one), (second, other) = (_regress(moments[half], delta[half]) for half in (order, ~order))
    sigma = (one + other) / 2
    sigma = sigma + 1e-9 * sigma.diagonal().mean().clamp_min(1e-30) * torch.eye(len(sigma)).to(sigma)
    information = first.T @ torch.linalg.solve(sigma, second)
    values, vectors = torch.linalg.eigh((information + information.T) / 2)
    noise = sigma.shape[0] ** 0.5 / (STEP**2 * (len(moments) / 2))
    values = torch.where(values > 2 * noise, values, 0.0)
    # one more in units of the prior: where the data tell nothing, the prior's width is what is left
    return vectors @ torch.diag(1 / (m * values + 1)) @ vectors.T


def _regress(y: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of y on delta, with shape (k, d), and the covariance of the residuals, with shape (k, k)."""
    design = torch.cat([torch.ones(len(delta), 1, dtype=torch.float64), delta], 1)
    found = torch.linalg.lstsq(design, y).solution
    residuals = y - design @ found
    return found[1:].T, residuals.T @ residuals / max(len(y) - design.shape[1], 1)
