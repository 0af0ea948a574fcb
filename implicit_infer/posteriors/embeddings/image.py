"""For images and other fields on a plane: a small residual convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import silu

from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.posteriors.embeddings.base import Embedding, entries

SMALLEST = 4
"""Height and width at which no layer halves any more: the grid that is read out, since it counts where things lie."""

LARGE = 16
"""Height and width from which on the first layer halves the field."""


class ImageEmbedding(Embedding):
    """Residual 3 x 3 convolutions that halve the field until it is small, then a linear layer over what is left.

    Args:
        event_shape: Shape of one x: (H, W), (C, H, W), (H, W, C), or (C, H, W, k) with k values of each pixel, such as
            a value and whether it was seen. Of three axes the shorter end is the channels, the first if they are equal.
        outputs: Width of the outcome.
        channels: Width of the first layer; it doubles whenever the field halves, four times at most.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If x has another number of axes, or a width is not positive.
    """

    name = "image"

    def __init__(self, event_shape: Sequence[int], outputs: int = 16, channels: int = 16, seed: Seed = None) -> None:
        if len(event_shape) not in (2, 3, 4):
            raise ValueError(f"event_shape: expected (H, W), (C, H, W) or (H, W, C) for an image; got {event_shape}")
        if channels < 1:
            raise ValueError(f"channels: expected a positive int; got {channels}")
        self._last = len(event_shape) == 3 and event_shape[2] < event_shape[0]
        height, width = event_shape[:2] if len(event_shape) == 2 or self._last else event_shape[1:3]
        inputs = entries(event_shape) // (height * width)
        super().__init__(event_shape, inputs, outputs, channels=channels)
        with forked(resolve_seed(seed)):
            # at full size a convolution costs four times what it does at half, and adds little to the first layer
            stride = 2 if min(height, width) >= LARGE else 1
            self.stem = nn.Conv2d(inputs, channels, 2 * stride + 1, stride, padding=stride)
            height, width = -(-height // stride), -(-width // stride)
            blocks, now = [ResidualBlock(channels, channels, 1)], channels
            while min(height, width) > SMALLEST:
                wider = min(2 * now, 4 * channels)
                blocks.append(ResidualBlock(now, wider, 2))
                height, width, now = -(-height // 2), -(-width // 2), wider
            self.blocks = nn.Sequential(*blocks)
            self.pool = nn.AdaptiveAvgPool2d((min(height, SMALLEST), min(width, SMALLEST)))
            flat = now * min(height, SMALLEST) * min(width, SMALLEST)
            self.head = nn.Sequential(nn.Linear(flat, 64), nn.SiLU(), nn.Linear(64, outputs))

    def _arranged(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return x[..., None]
        if x.ndim == 4:
            return x if self._last else x.movedim(1, -1)
        return x.movedim(1, -2).flatten(-2)

    def _network(self, z: Tensor) -> Tensor:
        h = self.blocks(self.stem(z.movedim(-1, 1)))
        return self.head(self.pool(silu(h)).flatten(1))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with norms before them, beside a shortcut.

    Args:
        inputs: Width of the input.
        outputs: Width of the outcome.
        stride: 2 halves the field.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before, self.between = nn.GroupNorm(1, inputs), nn.GroupNorm(1, outputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, h: Tensor) -> Tensor:
        """Fields with shape (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        z = self.first(silu(self.before(h)))
        return self.shortcut(h) + self.second(silu(self.between(z)))
