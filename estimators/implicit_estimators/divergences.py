r"""f-divergences, written in the log-ratio so that nothing overflows and every part of one fits with the others.

With :math:`r = p / q` and a convex generator f with :math:`f(1) = 0`,

.. math:: D_f(p \| q) = \mathbb{E}_q[f(r)] = \sup_T \; \mathbb{E}_p[T] - \mathbb{E}_q[f^*(T)],
    \quad f^*(t) = \sup_{u \ge 0} \; u t - f(u),

and the supremum is reached by the critic :math:`T^* = f'(r)`. Every function here takes :math:`s = \log r`.

Conventions. Each f is *centred*: besides :math:`f(1) = 0` also :math:`f'(1) = 0`, which any f allows, because adding
:math:`c (u - 1)` changes neither :math:`D_f` nor the bound. Then :math:`f \ge 0` everywhere, an estimate of :math:`D_f`
cannot be negative, and the critic is 0 where p = q. Compared with the table of the f-GAN paper:

- KL and reverse KL are centred: :math:`u \log u - u + 1` for :math:`u \log u`, so :math:`T^* = \log r` for
  :math:`1 + \log r`.
- Jensen-Shannon is the divergence itself, at most log 2; the table's f gives *twice* that.
- Squared Hellinger is :math:`\frac{1}{2} \int (\sqrt p - \sqrt q)^2`, at most 1; the table's is twice that.
- Pearson is :math:`\int (p - q)^2 / q`; the table prints the denominator p, though its f is this one.
- Conjugates are suprema over :math:`u \ge 0`, so Pearson's is -1 (not a parabola) below t = -2.

Exponentials above the range of the dtype go on along their tangent (:func:`exp_minus_one`), so that values and
gradients stay finite and keep their sign at :math:`|\log r| = 100` in float32. Below 60 (float32) or 482 (float64) in
the exponent they are exact, and below half of that where a square is involved (Pearson).

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016)
    | https://arxiv.org/abs/1606.00709
    | Estimating Divergence Functionals and the Likelihood Ratio by Convex Risk Minimization (Nguyen et al., 2010)
    | https://arxiv.org/abs/0809.0853
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LOG2 = math.log(2.0)


def exp_minus_one(x: Tensor, squared: bool = False) -> Tensor:
    r""":math:`e^x - 1`, continued by its tangent from a limit on, where :math:`e^x` nears the end of the dtype.

    The limit leaves room for products with x and for sums over millions of rows; a log-ratio above it would take more
    than :math:`e^{60}` samples to learn. The continuation is convex and increasing, so a large output is still pushed
    back.

    Args:
        x: Exponents, any shape.
        squared: Leave room for the square of the result too (half of the limit).

    Returns:
        Values with the shape of ``x``.
    """
    limit = (0.34 if squared else 0.68) * math.log(torch.finfo(x.dtype).max)
    inside = x.clamp(max=limit)
    # autograd takes the slope of expm1 as its value plus 1, which far below 0 rounds to nothing
    excess = torch.where(inside < -1, inside.exp() - 1, torch.expm1(inside))
    return excess + math.exp(limit) * torch.relu(x - limit)


def softplus(x: Tensor) -> Tensor:
    r""":math:`\log(1 + e^x)`, exact to the last digit; torch's own is x from 20 on, which in float64 is 2e-9 off."""
    return -logsigmoid(-x)


