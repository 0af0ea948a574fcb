r"""Energy matching: the model descends the energy distance itself. Nothing to train, and nothing to choose.

.. math:: L_G = 2 \, \mathbb{E}|x - y|^\beta - \mathbb{E}|x - x'|^\beta - \mathbb{E}|y - y'|^\beta

Draws are pulled to data and pushed from each other, with a force that does not fade with distance. Its gradient on a
batch is that of the population on average, which a Wasserstein distance of batches has not.

References:
    | The Cramer Distance as a Solution to Biased Wasserstein Gradients (Bellemare et al., 2017)
    | https://arxiv.org/abs/1705.10743
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.discrepancies.energy import EnergyDistance, energy_squared


@dataclass(frozen=True)
class EnergyMatching(Comparison):
    """The squared energy distance of batches.

    Args:
        beta: The power of distances, inside (0, 2).
        unbiased: Whether each sample's pair with itself is left out.

    Raises:
        ValueError: If ``beta`` is out of its range.
    """

    beta: float = 1.0
    unbiased: bool = True

    name = "energy"
    trained = False

    def __post_init__(self) -> None:
        EnergyDistance(self.beta)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The distance.

        Args:
            at_data: Samples of the data, with shape (n, d).
            at_model: Draws of the model, with shape (m, d).

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch has fewer rows than the statistic needs, or the widths differ.
        """
        x, y = matrices(at_data, at_model, 2 if self.unbiased else 1)
        return energy_squared(y, x, self.beta, self.unbiased)
