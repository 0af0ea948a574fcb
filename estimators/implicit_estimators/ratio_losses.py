r"""How a ratio is learned: losses of a network's outputs at samples of p and q, least where they tell :math:`\log p/q`.

Most have the form :math:`\mathbb{E}_p[a(v)] + \mathbb{E}_q[b(v)]` of a free output v, and :math:`v \mapsto \log r`
where the minimum lies: the log and Brier scores of the classifier :math:`D = \sigma(v)`, which are bounded in their
gradients and safe everywhere, and the variational bounds of the f-divergences, whose gradients grow like r. Those of
Donsker and Varadhan and SMILE hold the logarithm of a mean over q besides, and tell the ratio up to a factor.

Several were invented more than once. What is the same up to a factor and a constant is one object here:

- "exponential" is "hellinger": the loss of boosting, :math:`\mathbb{E}_p[e^{-v/2}] + \mathbb{E}_q[e^{v/2}]`, is 2 less
  twice the bound of squared Hellinger.
- "nwj" is "kl": the bound of Nguyen, Wainwright and Jordan is that of KL, here with a centred f; as a Bregman
  divergence of r it is the unnormalised KL, which KLIEP minimises under the constraint :math:`\mathbb{E}_q[r] = 1`.
- "itakura-saito" is "reverse-kl": :math:`\mathbb{E}_p[1/r] + \mathbb{E}_q[\log r]`.
- "relative" is "brier" with the prior :math:`\alpha` = 0.1: with :math:`r_\alpha = \frac{p}{\alpha p + (1 - \alpha) q}
  = \sigma(v) / \alpha`, the least squares of RuLSIF are :math:`\frac{1}{2 \alpha^2} (\alpha \mathbb{E}_p[(1 - D)^2] +
  (1 - \alpha) \, \mathbb{E}_q[D^2])` less a constant. At :math:`\alpha = n_p / (n_p + n_q)` that is the Brier score of
  the samples; a small :math:`\alpha` looks harder at large r.

References:
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
    | https://arxiv.org/abs/1610.03483
    | Linking losses for density ratio and class-probability estimation (Menon and Ong, 2016)
    | https://proceedings.mlr.press/v48/menon16.html
    | Density-ratio matching under the Bregman divergence (Sugiyama, Suzuki and Kanamori, 2012)
    | https://doi.org/10.1007/s10463-011-0343-8
    | Relative Density-Ratio Estimation for Robust Distribution Comparison (Yamada et al., 2013), for "relative"
    | https://arxiv.org/abs/1106.4729
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from implicit_estimators.divergences import DIVERGENCES, Divergence, divergence, exp_minus_one, softplus


@dataclass(frozen=True)
class RatioLoss:
    r"""A loss :math:`2 \pi \, \mathbb{E}_p[a(v)] + 2 (1 - \pi) \, \mathbb{E}_q[b(v)]`.

    A child sets ``name`` and writes ``at_p`` (a) and ``at_q`` (b), or ``loss`` where that is no sum over samples. It
    may remember the batches of its training: ``dataclasses.replace(loss)`` is one that has seen none.

    Args:
        prior: The weight :math:`\pi` of p, in (0, 1). With :math:`\pi = n_p / (n_p + n_q)` every sample counts the
            same, which wastes none when the sets differ in size; the output is then :math:`\log r + \log \frac{\pi}{1
            - \pi}`, and ``log_ratio`` takes the offset off again.

    Raises:
        ValueError: If ``prior`` is not inside (0, 1).
    """

    prior: float = 0.5

    name: ClassVar[str]
    tells_ratio: ClassVar[bool] = True

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

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """What ``log_ratio`` exceeds log p/q by everywhere, as outputs at fresh samples tell; 0 for most losses."""
        return 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """What the loss remembers of its batches, for a checkpoint; nothing for most losses."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""


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


