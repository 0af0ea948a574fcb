"""A network for functions that go on outside of where they were learned: outputs that see the input and every layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import ACTIVATIONS
from implicit_estimators.seeds import Seed, forked, resolve_seed


class SkipMLP(nn.Module):
    r"""Layers :math:`h_l = a(W_l h_{l-1} + b_l)` with :math:`h_0 = x`, and outputs :math:`V [h_0, h_1, ..., h_L] + c`.

    The shallow layers, which are smooth, carry the simple part of the function, and the deep ones what is left: a
    ridge on V makes what lies outside of the samples simple. Outputs start at 0.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        hidden: Widths of the hidden layers; () is a linear map.
        activation: A name in ``ACTIVATIONS``.
        seed: Seed of the initial weights; torch's global generator is left as it was.
        device: Where the weights lie.

    Raises:
        ValueError: If a width is not positive or the activation is unknown.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (128, 128),
        *,
        activation: str = "silu",
        seed: Seed = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if min(inputs, outputs, *hidden) < 1:
            raise ValueError(f"hidden: expected positive widths; got {inputs} -> {tuple(hidden)} -> {outputs}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        widths = [inputs, *hidden]
        with forked(resolve_seed(seed)):
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(before, after), ACTIVATIONS[activation]()) for before, after in pairwise(widths)
            )
            self.output = nn.Linear(sum(widths), outputs)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.to(device=device)

    def forward(self, x: Tensor) -> Tensor:
        r"""Map x of shape (\*, inputs) to shape (\*, outputs)."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(seen[-1]))
        return self.output(torch.cat(seen, -1))
