r"""Balanced NRE: binary classification held to a property of the true classifier, so that it errs on the wide side.

Any classifier of pairs with :math:`\mathbb{E}_{p(\theta, x)}[\hat d] + \mathbb{E}_{p(\theta) p(x)}[\hat d] = 1` is
balanced, as the optimal one is. A balanced one is on average less sure of itself than the optimal one, never more:

.. math:: \ell = -\mathbb{E}_{p(\theta, x)} \log \hat d - \mathbb{E}_{p(\theta) p(x)} \log (1 - \hat d)
    + \lambda \left(\mathbb{E}_{p(\theta, x)} \hat d + \mathbb{E}_{p(\theta) p(x)} \hat d - 1\right)^2

(An implementation that averages the log loss over both kinds of pairs halves it, and not the penalty: its
:math:`\lambda` is half of this one.)

References:
    | Towards reliable simulation-based inference with balanced neural ratio estimation (Delaunoy et al., 2022)
    | https://arxiv.org/abs/2208.13624
"""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_estimators.networks.candidate_losses import BalancedLoss
from implicit_estimators.networks.train_ratio import RatioTraining
from implicit_infer.posteriors.ratio.plain import PlainNRE


@dataclass(frozen=True)
class BNRE(PlainNRE):
    """Balanced ratio estimation, whose posteriors are rather too wide; other settings are those of plain ratio methods.

    Args:
        balance: Weight of the penalty on imbalance.
        training: Epochs, batches and step sizes. The imbalance is estimated from each batch, and the noise of small
            ones is penalised like imbalance: it makes ratios flat.
    """

    training: RatioTraining = field(default_factory=lambda: RatioTraining(batch_size=250, learning_rate=2e-3))
    balance: float = 100.0

    name = "bnre"

    def loss(self) -> BalancedLoss:
        """The log loss of pairs and the penalty."""
        return BalancedLoss(self.balance)
