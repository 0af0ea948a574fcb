r"""Where likelihoods are learned: data of order one, less what a linear regression on the parameters explains.

The mirror image of :class:`implicit_infer.posteriors.coordinates.Coordinates`. Each column of the data is first
unbent: left as it is, or its logarithm taken, or its arsinh, whichever of these makes what a regression on the
parameters leaves of it most nearly normal (the likelihood of Box and Cox, Jacobian included). Then

.. math:: y \approx B f + a, \qquad w = R^{-1} (y - B f - a), \qquad R R^\top = \text{covariance of what is left},

with f the standardised parameters. A network learns how w differs from a standard normal given f. Columns of whole
numbers get uniform noise in [0, 1), anew in every epoch, so that a density exists.

References:
    | An analysis of transformations (Box & Cox, 1964)
    | https://doi.org/10.1111/j.2517-6161.1964.tb00553.x
    | A note on the evaluation of generative models, section 3.1 on dequantisation (Theis, van den Oord & Bethge, 2016)
    | https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_infer.posteriors.density.reduction import Reduction
from implicit_simulators import Simulator, unconstrained

IDENTITY, LOG, ARSINH = 0, 1, 2
GAIN = 0.05
"""Nats a row that another scale must be better by to be preferred to the data as they are."""


class Observables(nn.Module):
    r"""The maps of theta to f and of x to w, fitted to simulations.

    Args:
        simulator: Gives the prior's support, ``summarize`` and ``points``.
        theta: Parameters of the simulations, with shape (n, d).
        x: The simulations, with shape (n, \*event_shape), finite.
        bend: Whether columns may be seen on another scale; which is better is for the density to say.
        ridge: Ridge penalty of the regression, relative to n.
    """

    kind: Tensor
    unit: Tensor
    whole: Tensor
    location: Tensor
    scale: Tensor
    bounded: Tensor
    centre: Tensor
    width: Tensor
    slope: Tensor
    intercept: Tensor
    whiten: Tensor

    def __init__(
        self, simulator: Simulator, theta: Tensor, x: Tensor, *, bend: bool = True, ridge: float = 1e-4
    ) -> None:
        super().__init__()
        self.simulator = simulator
        self.points = simulator.points
        self.transform: Transform = unconstrained(simulator.prior)
        u = self.transform.inv(theta)
        seen = simulator.summarize(x).reshape(len(x) * self.points, -1)
        # points that are few numbers each need no reduction, and theta would have to be repeated for it
        self.reduction = None if self.points > 1 else Reduction(seen, u)
        raw = seen if self.reduction is None else self.reduction(seen)
        # bounded parameters are smoother as they are, the others where they are free
        bounded = _reach(theta) <= _reach(u)
        chosen = torch.where(bounded, theta, u)
        self.register_buffer("bounded", bounded)
        self.register_buffer("centre", chosen.mean(0))
        self.register_buffer("width", chosen.std(0).clamp_min(1e-12))
        f = self.features(u).repeat_interleave(self.points, 0)
        whole = (raw == raw.round()).all(0)
        self.register_buffer("whole", whole)
        shifted = torch.where(whole, raw + 0.5, raw)
        unit = torch.where(whole, torch.ones_like(shifted[0]), shifted.abs().median(0).values)
        self.register_buffer("unit", torch.where(unit > 0, unit, shifted.std(0).clamp_min(1e-12)))
        plain = torch.zeros(raw.shape[1], dtype=torch.long, device=raw.device)
        self.register_buffer("kind", self._kinds(shifted, f, ridge) if bend else plain)
        y = self.unbend(shifted)
        spread = y.std(0)
        self.register_buffer("location", y.mean(0))
        self.register_buffer("scale", torch.where(spread > 1e-6 * y.abs().amax(0), spread, torch.ones_like(spread)))
        slope, intercept, residual = _regression((y - self.location) / self.scale, f, ridge)
        covariance = residual.T @ residual / len(residual)
        scale = covariance.diagonal().clamp_min(1e-8)
        root = torch.linalg.cholesky(covariance + (1e-6 * scale + 1e-8).diag())
        whiten = torch.linalg.inv(root)
        for name, value in (("slope", slope), ("intercept", intercept), ("whiten", whiten)):
            self.register_buffer(name, value.to(raw.dtype))

    def rows(self, x: Tensor) -> Tensor:
        """The points of simulations x (n, ...), with shape (n * points, m)."""
        seen = self.simulator.summarize(x).reshape(len(x) * self.points, -1)
        return seen if self.reduction is None else self.reduction(seen)

    def features(self, u: Tensor) -> Tensor:
        r"""F with the shape of u (\*, d)."""
        return (torch.where(self.bounded, self.transform(u), u) - self.centre) / self.width

    def unbend(self, raw: Tensor) -> Tensor:
        """The data on the scale of each column."""
        logarithm = torch.where(raw > 0, raw, self.unit * 1e-9).log()
        arsinh = torch.asinh(raw / self.unit)
        return torch.where(self.kind == LOG, logarithm, torch.where(self.kind == ARSINH, arsinh, raw))

    def noisy(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Data with uniform noise added where they are whole numbers."""
        noise = torch.rand(raw.shape, generator=generator, device=raw.device, dtype=raw.dtype)
        return torch.where(self.whole, raw + noise, raw)

    def free(self, raw: Tensor, f: Tensor) -> Tensor:
        """W for raw data and features, both with the same leading shape."""
        y = (self.unbend(raw) - self.location) / self.scale - f @ self.slope.T - self.intercept
        return y @ self.whiten.T

    def log_det(self, raw: Tensor) -> Tensor:
        r""":math:`\log |\det \partial w / \partial x|`, with shape (\*,) for data with shape (\*, m)."""
        logarithm = -torch.where(raw > 0, raw, self.unit * 1e-9).log()
        arsinh = -0.5 * (raw.square() + self.unit.square()).log()
        bent = torch.where(self.kind == LOG, logarithm, torch.where(self.kind == ARSINH, arsinh, torch.zeros_like(raw)))
        return (bent - self.scale.log()).sum(-1) + self.whiten.diagonal().log().sum()

    def _kinds(self, raw: Tensor, f: Tensor, ridge: float) -> Tensor:
        scores = []
        for kind in (IDENTITY, LOG, ARSINH):
            self.kind = torch.full((raw.shape[1],), kind, device=raw.device)
            y = self.unbend(raw).double()
            log_jacobian = {
                IDENTITY: torch.zeros_like(y),
                LOG: -raw.double().clamp_min(1e-30).log(),
                ARSINH: -0.5 * torch.log(raw.double().square() + self.unit.double().square()),
            }[kind]
            _, _, residual = _regression(y, f, ridge)
            variance = residual.square().mean(0).clamp_min(1e-30)
            score = log_jacobian.mean(0) - 0.5 * variance.log()
            if kind == LOG:
                score = torch.where((raw > 0).all(0) & ~self.whole, score, -torch.inf)
            scores.append(score + (GAIN if kind == IDENTITY else 0.0))
        del self.kind
        return torch.stack(scores).argmax(0)


def _reach(values: Tensor) -> Tensor:
    """How many standard deviations the farthest value of each column lies from the mean."""
    return (values - values.mean(0)).abs().amax(0) / values.std(0).clamp_min(1e-12)


def _regression(y: Tensor, f: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slope (m, k), intercept (m,) and residuals (n, m) of a ridge regression, in double precision."""
    y, f = y.double(), f.double()
    mean_f, mean_y = f.mean(0), y.mean(0)
    centred = f - mean_f
    gram = centred.T @ centred + ridge * len(f) * torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
    slope = torch.linalg.solve(gram, centred.T @ (y - mean_y)).T
    intercept = mean_y - slope @ mean_f
    return slope, intercept, y - f @ slope.T - intercept
