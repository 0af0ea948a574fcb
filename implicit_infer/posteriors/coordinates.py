r"""Where neural posteriors live: parameters free of bounds, with what a linear regression explains taken out.

Three maps, each invertible in theta at a given x:

.. math::
    \theta \;\to\; u = T^{-1}(\theta) \in \mathbb{R}^d, \qquad
    x \;\to\; s = \text{standardised summaries}, \qquad
    v = L^{-1} (u - A s - b),

where T is the bijection of the prior's support, so that no method can put mass outside it, and
:math:`u \approx A s + b` is the ridge regression of u on s with residual covariance :math:`L L^\top`. A network then
learns how v differs from a standard normal given s, which is nothing at all in a linear Gaussian model. The regression
is the one that adjusts ABC samples (Beaumont et al., 2002); here it is only a choice of coordinates, undone exactly,
and costs no accuracy where it explains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_estimators.networks.standardise import Standardiser
from implicit_simulators import Simulator, unconstrained

HEAVY = 10.0
"""Summaries with standardised values beyond this are squashed by arsinh before a network sees them."""

SAMPLE = 2**21
"""Values that medians and quartiles are taken of, where the simulations come in chunks."""


Chunks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives the simulations (theta, x) anew each time, in parts that fit in memory."""


class Coordinates(nn.Module):
    r"""The maps between (theta, x) and (v, s), fitted to simulations.

    Args:
        simulator: Gives the prior's support and ``summarize``.
        theta: Parameters of the simulations, with shape (n, d).
        x: The simulations, with shape (n, \*event_shape), finite.
        ridge: Ridge penalty of the regression, relative to n.

    Raises:
        ValueError: If there are fewer than two simulations.
    """

    slope: Tensor
    intercept: Tensor
    spread: Tensor
    whiten: Tensor

    def __init__(self, simulator: Simulator, theta: Tensor, x: Tensor, ridge: float = 1e-4) -> None:
        super().__init__()
        raw = simulator.summarize(x)
        self._fit(simulator, lambda: [(theta, raw)], ridge)

    @classmethod
    def of_chunks(cls, simulator: Simulator, chunks: Chunks, ridge: float = 1e-4) -> Coordinates:
        """Fit to simulations that do not fit in memory, in three passes over them.

        Medians and quartiles, which summaries with heavy tails are scaled by, are of the first two million values.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._fit(simulator, lambda: ((theta, simulator.summarize(x)) for theta, x in chunks()), ridge)
        return made

    def _fit(self, simulator: Simulator, chunks: Chunks, ridge: float) -> None:
        """Fit to chunks of theta and summaries."""
        self.simulator = simulator
        self.transform: Transform = unconstrained(simulator.prior)
        self.standardise = _standardiser(chunks)

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for theta, raw in chunks():
                yield self.standardise(raw).double(), self.transform.inv(theta).double()

        together = Moments()
        for s, u in pairs():
            together.add(torch.cat((s, u), 1))
        k, n = s.shape[1], together.n
        centre_s, centre_u = together.mean.split((k, len(together.mean) - k))
        gram = together.products[:k, :k] + ridge * n * torch.eye(k, dtype=torch.float64)
        slope = torch.linalg.solve(gram, together.products[:k, k:]).T
        intercept = centre_u - slope @ centre_s
        residuals = Moments()
        for s, u in pairs():
            residuals.add(u - s @ slope.T - intercept)
        covariance = residuals.products / n + torch.outer(residuals.mean, residuals.mean)
        # a floor for parameters that the summaries determine exactly, or that do not vary
        scale = covariance.diagonal().clamp_min(1e-12)
        spread = torch.linalg.cholesky(covariance + 1e-6 * scale.diag())
        whiten = torch.linalg.inv(spread)
        dtype = next(iter(chunks()))[0].dtype
        for name, value in (("slope", slope), ("intercept", intercept), ("spread", spread), ("whiten", whiten)):
            self.register_buffer(name, value.to(dtype))
        variance = together.products.diagonal()[k:] / (n - 1)
        self.explained = 1 - residuals.products.diagonal() / (n - 1) / variance.clamp_min(1e-30)

    @property
    def parameters_dim(self) -> int:
        """d, the width of theta, u and v."""
        return self.slope.shape[0]

    @property
    def summaries_dim(self) -> int:
        """k, the width of s."""
        return self.slope.shape[1]

    @property
    def log_volume(self) -> Tensor:
        r""":math:`\log \det L`, with shape ()."""
        return self.spread.diagonal().log().sum()

    def summaries(self, x: Tensor) -> Tensor:
        r"""S with shape (n, k) for x with shape (n, \*event_shape)."""
        return self.standardise(self.simulator.summarize(x).to(self.slope))

    def free(self, u: Tensor, s: Tensor) -> Tensor:
        """V with shape (n, d) for u with shape (n, d) and s with shape (n, k)."""
        return (u - s @ self.slope.T - self.intercept) @ self.whiten.T

    def bound(self, v: Tensor, s: Tensor) -> Tensor:
        """U for v and s: the inverse of ``free``."""
        return v @ self.spread.T + s @ self.slope.T + self.intercept

    def log_det(self, theta: Tensor) -> Tensor:
        r""":math:`\log |\det \partial v / \partial \theta|`, with shape (n,)."""
        u = self.transform.inv(theta)
        return -self.transform.log_abs_det_jacobian(u, theta) - self.log_volume

    def legal(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows lie in the prior's support, and theta with the others moved there: every map is defined."""
        prior = self.simulator.prior
        inside = prior.support.check(theta)  # type: ignore[union-attr]  # `unconstrained` has refused a prior without
        return inside, torch.where(inside[:, None], theta, prior.mean)

    def log_normal(self, u: Tensor, s: Tensor) -> Tensor:
        r"""The density of u under the regression, :math:`\log N(u; A s + b, L L^\top)`, over the last axis."""
        v = self.free(u, s)
        return -0.5 * v.square().sum(-1) - 0.5 * math.log(2 * math.pi) * v.shape[-1] - self.log_volume

    def log_prior(self, u: Tensor) -> Tensor:
        """The prior's density of u, with shape (n,)."""
        theta = self.transform(u)
        return self.simulator.prior.log_prob(theta) + self.transform.log_abs_det_jacobian(u, theta)


