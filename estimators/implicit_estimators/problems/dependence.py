r"""A joint distribution of x and y against the product of its marginals: the ratio whose mean log is information.

.. math:: I(x; y) = \mathrm{KL}(p(x, y) \,\|\, p(x) p(y))

The forty tasks of Beyond Normal and the gamma-exponential pair, each with the information in closed form.

References:
    | Beyond Normal: On the Evaluation of Mutual Information Estimators (Czyz, Grabowski, Vogt, Beerenwinkel and Marx,
    | 2023)
    | https://arxiv.org/abs/2306.11078
    | Shannon Entropy and Mutual Information for Multivariate Skew-Elliptical Distributions (Arellano-Valle,
    | Contreras-Reyes and Genton, 2013)
    | https://doi.org/10.1111/j.1467-9469.2011.00774.x
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.problems import transforms as maps
from implicit_estimators.problems.gaussians import correlated
from implicit_estimators.problems.problem import Draw, Problem
from implicit_estimators.problems.transforms import transformed
from implicit_estimators.seeds import forked

BEYOND_NORMAL = "Czyz et al. 2023"


def product_of_marginals(joint: Draw, split: int) -> Draw:
    """Pairs the first variable of one independent draw with the second of another."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return torch.cat([joint(n, generator)[:, :split], joint(n, generator)[:, split:]], 1)

    return draw


def additive(noise: float) -> Problem:
    """X uniform on (0, 1) and y = x + uniform noise on (-noise, noise): the ratio is zero where they are apart."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return torch.stack([u[:, 0], u[:, 0] + noise * (2 * u[:, 1] - 1)], 1)

    def exact(x: Tensor) -> Tensor:
        place, y = x.T
        # log of what share of (0, 1) can lead to y; rounding may leave a draw a little outside
        overlap = ((y + noise).clamp(max=1.0) - (y - noise).clamp(min=0.0)).clamp(min=1e-12)
        return torch.where((y - place).abs() <= noise + 1e-9, -overlap.log(), -math.inf)

    return Problem(
        f"bmi-additive-{noise:g}",
        2,
        0.25 / noise if noise > 0.5 else noise - math.log(2 * noise),
        f"x uniform on (0, 1), y = x + uniform noise within {noise:g}; the ratio is 0 at some points of q",
        BEYOND_NORMAL,
        draw,
        product_of_marginals(draw, 1),
        exact,
        split=1,
        dtype=torch.float64,
    )


def student(k: int, freedom: int) -> Problem:
    r"""A multivariate Student t with identity scale, cut into halves of k columns: uncorrelated, yet dependent.

    .. math:: I = 2 h(k) - h(2k), \quad h(k) = \tfrac{\nu + k}{2} \left[\psi\left(\tfrac{\nu + k}{2}\right)
        - \psi\left(\tfrac{\nu}{2}\right)\right] + \tfrac k2 \log(\nu \pi) + \log\frac{\Gamma(\nu / 2)}
        {\Gamma((\nu + k) / 2)}
    """
    nu = torch.tensor(float(freedom), dtype=torch.float64)

    def constant(columns: int) -> Tensor:
        return torch.lgamma((nu + columns) / 2) - torch.lgamma(nu / 2) - 0.5 * columns * torch.log(nu * math.pi)

    def entropy(columns: int) -> Tensor:
        half = (nu + columns) / 2
        return half * (torch.digamma(half) - torch.digamma(nu / 2)) - constant(columns)

    def log_density(x: Tensor) -> Tensor:
        return constant(x.shape[1]).to(x.device) - 0.5 * (freedom + x.shape[1]) * torch.log1p((x**2).sum(1) / freedom)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2 * k + freedom, generator=generator, dtype=torch.float64)
        return z[:, : 2 * k] / ((z[:, 2 * k :] ** 2).mean(1, keepdim=True)).sqrt()

    return Problem(
        f"bmi-student-{k}-{freedom}",
        2 * k,
        float(2 * entropy(k) - entropy(2 * k)),
        f"Student t in {k} + {k} columns with {freedom} degrees of freedom and identity scale; E_q r^2 is infinite",
        BEYOND_NORMAL,
        draw,
        product_of_marginals(draw, k),
        lambda x: log_density(x) - log_density(x[:, :k]) - log_density(x[:, k:]),
        split=k,
    )


def gamma_exponential(shape: float) -> Problem:
    r"""X ~ Gamma(a, 1) and y ~ Exponential(rate x), whose marginal is Lomax.

    .. math:: \log\frac{p(x, y)}{p(x) p(y)} = \log x - x y - \log a + (a + 1) \log(1 + y), \quad
        I = \psi(a + 1) - \log a
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        with forked(int(torch.randint(2**62, (), generator=generator)), "draws"):
            gamma = torch.distributions.Gamma(torch.tensor(shape, dtype=torch.float64), 1.0).sample((n,))
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        return torch.stack([gamma, -torch.log1p(-uniform) / gamma], 1)

    def exact(x: Tensor) -> Tensor:
        first, second = x.clamp(min=torch.finfo(torch.float64).tiny).T
        return first.log() - first * second - math.log(shape) + (shape + 1) * torch.log1p(second)

    return Problem(
        "gamma-exponential",
        2,
        float(torch.digamma(torch.tensor(shape + 1, dtype=torch.float64))) - math.log(shape),
        f"x ~ Gamma({shape:g}, 1) and y ~ Exponential(rate x); E_q r^2 is infinite",
        "experiments of OpenDRE",
        draw,
        product_of_marginals(draw, 1),
        exact,
        split=1,
    )


