"""The generator for images: noise becomes a small picture with many channels, doubled in size until it fits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.generators.networks.base import Bounds, Generator, joined

START = 4
"""Pixels along the shorter side of the first picture."""


class ConvGenerator(Generator):
    r"""The generator of DCGAN: transposed convolutions of stride 2, each with batch normalisation and ReLU.

    The shorter side starts at 4 pixels and doubles until it fits, while channels halve from
    ``width * 2**(doublings - 1)`` to ``width``. Without batch normalisation, and on one pixel grid, it is as smooth in
    its noise as its weights are. Weights start as normal draws with standard deviation 0.02, as in the paper.

    Args:
        event_shape: (channels, height, width); height and width are powers of two from 8.
        latent: Width of the noise.
        condition: Width of a condition, which stands beside the noise; 0 for none.
        width: Channels before the last layer.
        batch_norm: Normalise each hidden layer over the batch.
        classes: See :class:`~implicit_infer.generators.networks.base.Generator`.
        embedding: The same.
        bounds: The same.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where they lie.

    Raises:
        ValueError: If the shape is another, or a width is not positive.

    References:
        | Unsupervised Representation Learning with Deep Convolutional GANs (Radford, Metz and Chintala, 2016)
        | https://arxiv.org/abs/1511.06434
    """

    name = "conv"

    def __init__(
        self,
        event_shape: Sequence[int],
        latent: int,
        condition: int = 0,
        width: int = 32,
        *,
        batch_norm: bool = True,
        classes: int | None = None,
        embedding: int | None = None,
        bounds: Bounds = None,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        channels, height, breadth = picture(event_shape, smallest=2 * START)
        if width < 1:
            raise ValueError(f"width: expected a positive int; got {width}")
        with forked(resolve_seed(seed)):
            super().__init__(event_shape, latent, condition, classes, embedding, bounds)
            doublings = (min(height, breadth) // START).bit_length() - 1
            now = width * 2 ** (doublings - 1)
            first = (height >> doublings, breadth >> doublings)
            layers: list[nn.Module] = [
                nn.ConvTranspose2d(latent + self.encoded_width, now, first, bias=not batch_norm),
                *_hidden(now, batch_norm),
            ]
            for _ in range(doublings - 1):
                layers.append(nn.ConvTranspose2d(now, now // 2, 4, 2, 1, bias=not batch_norm))
                now //= 2
                layers += _hidden(now, batch_norm)
            self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(now, channels, 4, 2, 1))
            self.apply(_start)
        self.config |= {"width": width, "batch_norm": batch_norm}
        self.to(dtype=dtype, device=device)

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The last layer's picture."""
        return self.layers(joined(z, condition)[:, :, None, None])


def picture(event_shape: Sequence[int], smallest: int) -> tuple[int, int, int]:
    """Channels, height and width of pictures whose sides are powers of two.

    Raises:
        ValueError: If the shape is another.
    """
    shape = tuple(event_shape) if isinstance(event_shape, Sequence) else (event_shape,)
    fits = len(shape) == 3 and shape[0] > 0 and all(side >= smallest and side & (side - 1) == 0 for side in shape[1:])
    if not fits:
        raise ValueError(
            f"event_shape: expected (channels, height, width) with sides that are powers of two from {smallest}; "
            f"got {shape}"
        )
    channels, height, width = shape
    return int(channels), int(height), int(width)


def _hidden(channels: int, batch_norm: bool) -> list[nn.Module]:
    return [*([nn.BatchNorm2d(channels)] if batch_norm else []), nn.ReLU()]


@torch.no_grad()
def _start(module: nn.Module) -> None:
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
