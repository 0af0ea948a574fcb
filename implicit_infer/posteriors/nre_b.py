r"""NRE-B: the ratio by another question, which of these theta made x?

.. math:: \ell = -\mathbb{E} \log \frac{e^{h(\theta_0, x)}}{\sum_a e^{h(\theta_a, x)}},
    \qquad h = \log r + c(x) \text{ at the optimum}

More candidates say more of each x than one rival does; what they cannot say is the constant c(x), so that the ratio
cannot be checked for being normalised. The posterior does not need it.

References:
    | On contrastive learning for likelihood-free inference (Durkan, Murray & Papamakarios, 2020)
    | https://arxiv.org/abs/2002.03712
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.networks.candidate_losses import SoftmaxLoss
from implicit_infer.posteriors.ratio.plain import PlainNRE


@dataclass(frozen=True)
class NREB(PlainNRE):
    """Ratio estimation by a choice among several parameters; other settings are those of all plain ratio methods.

    Args:
        atoms: Parameters to choose from, the right one included.
    """

    atoms: int = 10

    name = "nre-b"

    def loss(self) -> SoftmaxLoss:
        """The cross entropy of the choice."""
        return SoftmaxLoss(self.atoms)