@dataclass(frozen=True)
class LeastSquaresLoss(RatioLoss):
    r"""Least squares of r itself (LSIF), with :math:`r = \operatorname{softplus}(v)`.

    .. math:: \tfrac12 \mathbb{E}_q[r^2] - \mathbb{E}_p[r]

    Half of Pearson's bound less :math:`\frac12`; with the softplus for an exponential, gradients grow like r and not
    like :math:`r^2`. The least value is :math:`-\frac12 \mathbb{E}_q[r^2]`, which is infinite for many a pair of
    distributions (there the loss has no minimum worth learning). Beyond :math:`r = e^{30}` it goes on in the logarithm
    of r, in float32.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | A Least-squares Approach to Direct Importance Estimation (Kanamori, Hido and Sugiyama, 2009)
        | https://www.jmlr.org/papers/v10/kanamori09a.html
    """

    name = "lsif"

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: least squares of r weigh p and q evenly (0.5); got {self.prior}")

    def at_p(self, output: Tensor) -> Tensor:
        """Minus r."""
        return -_tamed_softplus(output)

    def at_q(self, output: Tensor) -> Tensor:
        """Half the square of r."""
        return 0.5 * _tamed_softplus(output).square()

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log softplus(output)."""
        low = output.clamp(max=-20)
        # far below 0 softplus leaves the range of the dtype before its logarithm, the output itself, does
        return torch.where(output < -20, low - 0.5 * low.exp(), softplus(output.clamp(min=-20)).log())


def _tamed_softplus(output: Tensor) -> Tensor:
    limit = 0.34 * math.log(torch.finfo(output.dtype).max)
    inside = softplus(output.clamp(max=math.exp(limit)))
    return inside * (1 + torch.relu(output.clamp(min=1).log() - limit))


@dataclass(frozen=True)
class AlphaLoss(RatioLoss):
    r"""Minus the variational bound of an alpha divergence, between reverse KL (:math:`\alpha \to 0`) and KL (1).

    .. math:: \mathbb{E}_p\left[\frac{e^{-(1 - \alpha) v} - 1}{1 - \alpha}\right] +
        \mathbb{E}_q\left[\frac{e^{\alpha v} - 1}{\alpha}\right],
        \quad D_\alpha = \frac{1 - \int p^\alpha q^{1 - \alpha}}{\alpha (1 - \alpha)}

    The least value is :math:`-D_\alpha(p \| q)`, at :math:`v = \log r`; at :math:`\alpha = \frac12` it is four times
    that of squared Hellinger. Gradients grow like :math:`r^\alpha` and :math:`r^{\alpha - 1}`.

    Args:
        alpha: Inside (0, 1); a small one bounds the pull of large r.

    Raises:
        ValueError: If ``alpha`` is out of range or ``prior`` is not 1/2.

    References:
        | alpha-Divergence Loss Function for Neural Density Ratio Estimation (Kitazawa, 2024)
        | https://arxiv.org/abs/2402.02041
    """

    alpha: float = 0.5

    name = "alpha"

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: a bound weighs p and q evenly (0.5); got {self.prior}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: expected a number inside (0, 1); got {self.alpha}")

    def at_p(self, output: Tensor) -> Tensor:
        """Minus the critic."""
        return exp_minus_one((self.alpha - 1) * output) / (1 - self.alpha)

    def at_q(self, output: Tensor) -> Tensor:
        """The conjugate at the critic."""
        return exp_minus_one(self.alpha * output) / self.alpha


@dataclass(frozen=True)
class DonskerVaradhanLoss(RatioLoss):
    r"""Minus the bound of Donsker and Varadhan on KL, with MINE's corrected gradient.

    .. math:: -\mathbb{E}_p[T] + \log \mathbb{E}_q[e^T] + \lambda \left(\log \mathbb{E}_q[e^T]\right)^2

    The least value is :math:`-KL(p \| q)`, at :math:`T = \log r`; without the last term, at any T that differs by a
    constant, and T drifts. The gradient of a batch's logarithm is biased, and left to itself gives all weight to the
    one sample of q whose output is largest; here :math:`\mathbb{E}_q[\nabla e^T]` is divided by a moving average of
    :math:`\mathbb{E}_q[e^T]` over the batches. That makes capture by single samples rarer and cannot exclude it: for
    the ratio itself, another loss is the better choice.

    Args:
        momentum: Share of the moving average that a batch leaves in place; 0 is the biased gradient.
        drift: The weight :math:`\lambda`.

    Raises:
        ValueError: If ``prior`` is not 1/2 or an argument is out of range.

    References:
        | Mutual Information Neural Estimation (Belghazi et al., 2018), for the bound and the moving average
        | https://arxiv.org/abs/1801.04062
        | Regularized Mutual Information Neural Estimation (Choi and Lee, 2020), for the last term
        | https://arxiv.org/abs/2011.07932
    """

    momentum: float = 0.99
    drift: float = 0.1
    _log_average: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    name = "donsker-varadhan"

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: a bound weighs p and q evenly (0.5); got {self.prior}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1); got {self.momentum}")
        if not self.drift >= 0:
            raise ValueError(f"drift: expected a number not below 0; got {self.drift}")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`; each call with gradients moves the average."""
        log_mean = _log_mean_exp(output_q, weights_q)
        now = log_mean.detach()
        if torch.is_grad_enabled():
            average = self._log_average[0].to(now) if self._log_average else now
            average = torch.logaddexp(average + _log(self.momentum), now + math.log(1 - self.momentum))
            self._log_average[:] = [average]
            log_mean = now + (now - average).exp() * (log_mean - now)
        return log_mean - _mean(output_p, weights_p, "p") + self.drift * log_mean.square()

    def state_dict(self) -> dict[str, Tensor]:
        """The moving average, once there is one."""
        return {"log_average": self._log_average[0]} if self._log_average else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the moving average back."""
        self._log_average[:] = [state["log_average"]] if "log_average" in state else []

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        r"""The c for which :math:`\mathbb{E}_p[\sigma(c - T)] = \mathbb{E}_q[\sigma(T - c)]`.

        Bennett's acceptance ratio: of all weightings of both sets that give :math:`\log \mathbb{E}_q[e^T]`, the one of
        least variance. The plain mean of :math:`e^T` has infinite variance where r has.

        References:
            | Efficient estimation of free energy differences from Monte Carlo data (Bennett, 1976)
            | https://doi.org/10.1016/0021-9991(76)90078-4
        """
        p, q = output_p.detach().double(), output_q.detach().double()
        low, high = (float(torch.cat([p, q]).aminmax()[i]) + reach for i, reach in enumerate((-50.0, 50.0)))
        for _ in range(60):
            middle = (low + high) / 2
            if (middle - p).sigmoid().mean() > (q - middle).sigmoid().mean():
                high = middle
            else:
                low = middle
        return (low + high) / 2


@dataclass(frozen=True)
class SmileLoss(RatioLoss):
    r"""SMILE: the value of Donsker and Varadhan's bound with a clipped partition, the gradient of the log score.

    .. math:: -\mathbb{E}_p[T] + \log \mathbb{E}_q[\operatorname{clip}(e^T, e^{-\tau}, e^\tau)]

    Clipping takes away the variance that grows like :math:`e^{KL}` and adds a bias that shrinks with :math:`\tau`. The
    clipped bound itself cannot be trained, for it grows without end with T beyond :math:`\tau`: as in the authors'
    program, the critic learns by the Jensen-Shannon bound, and the value is what is read off. What is learned is
    thus the critic of ``LogLoss`` with even weights, and the ratio differs from it by the clipped partition alone.

    Args:
        tau: Where :math:`\pm T` is clipped under the exponential.

    Raises:
        ValueError: If ``prior`` is not 1/2 or ``tau`` is not positive.

    References:
        | Understanding the Limitations of Variational Mutual Information Estimators (Song and Ermon, 2020)
        | https://arxiv.org/abs/1910.06222
    """

    tau: float = 5.0

    name = "smile"

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: a bound weighs p and q evenly (0.5); got {self.prior}")
        if not self.tau > 0:
            raise ValueError(f"tau: expected a positive number; got {self.tau}")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`; the gradient is not that of the value."""
        learned = LogLoss().loss(output_p, output_q, weights_p, weights_q)
        clipped = _log_mean_exp(output_q.detach().clamp(-self.tau, self.tau), weights_q)
        return clipped - _mean(output_p.detach(), weights_p, "p") + (learned - learned.detach())

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """The logarithm of the clipped partition, which is 0 for the true ratio if that lies inside the clip."""
        return float(_log_mean_exp(output_q.detach().double().clamp(-self.tau, self.tau), None))


