"""The critic that a comparison trains where the user brings none: an MLP for vectors, convolutions for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from implicit_estimators.critics.conditional import ConditionalCritic
from implicit_estimators.critics.images import ConvCritic
from implicit_estimators.seeds import Seed

if TYPE_CHECKING:
    from implicit_estimators.comparisons.base import Comparison


def make_critic(
    event_shape: Sequence[int],
    condition_width: int,
    comparison: Comparison,
    *,
    hidden: Sequence[int] = (128, 128),
    packing: int = 1,
    seed: Seed = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """The default critic of a comparison, with as many outputs as it asks for and spectral norm where it does.

    Events of one axis get a :class:`ConditionalCritic`; those of shape (channels, height, width) with sides that are
    powers of two from 8 on, a :class:`ConvCritic` whose first convolution has a quarter of the first of ``hidden`` as
    channels. Packed samples lie side by side along the first axis (PacGAN), and so do their conditions.

    Args:
        event_shape: Shape of one sample.
        condition_width: Width of a condition; 0 for none.
        comparison: What the critic is for.
        hidden: Widths of the hidden layers.
        packing: Samples that the critic sees at a time.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where the weights lie.

    Returns:
        The critic; its ``config`` makes it again.

    Raises:
        ValueError: If the comparison trains no critic, ``packing`` is not positive, or there is no default critic for
            events of this shape.

    References:
        | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018)
        | https://arxiv.org/abs/1712.04086
    """
    shape = tuple(event_shape)
    if not comparison.trained:
        raise ValueError(f"comparison: expected one that trains a critic; {comparison.name!r} compares the samples")
    if packing < 1:
        raise ValueError(f"packing: expected a positive int; got {packing}")
    settings: dict[str, Any] = {
        "outputs": comparison.outputs,
        "spectral_norm": comparison.spectral_norm,
        "seed": seed,
        "dtype": dtype,
    }
    if len(shape) == 1:
        # kinks tell narrow modes apart where smooth activations blur them, and a slope of at most 1 keeps the bound
        # that spectral normalisation is there for (silu's reaches 1.10)
        return ConditionalCritic(
            packing * shape[0], packing * condition_width, hidden, activation="leaky_relu", device=device, **settings
        )
    if len(shape) == 3:
        return ConvCritic(
            (packing * shape[0], shape[1], shape[2]),
            packing * condition_width,
            max(1, hidden[0] // 4) if hidden else 32,
            device=device,
            **settings,
        )
    raise ValueError(
        "event_shape: expected (width,) or (channels, height, width), for which there is a default critic; "
        f"got {shape}; pass a critic of your own"
    )
