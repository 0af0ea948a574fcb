r"""Sinkhorn divergence: entropic optimal transport, less what each law costs against itself.

.. math:: S_\epsilon(p, q) = OT_\epsilon(p, q) - \tfrac12 OT_\epsilon(p, p) - \tfrac12 OT_\epsilon(q, q), \quad
    OT_\epsilon(p, q) = \min_\pi \mathbb{E}_\pi |x - y|^k + \epsilon \, KL(\pi \| p \otimes q)

It is 0 only if p = q, tends to :math:`W_k^k` as :math:`\epsilon \to 0` and to the energy distance (k = 1; half of it)
or the squared distance of means (k = 2) as :math:`\epsilon \to \infty`.

The dual potentials f, g solve :math:`f(x) = -\epsilon \log \mathbb{E}_q \exp((g(y) - |x - y|^k) / \epsilon)` and the
mirror image of it. By the envelope theorem the gradient of :math:`OT_\epsilon` in a sample is that of its potential
there: the iterations themselves are never differentiated.

Conventions differ. geomloss has the cost :math:`|x - y|^k / k` and :math:`\epsilon = \text{blur}^k`: its value at
``blur`` times k is ours at :math:`\epsilon = k \, \text{blur}^k`. POT regularises by the entropy of the plan, which has
the same plan, and its functions return :math:`\mathbb{E}_\pi |x - y|^k` alone: ``Transport.cost`` here.

References:
    | Learning Generative Models with Sinkhorn Divergences (Genevay, Peyré and Cuturi, 2018)
    | https://arxiv.org/abs/1706.00292
    | Interpolating between Optimal Transport and MMD using Sinkhorn Divergences (Feydy et al., 2019)
    | https://arxiv.org/abs/1810.08278
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.discrepancies.scaling import Potentials, solve
from implicit_estimators.inputs import as_pair
from implicit_estimators.kernels import squared_distances
from implicit_estimators.seeds import Seed, generator


@dataclass(frozen=True)
class Transport:
    r"""An entropic transport plan between two sample sets.

    Attributes:
        value: :math:`OT_\epsilon`, the cost of the plan with its entropy.
        cost: :math:`\mathbb{E}_\pi |x - y|^k`, the cost of the plan alone.
        plan: The plan, with shape (n, m) and sum 1.
        first: The potential f at the samples of x, with shape (n,).
        second: The potential g at the samples of y, with shape (m,).
        error: How far the plan's weights of x are from equal, summed.
        iterations: Iterations made.
        converged: Whether ``error`` is below the tolerance.
    """

    value: Tensor
    cost: Tensor
    plan: Tensor
    first: Tensor
    second: Tensor
    error: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class SinkhornDivergence:
    r"""Sinkhorn divergence of two sample sets; time and memory grow with n m.

    Args:
        epsilon: The regularisation, in units of :math:`|x - y|^k`: detail below :math:`\epsilon^{1/k}` is not seen, and
            the number of iterations grows like the largest cost over it. :meth:`placed` takes a share of the median.
        power: k, 1 or 2.
        iterations: The most iterations of each of the three transport problems.
        tolerance: Iterations stop where the plan's weights of x differ from equal by less than this in all.
        debiased: False for :math:`OT_\epsilon` alone, which is not 0 where p = q and shrinks what descends it.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> round(float(SinkhornDivergence(epsilon=0.1).divergence(x, x + 3)), 3)
        9.0
    """

    epsilon: float = 0.1
    power: int = 2
    iterations: int = 500
    tolerance: float = 1e-3
    debiased: bool = True

    name: ClassVar[str] = "sinkhorn"

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: expected a positive number; got {self.epsilon}")
        if self.power not in (1, 2):
            raise ValueError(f"power: expected 1 or 2; got {self.power}")
        if self.iterations < 1:
            raise ValueError(f"iterations: expected a positive int; got {self.iterations}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a number not below 0; got {self.tolerance}")

    @classmethod
    def placed(
        cls, x: Any, y: Any, *, share: float = 0.05, power: int = 2, seed: Seed = 0, **settings: Any
    ) -> SinkhornDivergence:
        """With ``epsilon`` fixed at a share of the median cost between some samples of x and of y.

        Args:
            x: Samples with shape (n, d).
            y: Samples with shape (m, d).
            share: The share.
            power: See the class.
            seed: Seed of the at most 1,000 samples of each that the median is taken of.
            **settings: The other arguments of the class.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused, or all coincide.
        """
        x, y = as_pair(x, y, ("x", "y"))
        draw = generator(seed, x.device)
        x, y = (s.detach()[torch.randperm(len(s), generator=draw, device=s.device)[:1000]] for s in (x, y.to(x)))
        costs = _costs(x, y, power)
        middle = float(costs.median()) or float(costs.mean())
        if not middle:
            raise ValueError("x, y: expected samples that do not all coincide")
        return cls(epsilon=share * middle, power=power, **settings)

    def divergence(self, x: Any, y: Any) -> Tensor:
        """The divergence of two sample sets.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, once differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``).

        Warns:
            UserWarning: If iterations ran out; each transport cost is then a lower bound.
        """
        x, y = as_pair(x, y, ("x", "y"))
        value, error = self.unchecked(x, y.to(x))
        if not error <= self.tolerance:
            warnings.warn(
                f"sinkhorn: after {self.iterations} iterations the plan's weights are off by {float(error):.1e} in all;"
                f" expected {self.tolerance:.1e}. More iterations or a larger epsilon than {self.epsilon:.3g} help",
                stacklevel=2,
            )
        return value

    def unchecked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`divergence` of samples that are known to be finite, and the largest error; nothing is warned of.

        Args:
            x: Samples with shape (n, d).
            y: Samples with shape (m, d), with the dtype and device of ``x``.

        Returns:
            The divergence and, without gradient, how far the plans' weights are off; two scalars.
        """
        return _Divergence.apply(x, y, self)

    def transport(self, x: Any, y: Any) -> Transport:
        """The plan between two sample sets, without gradient.

        Args:
            x: Samples with shape (n, d) or (n,).
            y: Samples with shape (m, d) or (m,).

        Returns:
            Plan, potentials, values, and whether the iterations converged.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``).
        """
        x, y = as_pair(x, y, ("x", "y"))
        with torch.no_grad():
            costs = _costs(x, y.to(x), self.power)
            found = self._solve(costs)
            plan = found.density(costs) / costs.numel()
            return Transport(
                found.value().to(x.dtype),
                (plan * costs).sum(),
                plan,
                found.first,
                found.second,
                found.error,
                found.iterations,
                found.error <= self.tolerance,
            )

    def _solve(self, costs: Tensor, symmetric: bool = False) -> Potentials:
        return solve(costs, self.epsilon, self.iterations, self.tolerance, symmetric)


