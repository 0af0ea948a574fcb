"""What a problem with a known density ratio is: samples of two distributions, and the exact log p(x)/q(x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_samples
from implicit_estimators.seeds import Seed, resolve_seed, stream

Draw = Callable[[int, torch.Generator], Tensor]
"""``draw(n, generator)``: n rows in float64."""


@dataclass(frozen=True)
class Problem:
    r"""Two distributions, p and q, that can be drawn from and whose ratio is known.

    Attributes:
        name: Name in ``PROBLEMS``.
        dimension: Columns of the samples.
        kl: :math:`\mathrm{KL}(p \| q) = \mathbb{E}_p[\log p/q]` in nats, in closed form or by quadrature that is exact
            to rounding. Where p is a joint distribution and q the product of its marginals: their mutual information.
        description: What p and q are, in one line.
        source: Where the problem is from.
        draw_p: Draws rows of p in float64.
        draw_q: Draws rows of q in float64.
        exact: The log-ratio at float64 points of shape (n, d).
        split: For joint distributions against the product of their marginals, how many of the columns, the first ones,
            are the first variable; None for others.
        dtype: Of the samples: float64 where float32 would round what matters.
    """

    name: str
    dimension: int
    kl: float
    description: str
    source: str
    draw_p: Draw = field(repr=False)
    draw_q: Draw = field(repr=False)
    exact: Callable[[Tensor], Tensor] = field(repr=False)
    split: int | None = None
    dtype: torch.dtype = torch.float32

    def samples(self, n: int, m: int, seed: Seed = None) -> tuple[Tensor, Tensor]:
        """Draw n rows of p and m of q, independently: more rows of one change nothing in the other.

        Args:
            n: Rows of p.
            m: Rows of q.
            seed: An int, a ``torch.Generator`` or None.

        Returns:
            Samples of p and of q, with shapes (n, d) and (m, d).

        Raises:
            ValueError: If n or m is negative.
        """
        if min(n, m) < 0:
            raise ValueError(f"n, m: expected numbers of rows; got {n} and {m}")
        first, second = torch.randint(2**63 - 1, (2,), generator=stream(resolve_seed(seed), "draws")).tolist()
        p = self.draw_p(n, torch.Generator().manual_seed(first))
        q = self.draw_q(m, torch.Generator().manual_seed(second))
        return p.to(self.dtype), q.to(self.dtype)

    def log_ratio(self, x: Any) -> Tensor:
        """Log p(x)/q(x), in nats: minus infinity where p is zero and q is not.

        Args:
            x: Points with shape (n, d), or (n,) for d = 1.

        Returns:
            Log-ratios with shape (n,), in float64.

        Raises:
            TypeError: If ``x`` is not numeric.
            ValueError: If ``x`` has another width, or holds NaN or infinity.
        """
        return self.exact(as_samples(x, "x", rows=0, width=self.dimension).double())
