r"""What keeps a critic smooth: penalties on its gradient in the samples, one gradient norm for each sample.

.. math:: \text{penalty} = \lambda \, \frac1n \sum_i \left( \| \nabla_x c(x_i) \| - t \right)^2

The norm is over the entries of *one* sample. (Taken over the whole batch, as several libraries do, it grows with the
batch: a critic with unit slope everywhere is then charged 49 at 64 samples instead of 0.) Each penalty says only
where the :math:`x_i` lie and which slope t is wanted.

The critic is any callable of the samples, or of (samples, condition), that treats rows independently and returns one
number for each. Batch normalisation and minibatch discrimination mix rows, so that a row's gradient is not its own:
modules that hold either are refused. Gradients are taken in the samples only, and flow on into the critic's parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
        ValueError: If the critic does not return one number for each sample, or mixes rows.
    """
    return lengths(sample_gradients(critic, samples, condition))


def sample_gradients(critic: Critic, samples: Tensor, condition: Tensor | None = None) -> Tensor:
    """The critic's gradient in each sample, as rows of shape (n, size of an event); see :func:`slopes`."""
    check_rows(critic)
    with torch.enable_grad():
        samples = samples.detach().requires_grad_()
        values = critic(samples) if condition is None else critic(samples, condition.detach())
        if values.numel() != len(samples):
            raise ValueError(
                f"critic: expected one value for each of {len(samples)} samples; got {tuple(values.shape)}"
            )
        if not values.requires_grad:  # a constant function of the samples
            return samples.flatten(1) * 0
        (gradient,) = torch.autograd.grad(values.sum(), samples, create_graph=True, materialize_grads=True)
        return gradient.flatten(1)


def lengths(rows: Tensor) -> Tensor:
    """Norms of rows; where a row is 0, all derivatives are 0, too.

    Those of ``vector_norm`` are 0 and then NaN, which a game that differentiates a penalty's gradient would meet
    wherever a critic of rectified units is flat.
    """
    flat = (rows == 0).all(1)
    return torch.where(flat, 0.0, torch.linalg.vector_norm(torch.where(flat[:, None], 1.0, rows), dim=1))


@dataclass(frozen=True)
class Penalty:
    """A penalty on a critic. A child sets ``name`` and writes ``points``, and ``charge`` where it is not the square.

    Attributes:
        name: Name in ``PENALTIES``.
        needs_draws: Whether the points depend on the model's draws; where not, data will do for ``fake``.
    """

    name: ClassVar[str]
    needs_draws: ClassVar[bool] = True

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
            ValueError: If the shapes differ, the batch is empty, or the critic returns other than n values or mixes
                rows.
        """
        if real.shape != fake.shape or real.ndim < 2 or not len(real):
            raise ValueError(f"real, fake: expected one shape (n, ...); got {tuple(real.shape)}, {tuple(fake.shape)}")
        if condition is not None and len(condition) != len(real):
            raise ValueError(f"condition: expected {len(real)} rows; got {len(condition)}")
        at = self.points(real.detach(), fake.detach(), seed)
        return self.charge_gradient(sample_gradients(critic, at, condition)).mean()

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """Where the slope is charged, with the shape of ``real``."""
        raise NotImplementedError(f"{type(self).__name__} must write points(real, fake, seed)")

    def charge_gradient(self, gradient: Tensor) -> Tensor:
        """What each row of gradients with shape (n, size of an event) costs, with shape (n,)."""
        return self.charge(lengths(gradient))

    def charge(self, slope: Tensor) -> Tensor:
        """What each slope costs, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write charge(slope)")


def check_rows(critic: Critic) -> None:
    """Refuse a critic whose output at a sample depends on the others of the batch.

    A function that calls a module cannot be looked into: who penalises one asks this of the module.

    Args:
        critic: A module, or what holds one as ``module``; of other callables nothing is known.

    Raises:
        ValueError: If a part of it mixes rows: batch normalisation in training mode, or what says ``mixes_rows``.
    """
    inner = getattr(critic, "module", critic)
    for module in inner.modules() if isinstance(inner, nn.Module) else ():
        if getattr(module, "mixes_rows", False) or (isinstance(module, _BatchNorm) and module.training):
            raise ValueError(
                f"critic: expected one that treats rows independently; its {type(module).__name__} mixes those of a "
                "batch, and the slope at a sample has no meaning"
            )


def between(real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
    """One uniform point on the segment of each pair of rows, a share of its own for each."""
    share = torch.rand(
        (len(real), *[1] * (real.ndim - 1)),
        generator=generator(seed, real.device),
        device=real.device,
        dtype=real.dtype,
    )
    return torch.lerp(real, fake, share)
