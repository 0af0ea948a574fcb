r"""For points in no order: one network of each point, a pool over them that forgets the order, and another network.

.. math:: e(\{x_1, \ldots, x_m\}) = \rho\left(\operatorname{pool}_i \phi(x_i), \; \log m\right)

Every function of a set has this form (Zaheer et al.), and every posterior given independent draws depends on them as a
set. The pool may be the mean, the largest value, or means weighted by attention, in which learned queries choose
(Lee et al.). Where some points may be absent, the pool is over those that are there, and their number m, on which a
posterior's width depends, is handed on.

References:
    | Deep sets (Zaheer et al., 2017)
    | https://arxiv.org/abs/1703.06114
    | Set transformer (Lee et al., 2019)
    | https://arxiv.org/abs/1810.00825
    | Likelihood-free inference of population structure and local adaptation (Chan et al., 2018), who first used
      exchangeable networks for posteriors
    | https://arxiv.org/abs/1802.06153
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.posteriors.embeddings.base import Embedding, entries

POOLS = ("mean", "max", "attention")
QUERIES = 4
"""Learned queries of the attention pool."""


class SetEmbedding(Embedding):
    r"""Deep sets over the points of x.

    Args:
        event_shape: Shape of one x: (m, \*point), or any other that ``points`` cuts into rows.
        outputs: Width of the outcome.
        points: How many points x holds, the rows of ``x.reshape(points, -1)``; the first axis if None.
        masked: Whether the last number of each point says if the point is there (1) or not (0).
        width: Width of the networks.
        pooling: One or more of "mean", "max" and "attention".
        seed: Seed of the initial weights.

    Raises:
        ValueError: If the points do not divide x, a pool is unknown, or a width is not positive.
    """

    name = "set"

    def __init__(
        self,
        event_shape: Sequence[int],
        outputs: int = 16,
        points: int | None = None,
        masked: bool = False,
        width: int = 64,
        pooling: str | Sequence[str] = ("mean", "max"),
        seed: Seed = None,
    ) -> None:
        pools = [pooling] if isinstance(pooling, str) else list(pooling)
        if not pools or not set(pools) <= set(POOLS):
            raise ValueError(f"pooling: expected some of {', '.join(POOLS)}; got {pooling!r}")
        if width < 1:
            raise ValueError(f"width: expected a positive int; got {width}")
        total, count = entries(event_shape), (event_shape or (1,))[0] if points is None else points
        if count < 1 or total % count or total // count <= masked:
            raise ValueError(f"points: expected a number that divides the {total} entries of x; got {count}")
        channels = total // count - masked
        made = {"points": count, "masked": masked, "width": width, "pooling": pools}
        super().__init__(event_shape, channels, outputs, **made)
        self.points, self.masked, self.pools = count, masked, pools
        root = resolve_seed(seed)
        self.each = MLP(channels, width, (width, width), activation="silu", residual=True, seed=root)
        with forked(root):
            self.queries = nn.Linear(width, QUERIES, bias=False) if "attention" in pools else None
        pooled = width * sum(QUERIES if pool == "attention" else 1 for pool in pools)
        hidden = (2 * width, width)
        self.together = MLP(pooled + 1, outputs, hidden, activation="silu", layer_norm=True, seed=root + 1)

    def forward(self, x: Tensor) -> Tensor:
        r"""Outcome with shape (n, outputs) for x with shape (n, \*event_shape)."""
        return self._pooled(self.each(self.standardise(self._arranged(x))), self._there(x))

    def _arranged(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(x), self.points, -1)
        return rows[..., :-1] if self.masked else rows

    def _there(self, x: Tensor) -> Tensor:
        """Which points are there, with shape (n, m)."""
        rows = x.reshape(len(x), self.points, -1)
        return rows[..., -1] > 0.5 if self.masked else torch.ones(rows.shape[:2], dtype=torch.bool, device=x.device)

    def _rows(self, x: Tensor) -> Tensor:
        return self._arranged(x)[self._there(x)]

    def _pooled(self, h: Tensor, there: Tensor) -> Tensor:
        """The set's outcome for points h (n, m, width), of which some are there (n, m)."""
        count = there.sum(1, keepdim=True).clamp_min(1).to(h)
        gone, seen = ~there[..., None], there.any(1, keepdim=True)
        parts = [(count / self.points).log()]
        for pool in self.pools:
            if pool == "mean":
                parts.append(h.masked_fill(gone, 0.0).sum(1) / count)
            elif pool == "max":
                parts.append(torch.where(seen, h.masked_fill(gone, torch.finfo(h.dtype).min).amax(1), 0.0))
            else:
                assert self.queries is not None
                score = self.queries(h).masked_fill(gone, torch.finfo(h.dtype).min).softmax(1)
                parts.append((score.transpose(1, 2) @ h).flatten(1))
        return self.together(torch.cat(parts, 1))
