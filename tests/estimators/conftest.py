"""Pairs of Gaussians: samples, the true log-ratio, and every divergence between them in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence


@dataclass(frozen=True)
class Line:
    """p = N(0, 1) and q = N(mean, sd) on the line, in float64."""

    mean: float
    sd: float

    @property
    def p(self) -> Normal:
        return Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)

    @property
    def q(self) -> Normal:
        return Normal(torch.tensor(self.mean, dtype=torch.float64), self.sd)

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.p.log_prob(x) - self.q.log_prob(x)

    def log_mixture(self, x: Tensor) -> Tensor:
        """Log of (p + q) / 2."""
        return torch.logaddexp(self.p.log_prob(x), self.q.log_prob(x)) - math.log(2)

    def integrate(self, integrand: Callable[[Tensor], Tensor]) -> float:
        """By the trapezoid rule, which is exact to rounding for smooth functions that vanish at both ends."""
        reach = 14 * max(1.0, self.sd) + abs(self.mean)
        x = torch.linspace(-reach, reach, 40_001, dtype=torch.float64)
        return float(torch.trapezoid(integrand(x), x))

    def expect_p(self, function: Callable[[Tensor], Tensor]) -> float:
        return self.integrate(lambda x: self.p.log_prob(x).exp() * function(x))

    def expect_q(self, function: Callable[[Tensor], Tensor]) -> float:
        return self.integrate(lambda x: self.q.log_prob(x).exp() * function(x))

    def divergence(self, name: str) -> float:
        """In closed form, which may be infinite; Jensen-Shannon by quadrature of its two KLs to the mixture."""
        m, s = self.mean, self.sd
        if name == "kl":
            return math.log(s) + (1 + m**2) / (2 * s**2) - 0.5
        if name == "reverse-kl":
            return -math.log(s) + (s**2 + m**2) / 2 - 0.5
        if name == "jeffreys":
            return self.divergence("kl") + self.divergence("reverse-kl")
        if name == "hellinger":
            return 1 - math.sqrt(2 * s / (1 + s**2)) * math.exp(-(m**2) / (4 * (1 + s**2)))
        if name == "pearson":  # E_q r^2 is finite where 2 / 1 - 1 / s^2 > 0
            assert 2 * s**2 > 1
            return s**2 / math.sqrt(2 * s**2 - 1) * math.exp(m**2 / (2 * s**2 - 1)) - 1
        if name == "neyman":  # Pearson's with p and q exchanged
            return (
                math.exp(m**2 / (2 - s**2)) / (s * math.sqrt(2 - s**2)) - 1 if not self.is_infinite(name) else math.inf
            )
        if name == "alpha":
            return self.alpha_divergence(0.25)
        if name == "tv":  # p > q on one side of, or between, the roots of log r = 0
            return self._total_variation()
        return 0.5 * self.expect_p(lambda x: self.p.log_prob(x) - self.log_mixture(x)) + 0.5 * self.expect_q(
            lambda x: self.q.log_prob(x) - self.log_mixture(x)
        )

    def is_infinite(self, name: str) -> bool:
        return name == "neyman" and self.sd**2 >= 2

    def alpha_divergence(self, alpha: float) -> float:
        """From the integral of p^alpha q^(1 - alpha), a Gaussian one."""
        own, other = alpha, (1 - alpha) / self.sd**2
        total = own + other
        affinity = self.sd ** (alpha - 1) / math.sqrt(total) * math.exp(-0.5 * own * other / total * self.mean**2)
        return (1 - affinity) / (alpha * (1 - alpha))

    def _total_variation(self) -> float:
        m, s = self.mean, self.sd
        a, b, c = 0.5 / s**2 - 0.5, -m / s**2, 0.5 * m**2 / s**2 + math.log(s)  # log r = a x^2 + b x + c
        if a == 0:
            roots = [-c / b]
        else:
            root = math.sqrt(b**2 - 4 * a * c)
            roots = sorted([(-b - root) / (2 * a), (-b + root) / (2 * a)])
        edges = torch.tensor([-math.inf, *roots, math.inf], dtype=torch.float64)
        mass = (self.p.cdf(edges).diff() - self.q.cdf(edges).diff()).abs()
        return 0.5 * float(mass.sum())


LINES = [Line(0.7, 1.0), Line(1.0, 1.5), Line(-0.5, 0.8), Line(0.0, 2.0)]


@dataclass(frozen=True)
class Plane:
    """Problem a: a standard normal p in the plane and a shifted, correlated q."""

    @property
    def p(self) -> MultivariateNormal:
        return MultivariateNormal(torch.zeros(2), torch.eye(2))

    @property
    def q(self) -> MultivariateNormal:
        return MultivariateNormal(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.p.log_prob(x) - self.q.log_prob(x)

    def samples(self, n: int, m: int, seed: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        p = torch.randn(n, 2, generator=draw)
        q = self.q.loc + torch.randn(m, 2, generator=draw) @ self.q.scale_tril.T
        return p, q

    def kl(self) -> float:
        return float(kl_divergence(self.p, self.q))


@pytest.fixture(params=LINES, ids=str)
def line(request: pytest.FixtureRequest) -> Line:
    return request.param


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture(scope="module")
def plane_of_module() -> Plane:
    """The same, for fixtures that are fitted once for a file."""
    return Plane()
