"""What every regression adjustment is: accepted parameters in, parameters corrected to the observation out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_infer.abc.distances import inverse, robust_scale

ENOUGH = 5
"""Accepted simulations for each coefficient: of k on f coefficients a regression explains f / k of pure noise."""


Regressed = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From targets (k, d) to what a regression makes of them at each particle, (k, d), and at the observation, (d,)."""

FARTHEST = 3.0
"""The largest logarithm of a ratio of standard deviations that residuals are rescaled by."""


class Adjustment:
    """A way to adjust. Children are frozen dataclasses of their settings and write ``adjust``."""

    def adjust(
        self,
        phi: Tensor,
        features: Tensor,
        observed: Tensor,
        distances: Tensor,
        log_weights: Tensor,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Parameters as they would be if their simulations had hit the observation.

        Args:
            phi: Accepted parameters in unconstrained space, with shape (k, d).
            features: What is regressed on (``measure.regressors`` of their features), with shape (k, f).
            observed: The same of the observation, with shape (f,).
            distances: Distances to the observation, with shape (k,).
            log_weights: Log weights that the particles have already, with shape (k,).
            seed: Root of the random numbers, where there are any.

        Returns:
            Adjusted parameters (k, d), in double precision, and their log weights (k,).

        Raises:
            ValueError: If there are too few particles for the regression.
        """
        raise NotImplementedError(f"{type(self).__name__} must write adjust")

    def doubts(self, accepted: int, summaries: int) -> str:
        """What to say when a regression has few simulations for each summary; empty when it has enough."""
        if accepted >= ENOUGH * (summaries + 1):
            return ""
        return (
            f"linear adjustment regresses on {summaries} summaries from {accepted} simulations, which makes the "
            f"posterior too narrow; keep at least {ENOUGH * (summaries + 1)}"
        )


def moved(phi: Tensor, regressed: Regressed, heteroscedastic: bool) -> Tensor:
    r"""Parameters carried to the observation along a regression.

    .. math:: \phi_i^* = \hat m(s_o) + \frac{\hat\sigma(s_o)}{\hat\sigma(s_i)} \left(\phi_i - \hat m(s_i)\right),
        \qquad \log \hat\sigma^2(s) \approx \mathbb{E}\left[\log (\phi - \hat m(s))^2 \mid s\right],

    the second regression only where ``heteroscedastic`` (Blum & François, 2010); without it the ratio is 1. The bias of
    a mean of logarithms is the same at both places and cancels.

    Args:
        phi: Parameters with shape (k, d), float64.
        regressed: The regression.
        heteroscedastic: Whether residuals are rescaled.
    """
    fitted, target = regressed(phi)
    residuals = phi - fitted
    if heteroscedastic:
        squares = residuals.square()
        floor = 1e-6 * squares.mean(0).clamp_min(torch.finfo(squares.dtype).tiny)
        log_variance, at_observed = regressed((squares + floor).log())
        residuals = residuals * ((at_observed - log_variance) / 2).clamp(-FARTHEST, FARTHEST).exp()
    return target + residuals


def offsets(features: Tensor, observed: Tensor) -> Tensor:
    """Summaries less the observation's, in robust standard deviations; those that do not vary are left out; float64."""
    factor = inverse(robust_scale(features))
    return ((features - observed) * factor)[:, factor > 0].double()


def epanechnikov(distances: Tensor, log_weights: Tensor) -> Tensor:
    r"""Normalised weights times :math:`1 - (d / \delta)^2`, with :math:`\delta` the largest distance; float64."""
    near = distances.double().clamp_min(0)  # an unbiased discrepancy that is negative is as near as can be
    widest = near.max()
    kernel = 1 - (near / widest) ** 2 if widest > 0 else torch.ones_like(near)
    return log_weights.double().softmax(0) * kernel


def enough(weights: Tensor, summaries: int, name: str) -> None:
    """Raise ``ValueError`` unless more weights are positive than there are coefficients."""
    if int((weights > 0).sum()) <= summaries + 1:
        raise ValueError(
            f"adjust: {name} adjustment on {summaries} summaries needs more than {summaries + 2} accepted "
            f"simulations; got {len(weights)}: keep more, use fewer summaries, or adjust='none'"
        )