class _Divergence(torch.autograd.Function):
    """The divergence, with its gradient from the potentials."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, settings: SinkhornDivergence) -> tuple[Tensor, Tensor]:
        """The value; the gradients are made on the way, while the plans are at hand."""
        power = settings.power
        centre = y.mean(0)
        x, y = x - centre, y - centre
        want_x, want_y = ctx.needs_input_grad[:2]
        costs = _costs(x, y, power)
        found = settings._solve(costs)
        value, error = found.value(), found.error
        gradient_x = gradient_y = None
        if want_x or want_y:
            plan = found.density(costs)
            slopes = plan if power == 2 else _over_distance(plan, costs)
            if want_x:
                gradient_x = _pull(x, y, slopes, plan.sum(1), power)
            if want_y:
                gradient_y = _pull(y, x, slopes.T, plan.sum(0), power)
        if settings.debiased:
            for samples, wanted, gradient in ((x, want_x, gradient_x), (y, want_y, gradient_y)):
                costs = _costs(samples, samples, power).fill_diagonal_(0)
                found = settings._solve(costs, symmetric=True)
                value, error = value - found.value() / 2, max(error, found.error)
                if wanted and gradient is not None:
                    plan = found.density(costs)
                    slopes = plan if power == 2 else _over_distance(plan, costs)
                    gradient -= _pull(samples, samples, slopes, plan.sum(1), power)
        ctx.save_for_backward(gradient_x, gradient_y)
        told = torch.tensor(error, dtype=torch.float64)
        ctx.mark_non_differentiable(told)
        return value.to(x.dtype), told

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The stored gradients, scaled."""
        x, y = (None if gradient is None else gradient * upstream for gradient in ctx.saved_tensors)
        return x, y, None


def _costs(x: Tensor, y: Tensor, power: int) -> Tensor:
    if power == 2:
        return squared_distances(x, y)
    # a root magnifies the rounding of small squares
    return squared_distances(x.double(), y.double()).sqrt_().to(x.dtype)


def _over_distance(plan: Tensor, distances: Tensor) -> Tensor:
    tiny = torch.finfo(plan.dtype).tiny
    return (plan / distances.clamp(min=tiny)).masked_fill_(distances <= 1e-6 * distances.max(), 0)


def _pull(x: Tensor, y: Tensor, slopes: Tensor, mass: Tensor, power: int) -> Tensor:
    """Gradient of the potential at each x_i, over n: the mean over its share of the plan of the cost's gradient."""
    total = x * slopes.sum(1)[:, None] - slopes @ y
    return total * (power / len(x) / mass)[:, None]
