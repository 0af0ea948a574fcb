"""What the critic says as it is: the generator of Wasserstein and hinge GANs, and least squares of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.generator_losses.base import GeneratorLoss


@dataclass(frozen=True)
class RaiseCritic(GeneratorLoss):
    r"""Minus the critic, :math:`-\mathbb{E}_q[c]`: the generator loss of Wasserstein, hinge and Fisher GANs.

    Slope -1 everywhere. Of a log-ratio its gradient is that of reverse KL; the value is another, and stays of the
    critic's size where f(r) would be an exponential of it.

    References:
        | Wasserstein Generative Adversarial Networks (Arjovsky, Chintala and Bottou, 2017)
        | https://arxiv.org/abs/1701.07875
        | Geometric GAN (Lim and Ye, 2017)
        | https://arxiv.org/abs/1705.02894
    """

    name = "critic"

    def each(self, log_ratio: Tensor) -> Tensor:
        """Minus the critic."""
        return -log_ratio


@dataclass(frozen=True)
class LeastSquares(GeneratorLoss):
    r"""Least squares of the critic's linear output, :math:`\frac12 \mathbb{E}_q[(c - t)^2]`.

    With LSGAN's critic of labels 1 and 0, the target 1 asks for draws that pass for data; at the optimal critic the
    model then descends :math:`KL(p \| \frac{p + q}{2}) + \frac12 \int \frac{p q}{p + q}`, with a slope that vanishes
    with r. (The paper's theorem of a Pearson divergence, for b - t = 1 and b - a = 2, is about the value at an optimal
    critic that moves with the model; with the critic held fixed, as in every game, the gradient is another: a draw
    beyond the target is pushed back.)

    References:
        | Least Squares Generative Adversarial Networks (Mao et al., 2017)
        | https://arxiv.org/abs/1611.04076

    Args:
        target: The value t that draws shall reach.
    """

    target: float = 1.0

    name = "least-squares"

    def each(self, log_ratio: Tensor) -> Tensor:
        """Half the squared distance from the target."""
        return 0.5 * (log_ratio - self.target).square()