def _normal() -> Problem:
    covariance = torch.tensor([[1.0, 0.75], [0.75, 1.0]], dtype=torch.float64)
    return correlated("bmi-normal", covariance, 1, "two normals with correlation 3/4", BEYOND_NORMAL)


def _dense(k: int) -> Problem:
    covariance = 0.5 * torch.eye(2 * k, dtype=torch.float64) + 0.5
    described = f"{k} + {k} normals, all with correlation 1/2"
    return correlated(f"bmi-dense-{k}", covariance, k, described, BEYOND_NORMAL)


def _two_pairs(k: int) -> Problem:
    covariance = torch.eye(2 * k, dtype=torch.float64)
    for i in (0, 1):
        covariance[i, k + i] = covariance[k + i, i] = 0.8
    return correlated(
        f"bmi-2-pair-{k}", covariance, k, f"{k} + {k} normals, two pairs with correlation 0.8", BEYOND_NORMAL
    )


def _mapped(problem: Problem, suffix: str, first: maps.Map, second: maps.Map, words: str) -> Problem:
    exact_digits = torch.float64 if "cdf" in suffix or "roll" in suffix or "bimodal" in suffix else torch.float32
    return transformed(
        problem, f"{problem.name}-{suffix}", first, second, f"{problem.description}; {words}", exact_digits
    )


def _beyond_normal() -> tuple[Problem, ...]:
    uniform, cube, asinh = maps.NORMAL_CDF, maps.HALF_CUBE, maps.ASINH
    normal, heavy = _normal(), student(1, 1)
    problems = [
        normal,
        _mapped(normal, "cdf", uniform, uniform, "made uniform"),
        additive(0.1),
        additive(0.75),
        _mapped(normal, "bimodal", maps.BIMODAL_X, maps.BIMODAL_Y, "made mixtures of two normals"),
        _mapped(normal, "wiggly", maps.WIGGLY_X, maps.WIGGLY_Y, "bent by sines"),
        _mapped(normal, "half-cube", cube, cube, "to the power 3/2, signed"),
        heavy,
        _mapped(heavy, "asinh", asinh, asinh, "tails shortened by asinh"),
        _mapped(normal, "swiss-roll", uniform.then(maps.SWISS_ROLL), uniform, "made uniform, x rolled up in the plane"),
        *(_dense(k) for k in (2, 3, 5, 25, 50)),
        *(_two_pairs(k) for k in (2, 3, 5, 25)),
        *(student(k, freedom) for k, freedom in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
    ]
    for k in (3, 5, 25):
        base = _two_pairs(k)
        first, second = maps.spiral(0, 1, 1 / k), maps.spiral(1, 2, 1 / k)
        problems += [
            _mapped(base, "cdf", uniform, uniform, "made uniform"),
            _mapped(base, "half-cube", cube, cube, "to the power 3/2, signed"),
            _mapped(base, "spiral", first, second, "two columns of each turned by their length"),
            _mapped(base, "cdf-spiral", uniform.then(first), uniform.then(second), "made uniform, then turned"),
        ]
    for k, freedom in ((2, 1), (3, 2), (5, 2)):
        problems.append(_mapped(student(k, freedom), "asinh", asinh, asinh, "tails shortened by asinh"))
    return tuple(problems)


DEPENDENCE: tuple[Problem, ...] = (gamma_exponential(1.8), *_beyond_normal())
