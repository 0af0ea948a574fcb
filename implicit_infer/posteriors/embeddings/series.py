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

LONGEST = 128
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
        channels: int = 24,
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
            joined = kernel if self.stride == 1 else 2 * self.stride
            self.stem = nn.Conv1d(inputs, channels, joined, self.stride)
            self.layers = nn.ModuleList(CausalLayer(channels, kernel, 2**level) for level in range(layers))
            self.head = nn.Sequential(
                nn.Linear(3 * channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, outputs)
            )

    def _arranged(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), x.shape[1], -1)

    def _network(self, z: Tensor) -> Tensor:
        # zeros before the beginning, and so many that the last state always sees the last time
        states = math.ceil(z.shape[1] / self.stride)
        before = (states - 1) * self.stride + self.stem.kernel_size[0] - z.shape[1]
        h = self.stem(pad(z.transpose(1, 2), (before, 0))).transpose(1, 2)
        for layer in self.layers:
            h = layer(h)
        return self.head(torch.cat((h.mean(1), h.amax(1), h[:, -1]), 1))


class CausalLayer(nn.Module):
    """One residual layer: a dilated convolution that sees no later time, and a linear map of each time.

    With few channels, one linear map of the shifted states side by side is twice as fast on a CPU as a convolution.

    Args:
        channels: Width.
        kernel: Times that it joins.
        dilation: How far apart they are.
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.shifts = [j * dilation for j in range(kernel)]
        self.norm = nn.LayerNorm(channels)
        self.dilated = nn.Linear(kernel * channels, channels)
        self.linear = nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """States with shape (n, T, channels)."""
        times = h.shape[1]
        z = pad(self.norm(h), (0, 0, self.shifts[-1], 0))
        z = self.dilated(torch.cat([z[:, shift : shift + times] for shift in self.shifts], 2))
        return h + self.linear(silu(z))
