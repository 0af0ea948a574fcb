r"""Matching of means: of moments of the samples, or of the features by which a discriminator tells them apart.

.. math:: L_G = \left\| \mathbb{E}_p[\phi(x)] - \mathbb{E}_q[\phi(y)] \right\|^2

Means of *batches* are compared. (One library compares sample i of the data with draw i of the model: that is not 0
for equal laws, and pulls all draws to the mean of the data.) The statistic is unbiased by default: what chance alone
contributes is taken off, so that its gradient is that of the population on average at any batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.discrepancies.moments import Features, MomentDistance, mean_gap
from implicit_estimators.ratio_losses import LogLoss


@dataclass(frozen=True)
class MomentMatching(Comparison):
    """The squared distance of the means of chosen features of batches. Nothing to train.

    References:
        | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017), section 3.4
        | https://arxiv.org/abs/1610.03483

    Args:
        features: A degree, for all products of up to that many columns in units of the batch of data, or a callable
            from samples (n, d) to features (n, k).
        weights: "equal", or "optimal" for the inverse of the features' covariance in the batch of data.
        unbiased: Whether what chance alone contributes is taken off.

    Raises:
        TypeError: If ``features`` is neither an int nor a callable.
        ValueError: If it is an int below 1, or ``weights`` is unknown.
    """

    features: int | Features = 2
    weights: Literal["equal", "optimal"] = "equal"
    unbiased: bool = True

    name = "moments"
    trained = False

    def __post_init__(self) -> None:
        self._distance()

    def _distance(self) -> MomentDistance:
        return MomentDistance(self.features, self.weights, self.unbiased)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The distance.

        Args:
            at_data: Samples of the data, with shape (n, d).
            at_model: Draws of the model, with shape (m, d).

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch has fewer than 2 rows (1 if biased and of equal weights), or the widths differ.
        """
        x, y = matrices(at_data, at_model, 2 if self.unbiased or self.weights == "optimal" else 1)
        return self._distance().unchecked(y, x.to(y))


@dataclass(frozen=True)
class FeatureMatching(Comparison):
    r"""A discriminator that learns as in a GAN, and a model that matches the means of what it looks at.

    The critic gives :math:`1 + k` numbers: column 0 is the logit, by which alone it learns; the others are features
    :math:`\phi`, by which alone the model is moved. The default critic's features are fixed random projections of its
    last hidden layer, of which the logit is another; ``LogitAndFeatures`` makes a critic with the layer itself.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 3.1
        | https://arxiv.org/abs/1606.03498

    Args:
        features: k of the default critic; one of the user's may have another.
        unbiased: Whether what chance alone contributes is taken off.
        critic_steps: Critic steps for each generator step.

    Raises:
        ValueError: If a number is not positive.
    """

    features: int = 64
    unbiased: bool = True
    critic_steps: int = 1

    name = "feature-matching"

    def __post_init__(self) -> None:
        for argument, value in (("features", self.features), ("critic_steps", self.critic_steps)):
            if value < 1:
                raise ValueError(f"{argument}: expected a positive int; got {value}")

    @property
    def outputs(self) -> int:
        """The logit and the features."""
        return 1 + self.features

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The log score of the logit in column 0.

        Raises:
            ValueError: If a batch is empty, or the critic gives one number alone.
        """
        x, y = self._columns(at_data, at_model, 1)
        return LogLoss().loss(x[:, 0], y[:, 0])

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The squared distance of the means of the other columns.

        Raises:
            ValueError: If a batch has fewer than 2 rows (1 if biased), or the critic gives one number alone.
        """
        x, y = self._columns(at_data, at_model, 2 if self.unbiased else 1)
        return mean_gap(y[:, 1:], x[:, 1:], self.unbiased)

    def log_ratio(self, output: Tensor) -> Tensor:
        """The logit."""
        return output[..., 0]

    def _columns(self, at_data: Tensor, at_model: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        x, y = matrices(at_data, at_model, rows)
        if x.shape[1] < 2:
            raise ValueError(f"critic: expected a logit and features, shape (n, 1 + k); got {tuple(at_data.shape)}")
        return x, y
