r"""Sinkhorn distance of data sets: optimal transport made smooth, so that matrix products find it.

.. math:: \min_P \langle P, C \rangle + \epsilon \, \mathrm{KL}(P \,\|\, 1/m^2), \qquad C_{ij} = |x_i - y_j|^p,

over plans P with equal marginals; the distance is :math:`\langle P, C \rangle^{1/p}` at the optimum (Cuturi, 2013),
which falls to the Wasserstein distance with :math:`\epsilon`. The debiased one takes half of each set's distance from
itself away, so that equal sets are at 0 (Feydy et al., 2019).

References:
    | Sinkhorn distances: lightspeed computation of optimal transport (Cuturi, 2013)
    | https://arxiv.org/abs/1306.0895
    | Interpolating between optimal transport and MMD using Sinkhorn divergences (Feydy et al., 2019)
    | https://arxiv.org/abs/1810.08278
    | Stabilized sparse scaling algorithms for entropy regularized transport problems (Schmitzer, 2019)
    | https://arxiv.org/abs/1610.06519
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.discrepancies.base import Compare, SetDistance

ABSORB = 10
"""Scalings between two times that they are taken into the potentials, before anything overflows."""


@dataclass(frozen=True)
class Sinkhorn(SetDistance):
    r"""Wasserstein distance smoothed by entropy.

    Args:
        p: Order of the distance, at least 1.
        epsilon: Weight of the entropy in units of the median cost between observed points. Bernton et al. (2019) take
            0.05; the smaller it is, the more iterations are needed.
        iterations: Scalings of each side. They are of a fixed number, so that all sets are treated alike.
        debiased: Whether the distances of the sets from themselves are taken away, at three times the cost.

    Raises:
        ValueError: If a setting is out of its range.
    """

    p: float = 1.0
    epsilon: float = 0.05
    iterations: int = 100
    debiased: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.p >= 1:
            raise ValueError(f"p: expected a number of at least 1; got {self.p}")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: expected a positive number; got {self.epsilon}")
        if self.iterations < 1:
            raise ValueError(f"iterations: expected a positive int; got {self.iterations}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        own_costs = self._costs(observed[None], observed)
        typical = own_costs.median()
        typical = torch.where(typical > 0, typical, own_costs.mean().clamp_min(torch.finfo(observed.dtype).tiny))
        epsilon = float(self.epsilon * typical)
        own = transport_cost(own_costs, epsilon, self.iterations) if self.debiased else None

        def compare(sets: Tensor) -> Tensor:
            work = transport_cost(self._costs(sets, observed), epsilon, self.iterations)
            if own is not None:
                work = work - 0.5 * (transport_cost(self._costs(sets, sets), epsilon, self.iterations) + own)
            return work.clamp_min(0) ** (1 / self.p)

        return compare

    def _costs(self, x: Tensor, y: Tensor) -> Tensor:
        distances = torch.cdist(x, y.expand(len(x), -1, -1), compute_mode="donot_use_mm_for_euclid_dist")
        return distances if self.p == 1 else distances**self.p

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return 3 * m * m


def transport_cost(costs: Tensor, epsilon: float, iterations: int) -> Tensor:
    r"""Cost :math:`\langle P, C \rangle` of the regularised plan between equal weights, for each of several matrices.

    The kernel is :math:`\exp(-(C - f - g) / \epsilon)` about potentials that start at the row's and column's smallest
    costs and take in the scalings every few steps, so that each row and column keeps an entry near 1.

    Args:
        costs: With shape (b, n, m), non-negative.
        epsilon: Weight of the entropy, in the costs' units.
        iterations: Scalings of each side.

    Returns:
        Costs with shape (b,).
    """
    n, m = costs.shape[1:]
    tiny = torch.finfo(costs.dtype).tiny
    f = costs.min(2).values
    g = (costs - f[:, :, None]).min(1).values
    kernel = _kernel(costs, f, g, epsilon)
    u, v = torch.ones_like(f), torch.ones_like(g)
    for i in range(1, iterations + 1):
        u = 1 / (n * torch.bmm(kernel, v[:, :, None])[:, :, 0].clamp_min(tiny))
        v = 1 / (m * torch.bmm(u[:, None], kernel)[:, 0].clamp_min(tiny))
        if i % ABSORB == 0 and i < iterations:
            f, g = f + epsilon * u.log(), g + epsilon * v.log()
            kernel = _kernel(costs, f, g, epsilon)
            u, v = torch.ones_like(f), torch.ones_like(g)
    plan = kernel.mul_(u[:, :, None]).mul_(v[:, None])
    return (plan * costs).sum((1, 2)) / plan.sum((1, 2))


def _kernel(costs: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    return ((f[:, :, None] + g[:, None] - costs) / epsilon).clamp_max(60).exp()
