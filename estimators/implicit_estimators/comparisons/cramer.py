r"""Cramér GAN: the energy distance of learned features, which the critic makes large and the model makes small.

.. math:: L_G = 2 \, \mathbb{E}|h(x) - h(y)| - \mathbb{E}|h(x) - h(x')| - \mathbb{E}|h(y) - h(y')|, \quad
    L_C = -L_G + \lambda \, \mathbb{E}(\|\nabla f(\hat x)\| - 1)^2

The witness :math:`f(t) = \mathbb{E}|h(t) - h(y')| - \mathbb{E}|h(t) - h(x')|`, with x' of the data and y' of the
model, is what plays the Wasserstein critic's part: :math:`L_G = \mathbb{E}_p f - \mathbb{E}_q f`, and its slope is held
at 1 between data and draws.

The paper's algorithm has :math:`|h(t)|` in place of :math:`\mathbb{E}|h(t) - h(x')|`, so that one sample of the data
is enough. With it the critic's loss can be 0 for different laws (Gretton, "Notes on the Cramér GAN", 2017: what is then
compared are distances to the origin as well); here a batch has more than one sample, and the witness is the true one.
As an energy distance it is Cramér's on the line alone, which gave the method its name.

References:
    | The Cramer Distance as a Solution to Biased Wasserstein Gradients (Bellemare et al., 2017), section 5
    | https://arxiv.org/abs/1705.10743
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.features import check_numbers, features_of
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.kernels import squared_distances
from implicit_estimators.penalties import Critic, Penalty, WassersteinPenalty, check_rows
from implicit_estimators.seeds import Seed


@dataclass(frozen=True)
class CramerPenalty(WassersteinPenalty):
    r"""Slope 1 of the witness between data and draws, :math:`\lambda \, \mathbb{E}(\|\nabla f(\hat x)\| - 1)^2`.

    The batch is split: :math:`\hat x` lies between the first halves, and the witness is made of the second, for it has
    a kink at each sample that it is made of.

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1.
    """

    name = "cramer"

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, seed: Seed = None, condition: Tensor | None = None
    ) -> Tensor:
        r"""The scalar that is added to the critic's loss.

        Args:
            critic: A callable of the samples, or of (samples, condition), with result (n,) or (n, features).
            real: Samples of the data, with shape (n, \*event_shape).
            fake: Draws of the model, the same shape.
            seed: Source of the points between; in a loop, pass a ``torch.Generator``.
            condition: What both were drawn given, with n rows, or None.

        Returns:
            The penalty, with shape (), differentiable in the critic's parameters.

        Raises:
            ValueError: If the shapes differ, there are fewer than 2 rows, or the critic mixes rows.
        """
        check_rows(critic)
        if len(real) < 2 or len(fake) < 2:
            raise ValueError(f"real, fake: expected at least 2 rows of each; got {len(real)} and {len(fake)}")

        features = features_of(critic)

        half = len(real) // 2
        here, there = (None, None) if condition is None else (condition[:half], condition[half:])
        at_data, at_model = (features(side[half:].detach(), there) for side in (real, fake))

        def witness(samples: Tensor, condition: Tensor | None = None) -> Tensor:
            at = features(samples, condition)
            return distances(at, at_model).mean(1) - distances(at, at_data).mean(1)

        return super().penalty(witness, real[:half], fake[:half], seed, here)


@dataclass(frozen=True)
class CramerGAN(Comparison):
    r"""The energy distance of a critic's features.

    Args:
        features: How many the critic gives for each sample; the paper has 256.
        penalty_weight: :math:`\lambda`; 0 for no penalty.
        critic_steps: Critic steps for each generator step.

    Raises:
        ValueError: If a number is out of its range.
    """

    features: int = 32
    penalty_weight: float = 10.0
    critic_steps: int = 5

    name = "cramer"

    def __post_init__(self) -> None:
        check_numbers(self.features, self.critic_steps, self.penalty_weight)

    @property
    def outputs(self) -> int:
        """The features."""
        return self.features

    @property
    def regulariser(self) -> Penalty | None:
        """The penalty on the witness, or None."""
        return CramerPenalty(self.penalty_weight) if self.penalty_weight else None

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """Minus the unbiased energy distance of the features."""
        return -self.generator_objective(at_data, at_model)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The unbiased energy distance of the features.

        Raises:
            ValueError: If a batch has fewer than 2 rows, or the widths differ.
        """
        x, y = matrices(at_data, at_model, 2)
        within_x, within_y = (distances(side, side).sum() / (len(side) * (len(side) - 1)) for side in (x, y))
        return 2 * distances(x, y).mean() - within_x - within_y


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Distances of all pairs, which games may differentiate twice: those of points that coincide are flat.

    Args:
        x: Points with shape (n, k).
        y: Points with shape (m, k); x itself for pairs within, where a point's pair with itself counts 0.

    Returns:
        Distances with shape (n, m).
    """
    squared = squared_distances(x, y)
    # what rounding leaves of the distance of two equal points
    near = squared.detach() <= 8 * torch.finfo(squared.dtype).eps * squared.detach().mean()
    if x is y:
        near = near | torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.where(near, 0.0, torch.where(near, 1.0, squared).sqrt())
