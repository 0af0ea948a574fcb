r"""How a model is moved, given the log-ratio (or a critic's logits) at its own samples.

Let :math:`x = g_\theta(z)` be samples of the model q and :math:`s(x) = \log p/q` as a critic tells it. Each loss here
is a function of s(x), and its gradient must flow through the *samples* only: freeze the critic's parameters, not its
input. Any of them goes with any way of having learned the critic (``ratio_losses``).

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014)
    | https://arxiv.org/abs/1406.2661
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
    | https://arxiv.org/abs/1610.03483
"""

from __future__ import annotations

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.generator_losses.base import GeneratorLoss
from implicit_estimators.generator_losses.divergence import DivergenceLoss
from implicit_estimators.generator_losses.importance import MaximumLikelihood
from implicit_estimators.generator_losses.linear import LeastSquares, RaiseCritic
from implicit_estimators.generator_losses.mirrored import Exponential, NonSaturating, Saturating
from implicit_estimators.generator_losses.relativistic import Relativistic, RelativisticAverage
from implicit_estimators.names import unknown

_LOSSES: dict[str, GeneratorLoss] = {
    "saturating": Saturating(),
    "non-saturating": NonSaturating(),
    **{name: DivergenceLoss(name) for name in DIVERGENCES},
    "maximum-likelihood": MaximumLikelihood(),
    "exponential": Exponential(),
    "least-squares": LeastSquares(),
    "critic": RaiseCritic(),
    "relativistic": Relativistic(),
    "relativistic-average": RelativisticAverage(),
}

GENERATOR_LOSSES = tuple(_LOSSES)
"""Names that :func:`generator_loss` knows."""


def generator_loss(name: str | GeneratorLoss) -> GeneratorLoss:
    """The generator loss called ``name``; the name of a divergence means ``DivergenceLoss`` of it.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, GeneratorLoss):
        return name
    if name not in _LOSSES:
        raise unknown(name, GENERATOR_LOSSES, "loss")
    return _LOSSES[name]


__all__ = [
    "GENERATOR_LOSSES",
    "DivergenceLoss",
    "Exponential",
    "GeneratorLoss",
    "LeastSquares",
    "MaximumLikelihood",
    "NonSaturating",
    "RaiseCritic",
    "Relativistic",
    "RelativisticAverage",
    "Saturating",
    "generator_loss",
]