class Divergence:
    r"""One f-divergence. A child sets ``name`` and ``domain`` and writes the four functions that raise here.

    To add one, copy :class:`Pearson`: centre its f (:math:`f(1) = f'(1) = 0`), write f, f', :math:`f^*` and
    :math:`f^*(f'(r)) = r f'(r) - f(r)` with ``exp_minus_one`` and ``softplus`` in place of bare exponentials, and add
    it to ``DIVERGENCES``. ``tests/estimators/test_divergences.py`` then checks it without further ado.

    Attributes:
        name: The name in ``DIVERGENCES``.
        domain: The interval of t in which the conjugate is finite.
        identifies_ratio: Whether the optimal critic determines r (not so for total variation).
    """

    name: ClassVar[str]
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    identifies_ratio: ClassVar[bool] = True

    def f(self, log_r: Tensor) -> Tensor:
        """Values of the generator f at r, elementwise, not negative."""
        raise NotImplementedError(f"{type(self).__name__} must write f(log_r)")

    def critic(self, log_r: Tensor) -> Tensor:
        """The optimal critic f'(r), elementwise: what the bound is tight at."""
        raise NotImplementedError(f"{type(self).__name__} must write critic(log_r)")

    def conjugate(self, t: Tensor) -> Tensor:
        """The convex conjugate f*(t), elementwise; infinity outside ``domain``."""
        finite = self._conjugate(t.clamp(*self.domain))
        low, high = self.domain
        return torch.where((t < low) | (t > high), torch.inf, finite)

    def _conjugate(self, t: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _conjugate(t)")

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """f*(f'(r)) = r f'(r) - f(r), elementwise, without going through f'(r)."""
        raise NotImplementedError(f"{type(self).__name__} must write conjugate_of_critic(log_r)")

    def activation(self, output: Tensor) -> Tensor:
        """The critic as a function of a network's free output: f'(exp(output)), so that the output is log r."""
        return self.critic(output)

    def generator_integrand(self, output: Tensor) -> Tensor:
        r"""What a model descends along its samples: :math:`-f^*(T)`, elementwise.

        Not f(r). The density q stands both in the average and in r; with r held fixed, only the derivative of
        :math:`h = f(r) - r f'(r) = -f^*(f'(r))` along the samples is that of the divergence,

        .. math:: \nabla_\theta D_f(p \| q_\theta) = \mathbb{E}_z[\nabla_x h(r(x)) \, \partial_\theta x(z)],

        while that of f(r) has another size and, for KL, the opposite sign.
        """
        return -self.conjugate_of_critic(output)

    def value(self, log_r_at_q: Tensor) -> Tensor:
        r"""Monte Carlo estimate :math:`\mathbb{E}_q[f(r)]`.

        Args:
            log_r_at_q: log p/q at samples of q, with shape (n,).

        Returns:
            A scalar in float64, in which :math:`e^{100}` is an ordinary number.

        Raises:
            ValueError: If there are no samples.
        """
        return self.f(_samples(log_r_at_q, "log_r_at_q")).mean()

    def bound(self, log_r_at_p: Tensor, log_r_at_q: Tensor) -> Tensor:
        r"""The variational lower bound :math:`\mathbb{E}_p[f'(r)] - \mathbb{E}_q[f^*(f'(r))]`.

        A bound for *any* function r in expectation over fresh samples, tight at the true one.

        Args:
            log_r_at_p: log p/q at samples of p, with shape (n,).
            log_r_at_q: log p/q at samples of q, with shape (m,).

        Returns:
            A scalar in float64.

        Raises:
            ValueError: If either has no samples.
        """
        at_p, at_q = _samples(log_r_at_p, "log_r_at_p"), _samples(log_r_at_q, "log_r_at_q")
        return self.critic(at_p).mean() - self.conjugate_of_critic(at_q).mean()

    def balanced_integrand(self, log_r: Tensor) -> Tensor:
        r""":math:`2 f(r) / (1 + r)`, in float64: its average over p and its average over q, averaged, are :math:`D_f`.

        Sampling the even mixture of p and q keeps the weights below 2, so that this estimate has light tails where
        :math:`\mathbb{E}_q[f(r)]` has none or infinite variance.
        """
        log_r = log_r.double()
        return 2 * self.f(log_r) * torch.sigmoid(-log_r)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _samples(log_r: Tensor, name: str) -> Tensor:
    if log_r.numel() == 0:
        raise ValueError(f"{name}: expected log-ratios of at least one sample; got shape {tuple(log_r.shape)}")
    return log_r.double()


class KL(Divergence):
    r"""Kullback-Leibler divergence :math:`\mathbb{E}_p[\log r]`, with :math:`f(u) = u \log u - u + 1`.

    :math:`f' = \log u`, :math:`f^*(t) = e^t - 1`.
    """

    name = "kl"

    def f(self, log_r: Tensor) -> Tensor:
        """R log r - r + 1."""
        excess = exp_minus_one(log_r)
        return log_r * (excess + 1) - excess

    def critic(self, log_r: Tensor) -> Tensor:
        """Log r."""
        return log_r

    def _conjugate(self, t: Tensor) -> Tensor:
        return exp_minus_one(t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R - 1."""
        return exp_minus_one(log_r)


class ReverseKL(Divergence):
    r"""Reverse KL divergence :math:`\mathbb{E}_q[-\log r]`, with :math:`f(u) = u - 1 - \log u`.

    :math:`f' = 1 - 1/u`, :math:`f^*(t) = -\log(1 - t)` for t < 1.
    """

    name = "reverse-kl"
    domain = (-math.inf, 1.0)

    def f(self, log_r: Tensor) -> Tensor:
        """R - 1 - log r."""
        return exp_minus_one(log_r) - log_r

    def critic(self, log_r: Tensor) -> Tensor:
        """1 - 1/r."""
        return -exp_minus_one(-log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        return -torch.log1p(-t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Log r."""
        return log_r


class JensenShannon(Divergence):
    r"""Jensen-Shannon divergence :math:`\frac12 KL(p \| m) + \frac12 KL(q \| m)`, :math:`m = (p + q) / 2`.

    .. math:: f(u) = \tfrac12 u \log u - \tfrac12 (u + 1) \log \tfrac{u + 1}{2}, \quad
        f' = \tfrac12 \log \tfrac{2u}{1 + u}, \quad f^*(t) = -\tfrac12 \log(2 - e^{2t}), \; t < \tfrac12 \log 2.

    The loss of a GAN's discriminator is :math:`\log 4 - 2` times this bound.
    """

    name = "js"
    domain = (-math.inf, 0.5 * LOG2)

    def f(self, log_r: Tensor) -> Tensor:
        """Half of r (log 2 - softplus(-log r)) + (log 2 - softplus(log r))."""
        ratio = exp_minus_one(log_r) + 1
        return 0.5 * (ratio * (LOG2 - softplus(-log_r)) + (LOG2 - softplus(log_r)))

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of log(2 r / (1 + r))."""
        return 0.5 * (LOG2 - softplus(-log_r))

    def _conjugate(self, t: Tensor) -> Tensor:
        return -0.5 * torch.log1p(-torch.expm1(2 * t))

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of log((1 + r) / 2)."""
        return 0.5 * (softplus(log_r) - LOG2)


class Pearson(Divergence):
    r"""Pearson chi-squared divergence :math:`\mathbb{E}_q[(r - 1)^2] = \int (p - q)^2 / q`.

    :math:`f(u) = (u - 1)^2`, :math:`f' = 2 (u - 1)`, :math:`f^*(t) = t + t^2 / 4` for t > -2 and -1 below.
    """

    name = "pearson"

    def f(self, log_r: Tensor) -> Tensor:
        """The square of r - 1."""
        return self._excess(log_r).square()

    def critic(self, log_r: Tensor) -> Tensor:
        """Twice r - 1."""
        return 2 * self._excess(log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        t = t.clamp(min=-2)
        return t + t.square() / 4

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R^2 - 1."""
        excess = self._excess(log_r)
        # the product is the tamed form, but far below 0 its slope is a difference that rounds to nothing
        return torch.where(log_r < 1, exp_minus_one(2 * log_r.clamp(max=1)), excess * (excess + 2))

    @staticmethod
    def _excess(log_r: Tensor) -> Tensor:
        # one tamed r - 1 for all three: were r and r^2 tamed apart, the bound would have no lower end
        return exp_minus_one(log_r, squared=True)


class SquaredHellinger(Divergence):
    r"""Squared Hellinger distance :math:`\frac12 \int (\sqrt p - \sqrt q)^2 = 1 - \int \sqrt{p q}`.

    :math:`f(u) = \frac12 (\sqrt u - 1)^2`, :math:`f' = \frac12 (1 - u^{-1/2})`, :math:`f^*(t) = t / (1 - 2t)` for
    t < 1/2. As a loss it is the exponential loss of boosting.
    """

    name = "hellinger"
    domain = (-math.inf, 0.5)

    def f(self, log_r: Tensor) -> Tensor:
        """Half of the square of sqrt(r) - 1."""
        return 0.5 * exp_minus_one(0.5 * log_r, squared=True).square()

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of 1 - 1/sqrt(r)."""
        return -0.5 * exp_minus_one(-0.5 * log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - 2 * t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of sqrt(r) - 1."""
        return 0.5 * exp_minus_one(0.5 * log_r)


class Jeffreys(Divergence):
    r"""Jeffreys divergence :math:`KL(p \| q) + KL(q \| p)`, with :math:`f(u) = (u - 1) \log u`.

    :math:`f' = \log u + 1 - 1/u`, and with :math:`w + \log w = 1 - t` (Wright's omega),
    :math:`f^*(t) = w + 1/w + t - 2`.
    """

    name = "jeffreys"

    def f(self, log_r: Tensor) -> Tensor:
        """(r - 1) log r."""
        return log_r * exp_minus_one(log_r)

    def critic(self, log_r: Tensor) -> Tensor:
        """Log r + 1 - 1/r."""
        return log_r - exp_minus_one(-log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        target = 1 - t
        with torch.no_grad():
            # This start is never left of the root, from where Newton on a convex increasing function cannot overshoot.
            log_w = torch.minimum(target, target.clamp(min=1).log())
            for _ in range(8):
                log_w = log_w - (log_w.exp() + log_w - target) / (log_w.exp() + 1)
        log_w = log_w - (log_w.exp() + log_w - target) / (log_w.exp() + 1)  # with the graph: the implicit derivative
        return exp_minus_one(log_w) + exp_minus_one(-log_w) + t

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R - 1 + log r."""
        return exp_minus_one(log_r) + log_r


class TotalVariation(Divergence):
    r"""Total variation :math:`\frac12 \int |p - q|`, with :math:`f(u) = \frac12 |u - 1|`.

    :math:`f' = \frac12 \operatorname{sign}(u - 1)`, :math:`f^*(t) = t` for :math:`|t| \le \frac12` and -1/2 below.

    The optimal critic is a step: it says where p > q and nothing else, so no ratio can be read from it, and its
    gradient along samples is 0 almost everywhere. What a network trains is the smooth critic :math:`\frac12
    \tanh(\text{output} / 2)` of the f-GAN paper, whose output runs to infinity as the bound becomes tight. If the
    output is a log-ratio learned by another loss, a generator that follows this critic descends :math:`KL(p \|
    \frac{p + q}{2})`.
    """

    name = "tv"
    domain = (-math.inf, 0.5)
    identifies_ratio = False

    def f(self, log_r: Tensor) -> Tensor:
        """Half of |r - 1|."""
        return 0.5 * exp_minus_one(log_r).abs()

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of the sign of log r."""
        return 0.5 * log_r.sign()

    def _conjugate(self, t: Tensor) -> Tensor:
        return t.clamp(min=-0.5)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of the sign of log r."""
        return self.critic(log_r)

    def activation(self, output: Tensor) -> Tensor:
        """Half of tanh(output / 2): between the bounds, with a slope that a network can follow."""
        return logsigmoid(output).exp() - 0.5  # its derivative, unlike tanh's, does not round to 0 at large outputs

    def generator_integrand(self, output: Tensor) -> Tensor:
        """Minus the smooth critic."""
        return -self.activation(output)


DIVERGENCES: dict[str, Divergence] = {
    "kl": KL(),
    "reverse-kl": ReverseKL(),
    "js": JensenShannon(),
    "pearson": Pearson(),
    "hellinger": SquaredHellinger(),
    "jeffreys": Jeffreys(),
    "tv": TotalVariation(),
}
"""Every divergence there is, by name."""


def divergence(name: str | Divergence) -> Divergence:
    """The divergence called ``name``; one that is given is returned as it is.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Divergence):
        return name
    if name not in DIVERGENCES:
        raise ValueError(f"divergence: expected one of {', '.join(DIVERGENCES)}; got {name!r}")
    return DIVERGENCES[name]
