r"""How a ratio is learned: losses of a network's outputs at samples of p and q, least where they tell :math:`\log p/q`.

All have the form :math:`\mathbb{E}_p[a(v)] + \mathbb{E}_q[b(v)]` of a free output v, and :math:`v \mapsto \log r`
where the minimum lies: the log and Brier scores of the classifier :math:`D = \sigma(v)`, which are bounded in their
gradients and safe everywhere, and the variational bounds of the f-divergences, whose gradients grow like r.

References:
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
    | https://arxiv.org/abs/1610.03483
    | Linking losses for density ratio and class-probability estimation (Menon and Ong, 2016)
    | https://proceedings.mlr.press/v48/menon16.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from implicit_estimators.divergences import DIVERGENCES, Divergence, divergence, softplus


@dataclass(frozen=True)
class RatioLoss:
    r"""A loss :math:`2 \pi \, \mathbb{E}_p[a(v)] + 2 (1 - \pi) \, \mathbb{E}_q[b(v)]`.

    A child sets ``name`` and writes ``at_p`` (a) and ``at_q`` (b).

    Args:
        prior: The weight :math:`\pi` of p, in (0, 1). With :math:`\pi = n_p / (n_p + n_q)` every sample counts the
            same, which wastes none when the sets differ in size; the output is then :math:`\log r + \log \frac{\pi}{1
            - \pi}`, and ``log_ratio`` takes the offset off again.

    Raises:
        ValueError: If ``prior`` is not inside (0, 1).
    """

    prior: float = 0.5

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise ValueError(f"prior: expected a number inside (0, 1); got {self.prior}")

    def at_p(self, output: Tensor) -> Tensor:
        """The loss of each output at a sample of p, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write at_p(output)")

    def at_q(self, output: Tensor) -> Tensor:
        """The loss of each output at a sample of q, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write at_q(output)")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """The scalar that a critic minimises.

        Args:
            output_p: The network's outputs at samples of p, any shape.
            output_q: Its outputs at samples of q; the number may differ.
            weights_p: Weights of the samples of p with the shape of ``output_p``; only their proportions matter.
            weights_q: The same for q.

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a set is empty, or weights have another shape than their outputs.
        """
        return 2 * self.prior * _mean(self.at_p(output_p), weights_p, "p") + 2 * (1 - self.prior) * _mean(
            self.at_q(output_q), weights_q, "q"
        )

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log p/q as the output tells it, elementwise."""
        return output - math.log(self.prior / (1 - self.prior))


def _mean(values: Tensor, weights: Tensor | None, side: str) -> Tensor:
    if values.numel() == 0:
        raise ValueError(f"output_{side}: expected outputs of at least one sample; got shape {tuple(values.shape)}")
    if weights is None:
        return values.mean()
    if weights.shape != values.shape:
        raise ValueError(f"weights_{side}: expected shape {tuple(values.shape)}; got {tuple(weights.shape)}")
    return (weights * values).sum() / weights.sum()


@dataclass(frozen=True)
class LogLoss(RatioLoss):
    r"""The log score of the classifier :math:`D = \sigma(v)`: logistic regression, and the discriminator of a GAN.

    .. math:: \mathbb{E}_p[-\log D] + \mathbb{E}_q[-\log(1 - D)] =
        \mathbb{E}_p[\operatorname{softplus}(-v)] + \mathbb{E}_q[\operatorname{softplus}(v)]

    With even weights its least value is :math:`\log 4 - 2 \, JS(p, q)`.
    """

    name = "log"

    def at_p(self, output: Tensor) -> Tensor:
        """Minus log D."""
        return softplus(-output)

    def at_q(self, output: Tensor) -> Tensor:
        """Minus log(1 - D)."""
        return softplus(output)


@dataclass(frozen=True)
class BrierLoss(RatioLoss):
    r"""The Brier score of the classifier :math:`D = \sigma(v)`.

    .. math:: \mathbb{E}_p[(1 - D)^2] + \mathbb{E}_q[D^2]

    A badly wrong output costs at most 1 and its gradient decays like :math:`e^{-|v|}`: robust to outliers, slow to
    correct gross errors. Squares are taken of log D, so that the decaying gradient is right to the last digit and not
    0. With even weights its least value is :math:`\int p q / (p + q)`.
    """

    name = "brier"

    def at_p(self, output: Tensor) -> Tensor:
        """The square of 1 - D."""
        return (2 * logsigmoid(-output)).exp()

    def at_q(self, output: Tensor) -> Tensor:
        """The square of D."""
        return (2 * logsigmoid(output)).exp()


@dataclass(frozen=True)
class FDivergenceLoss(RatioLoss):
    r"""Minus the variational bound of an f-divergence, as in the f-GAN.

    .. math:: -\mathbb{E}_p[T] + \mathbb{E}_q[f^*(T)], \quad T = f'(e^v)

    The least value is :math:`-D_f(p \| q)`, at :math:`v = \log r`. The bounds of KL, reverse KL, Pearson and Jeffreys
    have gradients like r or 1/r: clip them, and prefer ``LogLoss`` unless the bound itself is wanted. The step critic
    of total variation tells only where p > q: it can be trained, but ``log_ratio`` refuses.

    Args:
        divergence: A name in ``DIVERGENCES`` or a divergence.

    Raises:
        ValueError: If there is no such divergence, or ``prior`` is not 1/2 (a bound has no weights).
    """

    divergence: str | Divergence = "kl"

    name = "f-divergence"

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: an f-divergence bound weighs p and q evenly (0.5); got {self.prior}")
        object.__setattr__(self, "divergence", divergence(self.divergence))

    @property
    def _divergence(self) -> Divergence:
        return divergence(self.divergence)

    def at_p(self, output: Tensor) -> Tensor:
        """Minus T."""
        return -self._divergence.activation(output)

    def at_q(self, output: Tensor) -> Tensor:
        """The conjugate at T."""
        return -self._divergence.generator_integrand(output)

    def log_ratio(self, output: Tensor) -> Tensor:
        """The output itself.

        Raises:
            ValueError: If the divergence's critic does not determine the ratio.
        """
        if not self._divergence.identifies_ratio:
            raise ValueError(f"loss: the critic of {self._divergence.name!r} tells where p > q, not the ratio p/q")
        return output


RATIO_LOSSES = ("log", "brier", *DIVERGENCES)
"""Names that :func:`ratio_loss` knows."""


def ratio_loss(name: str | RatioLoss, prior: float = 0.5) -> RatioLoss:
    """The ratio loss called ``name``, with the weight ``prior`` of p where the loss has one.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, RatioLoss):
        return name
    if name == "log":
        return LogLoss(prior)
    if name == "brier":
        return BrierLoss(prior)
    if name in DIVERGENCES:
        return FDivergenceLoss(divergence=name)
    raise ValueError(f"loss: expected one of {', '.join(RATIO_LOSSES)}; got {name!r}")
