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

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from implicit_estimators.divergences import DIVERGENCES, Divergence, divergence, softplus


@dataclass(frozen=True)
class GeneratorLoss:
    """A loss of the log-ratio at the model's samples. A child sets ``name`` and writes ``loss``."""

    name: ClassVar[str]

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """The scalar that the model minimises.

        Args:
            log_ratio: Log p/q (or a critic's output) at the model's samples, any shape.
            at_data: The same at samples of the data, for losses that compare both (relativistic ones).

        Returns:
            The loss, with shape ().
        """
        raise NotImplementedError(f"{type(self).__name__} must write loss(log_ratio)")


@dataclass(frozen=True)
class Saturating(GeneratorLoss):
    r"""The minimax loss :math:`\mathbb{E}_q[\log(1 - D)] = -\mathbb{E}_q[\operatorname{softplus}(s)]`.

    Its gradient in s is :math:`-\sigma(s)`, which vanishes where the critic is sure (s far below 0): at the optimal
    critic it descends twice the Jensen-Shannon divergence, and that has no slope for distributions that do not
    overlap.
    """

    name = "saturating"

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """Minus the mean of softplus(s)."""
        return -softplus(log_ratio).mean()


@dataclass(frozen=True)
class NonSaturating(GeneratorLoss):
    r"""The loss in general use, :math:`\mathbb{E}_q[-\log D] = \mathbb{E}_q[\operatorname{softplus}(-s)]`.

    Its gradient in s is :math:`-\sigma(-s)`, which tends to -1 where the critic is sure. At the optimal critic it
    descends :math:`KL(q \| p) - 2 JS(p, q) = 2 \, KL(\frac{p + q}{2} \| p)`.
    """

    name = "non-saturating"

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """The mean of softplus(-s)."""
        return softplus(-log_ratio).mean()


@dataclass(frozen=True)
class DivergenceLoss(GeneratorLoss):
    r"""An f-divergence :math:`D_f(p \| q) = \mathbb{E}_q[f(r)]`, with the gradient of the divergence itself.

    The value is the mean of f(r). Its gradient along the samples with r held fixed would be wrong, for q is in r as
    well: for KL it points away from the data. What flows back is therefore the gradient of :math:`h(r) = f(r) - r
    f'(r)`, which is exact at the true ratio (``Divergence.generator_integrand``).

    The slope of h in s is :math:`-r^2 f''(r)`: -r for KL (no slope where the model is far from the data; only
    covering it counts), -1 for reverse KL (a full slope everywhere), in between for the others.

    Args:
        divergence: A name in ``DIVERGENCES`` or a divergence.

    Raises:
        ValueError: If there is no such divergence.
    """

    divergence: str | Divergence = "kl"

    name = "divergence"

    def __post_init__(self) -> None:
        object.__setattr__(self, "divergence", divergence(self.divergence))

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """The mean of f(r), with the gradient of the mean of h(r)."""
        chosen = divergence(self.divergence)
        descended = chosen.generator_integrand(log_ratio)
        return (chosen.f(log_ratio.detach()) + descended - descended.detach()).mean()


GENERATOR_LOSSES = ("saturating", "non-saturating", *DIVERGENCES)
"""Names that :func:`generator_loss` knows."""


def generator_loss(name: str | GeneratorLoss) -> GeneratorLoss:
    """The generator loss called ``name``; the name of a divergence means ``DivergenceLoss`` of it.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, GeneratorLoss):
        return name
    if name == "saturating":
        return Saturating()
    if name == "non-saturating":
        return NonSaturating()
    if name in DIVERGENCES:
        return DivergenceLoss(name)
    raise ValueError(f"loss: expected one of {', '.join(GENERATOR_LOSSES)}; got {name!r}")
