r"""How ratios are learned from candidates: losses of :math:`h(\theta_a, s_i)`, with their gradients in closed form.

Values h have shape (K, A, b): of K members, at A candidates for each of b rows. Candidate 0 is the theta that made s;
the others are drawn without it. To add a loss, copy one: ``value`` for autograd, ``gradient`` for the engine that does
without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus


class CandidateLoss:
    r"""A mean loss over rows. Children are frozen dataclasses of their settings.

    Attributes:
        normalised: Whether the loss is least at :math:`h = \log r` alone; else at h plus any function of s.
    """

    normalised: ClassVar[bool] = True

    @property
    def candidates(self) -> int:
        """A, candidates for each row where the batch has so many."""
        return 2

    def value(self, h: Tensor) -> Tensor:
        """The loss of each member, with shape (K,), for h with shape (K, A, b)."""
        raise NotImplementedError(f"{type(self).__name__} must write value(h)")

    def gradient(self, h: Tensor) -> Tensor:
        """Its gradient in h, with shape (K, A, b)."""
        raise NotImplementedError(f"{type(self).__name__} must write gradient(h)")


@dataclass(frozen=True)
class BinaryLoss(CandidateLoss):
    r"""Log loss of the classifier of pairs, :math:`\sigma(h)`.

    .. math:: \tfrac12 \mathbb{E} \operatorname{softplus}(-h_0) + \tfrac12 \mathbb{E} \operatorname{softplus}(h_1)

    References:
        | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans et al., 2020)
        | https://arxiv.org/abs/1903.04057
    """

    def value(self, h: Tensor) -> Tensor:
        """The loss of each member."""
        return 0.5 * (softplus(-h[:, 0]) + softplus(h[:, 1])).mean(1)

    def gradient(self, h: Tensor) -> Tensor:
        """The classifier's probability, less 1 for the pairs that belong together, over 2 b."""
        gradient = h.sigmoid()
        gradient[:, 0] -= 1
        return gradient.mul_(0.5 / h.shape[2])


@dataclass(frozen=True)
class BalancedLoss(CandidateLoss):
    r"""Log loss with a penalty where the classifier :math:`\hat d = \sigma(h)` is not balanced.

    .. math:: \mathbb{E} \operatorname{softplus}(-h_0) + \mathbb{E} \operatorname{softplus}(h_1)
        + \lambda \left(\mathbb{E} \sigma(h_0) + \mathbb{E} \sigma(h_1) - 1\right)^2

    References:
        | Towards reliable simulation-based inference with balanced neural ratio estimation (Delaunoy et al., 2022)
        | https://arxiv.org/abs/2208.13624

    Args:
        weight: The weight :math:`\lambda` of the penalty.

    Raises:
        ValueError: If it is negative.
    """

    weight: float = 100.0

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight: expected a number of at least 0; got {self.weight}")

    def value(self, h: Tensor) -> Tensor:
        """The loss of each member."""
        imbalance = h.sigmoid().sum(1).mean(1) - 1
        return (softplus(-h[:, 0]) + softplus(h[:, 1])).mean(1) + self.weight * imbalance.square()

    def gradient(self, h: Tensor) -> Tensor:
        """That of the log loss, and of the penalty by the chain rule."""
        share = h.sigmoid()
        imbalance = share.sum(1).mean(1) - 1
        penalty = 2 * self.weight * imbalance[:, None, None] * share * (1 - share)
        share[:, 0] -= 1
        return (share + penalty) / h.shape[2]


@dataclass(frozen=True)
class SoftmaxLoss(CandidateLoss):
    r"""Which of the candidates made s: cross entropy of their softmax.

    .. math:: \mathbb{E} \Big[ \log \sum_a e^{h_a} - h_0 \Big]

    References:
        | On contrastive learning for likelihood-free inference (Durkan et al., 2020)
        | https://arxiv.org/abs/2002.03712

    Args:
        atoms: Candidates, the right one included.

    Raises:
        ValueError: If there are fewer than two.
    """

    atoms: int = 10
    normalised = False

    def __post_init__(self) -> None:
        if self.atoms < 2:
            raise ValueError(f"atoms: expected at least 2; got {self.atoms}")

    @property
    def candidates(self) -> int:
        """The atoms."""
        return self.atoms

    def value(self, h: Tensor) -> Tensor:
        """The loss of each member."""
        return (h.logsumexp(1) - h[:, 0]).mean(1)

    def gradient(self, h: Tensor) -> Tensor:
        """The softmax, less 1 for the right one, over b."""
        gradient = h.softmax(1)
        gradient[:, 0] -= 1
        return gradient.div_(h.shape[2])


@dataclass(frozen=True)
class ContrastiveLoss(CandidateLoss):
    r"""Which of K parameters, if any, made s: with C one of them the right one, and with N none.

    .. math:: \frac{1}{1 + \gamma} \mathbb{E} \operatorname{softplus}\Big(\log \tfrac{\gamma}{K}
        + \log \sum_{a=1}^K e^{h_a}\Big) + \frac{\gamma}{1 + \gamma} \mathbb{E} \Big[\operatorname{softplus}\Big(
        \log \tfrac{\gamma}{K} + \log \sum_{a=0}^{K-1} e^{h_a}\Big) - \log \tfrac{\gamma}{K} - h_0 \Big]

    References:
        | Contrastive neural ratio estimation (Miller, Weniger & Forré, 2022)
        | https://arxiv.org/abs/2210.06170

    Args:
        contrasts: K.
        gamma: Odds that one of them made it.

    Raises:
        ValueError: If either is not positive.
    """

    contrasts: int = 10
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.contrasts < 1:
            raise ValueError(f"contrasts: expected a positive int; got {self.contrasts}")
        if not self.gamma > 0:
            raise ValueError(f"gamma: expected a positive number; got {self.gamma}")

    @property
    def candidates(self) -> int:
        """K and the right one."""
        return self.contrasts + 1

    def value(self, h: Tensor) -> Tensor:
        """The loss of each member."""
        odds = math.log(self.gamma / (h.shape[1] - 1))
        nobody = softplus(odds + h[:, 1:].logsumexp(1))
        somebody = softplus(odds + h[:, :-1].logsumexp(1)) - odds - h[:, 0]
        return (nobody + self.gamma * somebody).mean(1) / (1 + self.gamma)

    def gradient(self, h: Tensor) -> Tensor:
        """Probabilities of each candidate in either set, less 1 for the right one in the second, weighted."""
        odds = math.log(self.gamma / (h.shape[1] - 1))
        gradient = torch.zeros_like(h)
        for part, weight in ((slice(1, None), 1.0), (slice(None, -1), self.gamma)):
            total = h[:, part].logsumexp(1)
            share = (h[:, part] - (total - (odds + total).sigmoid().log())[:, None]).exp()
            gradient[:, part] += weight * share
        gradient[:, 0] -= self.gamma
        return gradient.div_((1 + self.gamma) * h.shape[2])
