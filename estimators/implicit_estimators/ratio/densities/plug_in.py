r"""A ratio of two fitted densities: what its children share, and the held-out likelihoods that tell them apart.

A classifier's log loss cannot choose between ratios of sets that hardly overlap: every one that is large enough
separates them. The likelihood of held-out rows under the two densities still can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_samples
from implicit_estimators.ratio.base import CHUNK, RatioEstimator
from implicit_estimators.ratio.densities.held_out import Pair

LARGEST = 1e30
"""Log-ratios beyond this are cut off, so that they are finite in float32."""

LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points of shape (n, d) to log p and log q there, each with shape (n,)."""


class PlugInRatio(RatioEstimator):
    r""":math:`\log r = \log \hat p - \log \hat q`. A child writes ``_log_densities`` in place of ``_log_ratio``.

    Attributes:
        held_out_log_densities: Log p at the rows of ``held_out`` that are of p, and log q at those of q, by densities
            that did not learn from the row in question, on the CPU.
    """

    held_out_log_densities: tuple[Tensor, Tensor]

    def _log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} must write _log_densities(x)")

    def _log_ratio(self, x: Tensor) -> Tensor:
        log_p, log_q = self._log_densities(x)
        return as_log_ratio(log_p - log_q).to(x.device)

    def log_densities(self, x: Any) -> tuple[Tensor, Tensor]:
        """Log p(x) and log q(x), in nats.

        Where columns are constant or repeated, densities are those along the directions that vary.

        Args:
            x: Points with shape (n, d), or (n,) for d = 1.

        Returns:
            Log p and log q, each with shape (n,) and dtype float64, on the device of ``x``.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            TypeError: If ``x`` is not numeric.
            ValueError: If ``x`` has another width than the samples had, or holds NaN or infinity.
        """
        self._check_fitted()
        points = as_samples(x, "x", rows=0, width=self.width)
        with torch.no_grad():
            parts = [self._log_densities(part) for part in points.split(CHUNK)]
        log_p, log_q = (torch.cat(side).double().to(points.device) for side in zip(*parts, strict=True))
        return log_p, log_q

    def _keep_held_out(self, p: Tensor, q: Tensor, outside: Sequence[Pair], fits: Sequence[LogDensities]) -> None:
        """Keep what each of ``fits`` says of the rows of its fold, which it did not learn from."""
        ratios, own = ([side.new_zeros(len(side), dtype=torch.float64) for side in (p, q)] for _ in range(2))
        for masks, log_densities in zip(outside, fits, strict=True):
            for which, (side, mask) in enumerate(zip((p, q), masks, strict=True)):
                both = log_densities(side[mask])
                ratios[which][mask], own[which][mask] = both[0] - both[1], both[which]
        self.held_out = (p.cpu(), q.cpu())
        self.held_out_log_ratio = (as_log_ratio(ratios[0]).cpu(), as_log_ratio(ratios[1]).cpu())
        self.held_out_log_densities = (own[0].cpu(), own[1].cpu())

    def _held_out_state(self) -> dict[str, Tensor]:
        return {f"held_out_log_densities.{side}": self.held_out_log_densities[i] for i, side in enumerate("pq")}

    def _restore_held_out(self, tensors: dict[str, Tensor]) -> None:
        log_p, log_q = (tensors[f"held_out_log_densities.{side}"].cpu() for side in "pq")
        self.held_out_log_densities = (log_p, log_q)


def as_log_ratio(values: Tensor) -> Tensor:
    """``values`` as finite float32."""
    return values.clamp(-LARGEST, LARGEST).float()