def _log_mean_exp(output: Tensor, weights: Tensor | None) -> Tensor:
    if output.numel() == 0:
        raise ValueError(f"output_q: expected outputs of at least one sample; got shape {tuple(output.shape)}")
    if weights is None:
        return output.flatten().logsumexp(0) - math.log(output.numel())
    if weights.shape != output.shape:
        raise ValueError(f"weights_q: expected shape {tuple(output.shape)}; got {tuple(weights.shape)}")
    return (output + weights.log()).flatten().logsumexp(0) - weights.sum().log()


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


ALIASES = {"exponential": "hellinger", "nwj": "kl", "itakura-saito": "reverse-kl"}
"""Other names of the bounds of f-divergences; see the module."""

EVEN: dict[str, RatioLoss] = {
    **{name: FDivergenceLoss(divergence=ALIASES.get(name, name)) for name in (*DIVERGENCES, *ALIASES)},
    "relative": BrierLoss(0.1),
    "lsif": LeastSquaresLoss(),
    "donsker-varadhan": DonskerVaradhanLoss(),
    "smile": SmileLoss(),
}
"""Losses whose weights of p and q are their own, by name."""

RATIO_LOSSES = ("log", "brier", *EVEN)
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
    if name in EVEN:
        return replace(EVEN[name])
    raise ValueError(f"loss: expected one of {', '.join(RATIO_LOSSES)}; got {name!r}")
