r"""What keeps a critic smooth: penalties on its gradient in the samples, one gradient norm for each sample.

.. math:: \text{penalty} = \lambda \, \frac1n \sum_i \left( \| \nabla_x c(x_i) \| - t \right)^2

The norm is over the entries of *one* sample. (Taken over the whole batch, as several libraries do, it grows with the
batch: a critic with unit slope everywhere is then charged 49 at 64 samples instead of 0.) Each penalty says only
where the :math:`x_i` lie and which slope t is wanted.

The critic is any callable of the samples, or of (samples, condition), that treats rows independently (no batch
normalisation: there a row's gradient is not its own) and returns one number for each. Gradients are taken in the
samples only, and flow on into the critic's parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.seeds import Seed, generator

Critic = Callable[..., Tensor]
"""``critic(samples)`` or ``critic(samples, condition)``, with result (n,) or (n, 1)."""


def slopes(critic: Critic, samples: Tensor, condition: Tensor | None = None) -> Tensor:
    r"""Norm of the critic's gradient in each sample, with the graph that a penalty's own gradient needs.

    Args:
        critic: See the module.
        samples: Where to take it, with shape (n, \*event_shape).
        condition: What the critic is conditioned on, with n rows, or None.

    Returns:
        Norms with shape (n,).

    Raises:
        ValueError: If the critic does not return one number for each sample.
    """
    with torch.enable_grad():
        samples = samples.detach().requires_grad_()
        values = critic(samples) if condition is None else critic(samples, condition.detach())
        if values.numel() != len(samples):
            raise ValueError(
                f"critic: expected one value for each of {len(samples)} samples; got {tuple(values.shape)}"
            )
        if not values.requires_grad:  # a constant function of the samples
            return samples.flatten(1).sum(1) * 0
        (gradient,) = torch.autograd.grad(values.sum(), samples, create_graph=True, materialize_grads=True)
        # vector_norm and not a square root of a sum: its derivative at a gradient of 0 is 0, not NaN
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1)


@dataclass(frozen=True)
class Penalty:
    """A penalty on a critic. A child sets ``name`` and writes ``points``, and ``charge`` where it is not the square.

    Attributes:
        name: Name in ``PENALTIES``.
    """

    name: ClassVar[str]

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, seed: Seed = None, condition: Tensor | None = None
    ) -> Tensor:
        r"""The scalar that is added to the critic's loss.

        Args:
            critic: A callable of the samples, or of (samples, condition).
            real: Samples of the data, with shape (n, \*event_shape).
            fake: Samples of the model, the same shape.
            seed: Source of the random points, where the penalty has any; in a loop, pass a ``torch.Generator``.
            condition: What both were drawn given, with n rows, or None.

        Returns:
            The penalty, with shape (), differentiable in the critic's parameters.

        Raises:
            ValueError: If the shapes differ, the batch is empty, or the critic returns other than n values.
        """
        if real.shape != fake.shape or real.ndim < 2 or not len(real):
            raise ValueError(f"real, fake: expected one shape (n, ...); got {tuple(real.shape)}, {tuple(fake.shape)}")
        if condition is not None and len(condition) != len(real):
            raise ValueError(f"condition: expected {len(real)} rows; got {len(condition)}")
        at = self.points(real.detach(), fake.detach(), seed)
        return self.charge(slopes(critic, at, condition)).mean()

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """Where the slope is charged, with the shape of ``real``."""
        raise NotImplementedError(f"{type(self).__name__} must write points(real, fake, seed)")

    def charge(self, slope: Tensor) -> Tensor:
        """What each slope costs, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write charge(slope)")


def _between(real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
    share = torch.rand(
        (len(real), *[1] * (real.ndim - 1)),
        generator=generator(seed, real.device),
        device=real.device,
        dtype=real.dtype,
    )
    return torch.lerp(real, fake, share)


@dataclass(frozen=True)
class WassersteinPenalty(Penalty):
    r"""WGAN-GP: slope 1 on the segments between data and model, :math:`\lambda \, \mathbb{E}(\|\nabla c\| - 1)^2`.

    An optimal Wasserstein critic has slope 1 on the segments that transport joins; pairs drawn at random are a
    stand-in for those. Games with it need not converge (Mescheder et al., 2018).

    References:
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017)
        | https://arxiv.org/abs/1704.00028

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1.
    """

    weight: float = 10.0
    one_sided: bool = False

    name = "wgan-gp"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """One uniform point on the segment of each pair."""
        return _between(real, fake, seed)

    def charge(self, slope: Tensor) -> Tensor:
        """The square of the distance from slope 1."""
        excess = slope - 1
        return self.weight * (excess.clamp(min=0) if self.one_sided else excess).square()


@dataclass(frozen=True)
class R1(Penalty):
    r"""Zero slope at the data, :math:`\frac{\gamma}{2} \mathbb{E}_p\|\nabla c\|^2`: makes GANs converge locally.

    References:
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
        | https://arxiv.org/abs/1801.04406

    Args:
        weight: :math:`\gamma`.
    """

    weight: float = 1.0

    name = "r1"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The data."""
        return real

    def charge(self, slope: Tensor) -> Tensor:
        """Half of the squared slope."""
        return 0.5 * self.weight * slope.square()


@dataclass(frozen=True)
class R2(R1):
    r"""Zero slope at the model's samples, :math:`\frac{\gamma}{2} \mathbb{E}_q\|\nabla c\|^2` (see :class:`R1`).

    Args:
        weight: :math:`\gamma`.
    """

    name = "r2"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The model's samples."""
        return fake


@dataclass(frozen=True)
class ZeroCentred(R1):
    r"""Zero slope between data and model, :math:`\frac{\gamma}{2} \mathbb{E}\|\nabla c\|^2` on the segments.

    References:
        | Improving Generalization and Stability of Generative Adversarial Networks (Thanh-Tung et al., 2019)
        | https://arxiv.org/abs/1902.03984

    Args:
        weight: :math:`\gamma`.
    """

    name = "zero-centred"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """One uniform point on the segment of each pair."""
        return _between(real, fake, seed)


@dataclass(frozen=True)
class Dragan(WassersteinPenalty):
    r"""DRAGAN: slope 1 near the data, :math:`\lambda \, \mathbb{E}(\|\nabla c(x + \delta)\| - 1)^2`.

    :math:`\delta` is normal with ``spread`` times the standard deviation of the batch in each coordinate, so that
    units do not matter.

    References:
        | On Convergence and Stability of GANs (Kodali et al., 2017)
        | https://arxiv.org/abs/1705.07215

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1.
        spread: Size of the perturbation.
    """

    spread: float = 0.5

    name = "dragan"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The data with noise."""
        noise = torch.randn(real.shape, generator=generator(seed, real.device), device=real.device, dtype=real.dtype)
        return real + self.spread * real.std(0, correction=0) * noise


PENALTIES: dict[str, type[Penalty]] = {
    "wgan-gp": WassersteinPenalty,
    "r1": R1,
    "r2": R2,
    "zero-centred": ZeroCentred,
    "dragan": Dragan,
}
"""Every penalty there is, by name."""


def penalty(name: str | Penalty) -> Penalty:
    """The penalty called ``name``, with its default weight, or the penalty itself.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Penalty):
        return name
    if name not in PENALTIES:
        raise ValueError(f"penalty: expected one of {', '.join(PENALTIES)}; got {name!r}")
    return PENALTIES[name]()
