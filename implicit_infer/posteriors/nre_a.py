r"""NRE-A: the ratio by one question, do these theta and x belong together?

.. math:: \ell = -\tfrac12 \mathbb{E}_{p(\theta, x)} \log \sigma(h)
    - \tfrac12 \mathbb{E}_{p(\theta) p(x)} \log (1 - \sigma(h)), \qquad h = \log r \text{ at the optimum}

References:
    | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans, Begy & Louppe, 2020)
    | https://arxiv.org/abs/1903.04057
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.networks.candidate_losses import BinaryLoss
from implicit_infer.posteriors.ratio.plain import PlainNRE


@dataclass(frozen=True)
class NREA(PlainNRE):
    """Ratio estimation by binary classification of pairs (AALR); settings are those of all plain ratio methods."""

    name = "nre-a"

    def loss(self) -> BinaryLoss:
        """The log loss of pairs."""
        return BinaryLoss()