class Moments:
    """Mean and centred products of rows that come in chunks (Chan, Golub & LeVeque, 1983)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = self.products = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Take more rows, with shape (m, d), in double precision."""
        m = len(rows)
        if not m:
            return
        mean = rows.mean(0)
        products = (rows - mean).T @ (rows - mean)
        if not self.n:
            self.n, self.mean, self.products = m, mean, products
            return
        n, shift = self.n + m, mean - self.mean
        self.products = self.products + products + torch.outer(shift, shift) * (self.n * m / n)
        self.mean = self.mean + shift * (m / n)
        self.n = n


def _standardiser(chunks: Chunks) -> Standardiser:
    """Means and standard deviations, or where values lie far out, medians and quartile widths and a squash."""
    n = 0
    for _, raw in chunks():
        exact = raw.double()
        if n == 0:
            mean = torch.zeros(exact.shape[1], dtype=torch.float64)
            squares, low, high = mean.clone(), mean + torch.inf, mean - torch.inf
        m = len(exact)
        if not m:
            continue
        centre = exact.mean(0)
        shift = centre - mean
        squares += (exact - centre).square().sum(0) + shift.square() * (n * m / (n + m))
        mean = centre if n == 0 else mean + shift * (m / (n + m))
        low, high = torch.minimum(low, exact.amin(0)), torch.maximum(high, exact.amax(0))
        n += m
    if n < 2:
        raise ValueError(f"budget: expected at least 2 simulations that did not fail; got {n}")
    moments = Standardiser.of_moments(mean, (squares / n).sqrt(), torch.maximum(low.abs(), high.abs()), raw.dtype)
    ends = torch.stack((low, high)).to(raw.dtype)
    if not (moments(ends).abs() > HEAVY).any():
        return moments
    head: list[Tensor] = []
    for _, raw in chunks():
        head.append(raw)
        if sum(part.numel() for part in head) >= SAMPLE:
            break
    return Standardiser.fit(*head, robust=True)
