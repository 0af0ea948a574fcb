r"""Neural heteroscedastic adjustment: a curve in place of a line, and a spread that depends on the summaries too.

.. math:: \phi_i^* = \hat m(s_o) + \frac{\hat\sigma(s_o)}{\hat\sigma(s_i)} \left( \phi_i - \hat m(s_i) \right),

with :math:`\hat m` and :math:`\log \hat\sigma^2` regressions by small networks: the first of :math:`\phi`, the second
of the logarithm of the first one's squared residuals, both with Epanechnikov weights. A curve fits farther from the
observation than a line does, so more simulations may be kept, and each gives a draw of its own.

References:
    | Non-linear regression models for approximate Bayesian computation (Blum & François, 2010)
    | https://doi.org/10.1007/s11222-009-9116-0
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from implicit_infer.abc.adjustment.base import Adjustment, enough, epanechnikov, moved
from implicit_infer.abc.regression import Regression, Training
from implicit_simulators import Stream


@dataclass(frozen=True)
class Neural(Adjustment):
    """Networks for the mean and the log variance (Blum & François, 2010).

    The paper has one hidden layer and penalises weights; here networks also stop by what they hold out.

    Args:
        heteroscedastic: Whether the residuals are rescaled, as in the paper.
        training: How networks are trained.
    """

    heteroscedastic: bool = True
    training: Training = field(default_factory=lambda: Training(hidden=(32, 32), members=3))

    def adjust(
        self,
        phi: Tensor,
        features: Tensor,
        observed: Tensor,
        distances: Tensor,
        log_weights: Tensor,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Adjustment`."""
        weights = epanechnikov(distances, log_weights)
        enough(weights, 0, "neural")
        fits = 0

        def regressed(targets: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal fits
            fits += 1
            fit = Regression(
                features, targets, weights, ridge=1e-3, training=self.training, seed=Stream.of(seed, fits, "train").key
            )
            return fit(features), fit(observed[None])[0]

        return moved(phi.double(), regressed, self.heteroscedastic), weights.log()

    def doubts(self, accepted: int, summaries: int) -> str:
        """What to say of few simulations, which networks learn nothing from."""
        return (
            ""
            if accepted >= 200
            else f"neural adjustment learns from {accepted} simulations; keep at least 200, or take a linear one"
        )
