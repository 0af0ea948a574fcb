"""Relativistic generators: draws that pass for data sooner than the data do."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.generator_losses.base import GeneratorLoss, check_draws
from implicit_estimators.ratio_losses.relativistic import RelativisticAverageLoss, RelativisticLoss


@dataclass(frozen=True)
class Relativistic(GeneratorLoss):
    r"""The relativistic critic's loss with data and draws exchanged, over all pairs of the batch.

    .. math:: \mathbb{E}_{x \sim p, \, y \sim q}[\operatorname{softplus}(-(c(y) - c(x)))]

    The slope at a draw is :math:`-\mathbb{E}_{x \sim p}[\sigma(c(x) - c(y))]`: how often a datum beats it.

    References:
        | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
        | https://arxiv.org/abs/1807.00734
    """

    name = "relativistic"
    needs_data = True

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """See :meth:`GeneratorLoss.loss`."""
        return RelativisticLoss().loss(*_both(log_ratio, at_data, self.name))


@dataclass(frozen=True)
class RelativisticAverage(GeneratorLoss):
    r"""The relativistic average critic's loss with data and draws exchanged.

    .. math:: \mathbb{E}_q[\operatorname{softplus}(-(c - \mathbb{E}_p[c]))] +
        \mathbb{E}_p[\operatorname{softplus}(c - \mathbb{E}_q[c])]

    Both terms move the model, the second through the mean over its draws.

    References:
        | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
        | https://arxiv.org/abs/1807.00734
    """

    name = "relativistic-average"
    needs_data = True

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """See :meth:`GeneratorLoss.loss`."""
        return RelativisticAverageLoss().loss(*_both(log_ratio, at_data, self.name))


def _both(log_ratio: Tensor, at_data: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    check_draws(log_ratio)
    if at_data is None or at_data.numel() == 0:
        raise ValueError(f"at_data: the generator loss {name!r} needs values at samples of the data; got none")
    return log_ratio, at_data
