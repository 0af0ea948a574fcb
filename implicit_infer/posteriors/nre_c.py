r"""NRE-C as its paper has it: which of these theta made x, if any?

The choice among K parameters of NRE-B, with "none of them" as one more answer, which makes the ratio normalised. The
loss is written out in :class:`~implicit_estimators.networks.candidate_losses.ContrastiveLoss`. This is the paper's
network and the paper's rivals, drawn from the prior; "nre" is the same loss with a network that starts from a normal
density, and rivals that are hard to tell from the right one.

References:
    | Contrastive neural ratio estimation (Miller, Weniger & Forré, 2022)
    | https://arxiv.org/abs/2210.06170
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.networks.candidate_losses import ContrastiveLoss
from implicit_infer.posteriors.ratio.plain import PlainNRE


@dataclass(frozen=True)
class NREC(PlainNRE):
    """Contrastive ratio estimation with a plain network; other settings are those of all plain ratio methods.

    Args:
        contrasts: K, parameters that compete for each x.
        gamma: Odds that one of them made it.
    """

    contrasts: int = 10
    gamma: float = 1.0

    name = "nre-c"

    def loss(self) -> ContrastiveLoss:
        """The contrastive loss."""
        return ContrastiveLoss(self.contrasts, self.gamma)
