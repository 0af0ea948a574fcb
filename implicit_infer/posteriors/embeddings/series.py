r"""For series: causal convolutions whose reach doubles from layer to layer.

.. math:: h_{l+1}(t) = h_l(t) + W_2 \, a\left(\sum_{j<K} W_{1,j} \, h_l(t - 2^l j)\right)

After the last layer each state has seen the whole series up to its time. What is kept of them is their mean and their
largest value over time, which do not depend on when something happened, and the last state, which does.

References:
    | An empirical evaluation of generic convolutional and recurrent networks for sequence modeling (Bai, Kolter &
      Koltun, 2018)
    | https://arxiv.org/abs/1803.01271
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.posteriors.embeddings.base import Embedding, entries

LONGEST = 256
"""Times that the dilated layers see at most: longer series are first cut into strides."""


class SeriesEmbedding(Embedding):
    r"""Dilated causal convolutions over the first axis of x, then a pool over time.

    Args:
        event_shape: Shape of one x: (T,), or (T, \*channels), time first.
        outputs: Width of the outcome.
        channels: Width of the layers.
        kernel: Times that a convolution joins, K.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If x has no axis, or a width is not positive.
    """

    name = "series"

    def __init__(
        self,
        event_shape: Sequence[int],
        outputs: int = 16,
        channels: int = 32,
        kernel: int = 3,
        seed: Seed = None,
    ) -> None:
        if not event_shape:
            raise ValueError("event_shape: expected (T,) or (T, channels) for a series; got ()")
        if channels < 1 or kernel < 2:
            raise ValueError(
                f"channels, kernel: expected a positive width and at least 2 times; got {channels}, {kernel}"
            )
        times, inputs = event_shape[0], entries(event_shape[1:])
        super().__init__(event_shape, inputs, outputs, channels=channels, kernel=kernel)
        self.stride = math.ceil(times / LONGEST)
        seen = math.ceil(times / self.stride)
        # a state of the last layer has seen 1 + (K - 1)(2^L - 1) times
        layers = max(1, math.ceil(math.log2((seen - 1) / (kernel - 1) + 1)))
        with forked(resolve_seed(seed)):
            self.stem = nn.Conv1d(inputs, channels, kernel if self.stride == 1 else 2 * self.stride, self.stride)
            self.layers = nn.ModuleList(CausalLayer(channels, kernel, 2**level) for level in range(layers))
            self.head = nn.Sequential(
                nn.Linear(3 * channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, outputs)
            )

    def _arranged(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), x.shape[1], -1)

    def _network(self, z: Tensor) -> Tensor:
        # zeros before the beginning, and so many that the last state always sees the last time
        h = z.transpose(1, 2)
        length = math.ceil(h.shape[2] / self.stride)
        h = self.stem(pad(h, ((length - 1) * self.stride + self.stem.kernel_size[0] - h.shape[2], 0)))
        for layer in self.layers:
            h = layer(h)
        return self.head(torch.cat((h.mean(2), h.amax(2), h[:, :, -1]), 1))


class CausalLayer(nn.Module):
    """One residual layer: a dilated convolution that sees no later time, and a linear map of each time.

    Args:
        channels: Width.
        kernel: Times that it joins.
        dilation: How far apart they are.
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(channels)
        self.dilated = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.linear = nn.Conv1d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        """States with shape (n, channels, T)."""
        # over the channels of each time by itself: a norm over time would show every state the future
        z = self.norm(h.transpose(1, 2)).transpose(1, 2)
        z = self.dilated(pad(z, (self.reach, 0)))
        return h + self.linear(silu(z))
