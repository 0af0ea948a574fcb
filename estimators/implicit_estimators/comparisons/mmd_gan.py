r"""MMD GAN: a kernel on learned features, which the critic makes tell data from draws and the model makes fail.

.. math:: L_C = -\mathrm{MMD}^2_k\left(h(p), h(q)\right), \quad L_G = \mathrm{MMD}^2_k\left(h(p), h(q)\right)

The critic h gives several numbers for each sample; the kernel on them is fixed. A batch compares all its pairs, so few
critic steps, and a small critic, do. What must not happen is that h grows without bound: its weights are clipped (Li
et al.), or the slope of the *witness* (Bińkowski et al.)

.. math:: f(t) = \frac1n \sum_i k(h(x_i), h(t)) - \frac1m \sum_j k(h(y_j), h(t))

is held at 1 between data and draws, as a Wasserstein critic's is.

References:
    | MMD GAN: Towards Deeper Understanding of Moment Matching Network (Li et al., 2017)
    | https://arxiv.org/abs/1705.08584
    | Demystifying MMD GANs (Bińkowski, Sutherland, Arbel and Gretton, 2018)
    | https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.features import check_numbers, features_of
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.discrepancies.mmd import mmd_squared
from implicit_estimators.kernels import Kernel, RationalQuadratic
from implicit_estimators.penalties import Critic, Penalty, WassersteinPenalty, check_rows
from implicit_estimators.seeds import Seed


@dataclass(frozen=True)
class WitnessPenalty(WassersteinPenalty):
    r"""Slope 1 of the witness between data and draws, :math:`\lambda \, \mathbb{E}(\|\nabla f(\hat x)\| - 1)^2`.

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1.
        kernel: The kernel on the critic's outputs.
    """

    weight: float = 1.0
    kernel: Kernel = field(default_factory=RationalQuadratic)

    name = "witness"

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
            ValueError: If the shapes differ, the batch is empty, or the critic mixes rows.
        """
        check_rows(critic)

        features = features_of(critic)

        at_data, at_model = (features(side.detach(), condition) for side in (real, fake))

        def witness(samples: Tensor, condition: Tensor | None = None) -> Tensor:
            here = features(samples, condition)
            return self.kernel.matrix(here, at_data).mean(1) - self.kernel.matrix(here, at_model).mean(1)

        return super().penalty(witness, real, fake, seed, condition)


@dataclass(frozen=True)
class MMDGAN(Comparison):
    r"""The maximum mean discrepancy of a critic's features.

    The defaults are those of Bińkowski et al.: 16 features, rational quadratic kernels, the penalty on the witness
    with weight 1, five critic steps. ``MMDGAN(Gaussian((1, 2, 4, 8, 16)), penalty_weight=0, clip=0.01)`` is Li et
    al.'s, without their autoencoder.

    Args:
        kernel: The kernel on the features.
        features: How many the critic gives for each sample.
        penalty_weight: Weight of the penalty on the witness's slope; 0 for none.
        clip: The largest absolute value of the critic's weights, or None.
        spectral_norm: Whether the critic's layers are spectrally normalised.
        critic_steps: Critic steps for each generator step.

    Raises:
        ValueError: If a number is out of its range.
    """

    kernel: Kernel = field(default_factory=RationalQuadratic)
    features: int = 16
    penalty_weight: float = 1.0
    clip: float | None = None
    spectral_norm: bool = False
    critic_steps: int = 5

    name = "mmd-gan"

    def __post_init__(self) -> None:
        check_numbers(self.features, self.critic_steps, self.penalty_weight)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive number or None; got {self.clip}")

    @property
    def outputs(self) -> int:
        """The features."""
        return self.features

    @property
    def regulariser(self) -> Penalty | None:
        """The penalty on the witness, or None."""
        return WitnessPenalty(self.penalty_weight, kernel=self.kernel) if self.penalty_weight else None

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """Minus the unbiased discrepancy of the features."""
        return -self.generator_objective(at_data, at_model)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The unbiased discrepancy of the features.

        Raises:
            ValueError: If a batch has fewer than 2 rows, or the widths differ.
        """
        x, y = matrices(at_data, at_model, 2)
        return mmd_squared(x, y, self.kernel).to(at_model.dtype)
