"""What every f-divergence offers: f, the optimal critic, the conjugate, and the estimates that are made of them."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor


class Divergence:
    r"""One f-divergence. A child sets ``name`` and ``domain`` and writes the four functions that raise here.

    To add one, copy ``Pearson``: centre its f (:math:`f(1) = f'(1) = 0`), write f, f', :math:`f^*` and
    :math:`f^*(f'(r)) = r f'(r) - f(r)` with ``exp_minus_one`` and ``softplus`` in place of bare exponentials, and add
    it to ``DIVERGENCES``. ``tests/estimators/test_divergences.py`` then checks it without further ado.

    Attributes:
        name: The name in ``DIVERGENCES``.
        domain: The interval of t in which the conjugate is finite.
        identifies_ratio: Whether the optimal critic determines r (not so for total variation).
    """

    name: ClassVar[str]
    domain: tuple[float, float] = (-math.inf, math.inf)
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
