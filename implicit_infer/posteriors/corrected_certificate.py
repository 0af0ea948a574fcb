r"""How wrong a posterior is, told by a classifier that tries to tell its draws from the truth at the same data.

Rows are (theta, x) of the joint law and (theta, x) with theta drawn from :math:`q(\theta \mid x)` at the same x. If q
is the posterior the two have one law, and no classifier does better than chance; how far it gets on rows that it has
not learned from is a lower bound on how far q is from the posterior, on average over the prior predictive. That it
finds nothing says nothing where it is too weak.

References:
    | Discriminative calibration (Yao & Domke, 2023)
    | https://arxiv.org/abs/2305.14593
    | L-C2ST: Local diagnostics for posterior approximations in simulation-based inference (Linhart et al., 2023)
    | https://arxiv.org/abs/2306.03580
    | Revisiting classifier two-sample tests (Lopez-Paz & Oquab, 2017)
    | https://arxiv.org/abs/1610.06545
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.estimate import Estimate

SIGNIFICANT = 3.0
"""Standard errors beyond which a difference is not chance."""


@dataclass(frozen=True)
class Certificate:
    r"""What a classifier's held-out log-ratios say of a posterior. Standard errors are over simulations.

    Attributes:
        log_loss: Mean log loss, truth and draws weighing the same; :math:`\log 2 = 0.693` is that of knowing nothing,
            and what it falls short of it bounds the Jensen-Shannon divergence from below, in nats.
        auc: Of a true parameter and a draw at the same x, how often the classifier prefers the truth; 0.5 is chance.
        c2st: Share of truths and draws that it names rightly; 0.5 is chance.
        factor: The power in [0, 1] of the estimated ratio with the smallest held-out log loss, 0 where the two are not
            told apart: what draws are corrected by.
        told_apart: Whether the classifier did better than chance by more than three standard errors.
        n: Simulations that it was judged by.
    """

    log_loss: Estimate
    auc: Estimate
    c2st: Estimate
    factor: float
    told_apart: bool
    n: int

    @classmethod
    def of(cls, joint: Tensor, drawn: Tensor) -> Certificate:
        """Judge held-out log-ratios.

        Args:
            joint: At the true parameter of each of n simulations, with shape (n,).
            drawn: At M draws given the same x, with shape (n, M).

        Returns:
            The certificate.

        Raises:
            ValueError: If the shapes do not fit, there are fewer than 2 simulations, or a value is NaN.
        """
        if joint.ndim != 1 or drawn.ndim != 2 or len(joint) != len(drawn) or len(joint) < 2 or not drawn.shape[1]:
            raise ValueError(
                "joint, drawn: expected shapes (n,) and (n, M) with n > 1 and M > 0; got "
                f"{tuple(joint.shape)} and {tuple(drawn.shape)}"
            )
        joint, drawn = joint.detach().cpu().double(), drawn.detach().cpu().double()
        if bool(joint.isnan().any() | drawn.isnan().any()):
            raise ValueError("joint, drawn: expected log-ratios; got NaN")
        factor = best_factor(joint, drawn)
        gain = Estimate.mean(math.log(2) - _losses(factor * joint, factor * drawn))
        ties = 0.5 * ((joint[:, None] == drawn).double())
        auc = Estimate.mean(((joint[:, None] > drawn).double() + ties).mean(1))
        told = gain > SIGNIFICANT * gain.standard_error and factor > 0
        right = 0.5 * (torch.heaviside(joint, HALF) + torch.heaviside(-drawn, HALF).mean(1))
        return cls(
            log_loss=Estimate.mean(_losses(joint, drawn)),
            auc=auc,
            c2st=Estimate.mean(right),
            factor=factor if told else 0.0,
            told_apart=bool(told),
            n=len(joint),
        )

    def figures(self) -> dict[str, Any]:
        """Numbers for reports."""
        found: dict[str, Any] = {"told_apart": self.told_apart, "factor": self.factor, "simulations": self.n}
        for name in ("log_loss", "auc", "c2st"):
            value: Estimate = getattr(self, name)
            found |= {name: float(value), f"{name}_error": value.standard_error}
        return found

    @classmethod
    def from_figures(cls, figures: dict[str, Any]) -> Certificate:
        """What ``figures`` came from."""
        told: dict[str, Any] = {
            name: Estimate(figures[name], figures[f"{name}_error"]) for name in ("log_loss", "auc", "c2st")
        }
        return cls(**told, factor=figures["factor"], told_apart=figures["told_apart"], n=figures["simulations"])

    def __str__(self) -> str:
        """A sentence."""
        share = f"{100 * self.auc:.1f} ± {100 * self.auc.standard_error:.1f} %"
        if self.told_apart:
            return (
                f"a classifier tells the true parameter from a draw at the same data in {share} of cases, where 50 % "
                "is what a right posterior would leave it"
            )
        return f"a classifier does not tell the true parameter from a draw at the same data ({share}; 50 % is chance)"


HALF = torch.tensor(0.5, dtype=torch.float64)


def best_factor(joint: Tensor, drawn: Tensor) -> float:
    r"""The power of a ratio with the smallest log loss, :math:`\lambda \in [0, 1]`: a convex problem, by bisection.

    Args:
        joint: Log-ratios at true parameters, with shape (n,).
        drawn: Log-ratios at draws, with shape (n, M).

    References:
        | On calibration of modern neural networks (Guo et al., 2017)
        | https://arxiv.org/abs/1706.04599
    """

    def slope(factor: float) -> float:
        return float((drawn * torch.sigmoid(factor * drawn)).mean() - (joint * torch.sigmoid(-factor * joint)).mean())

    if slope(1.0) <= 0:
        return 1.0
    if slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def _losses(joint: Tensor, drawn: Tensor) -> Tensor:
    return 0.5 * (softplus(-joint) + softplus(drawn).mean(1))
