r"""What ratio estimators of the plain kind train: K perceptrons of (theta, s), whose candidates share the first layer.

In a batch of b pairs each s meets A candidates: its own theta, and those of other rows of the batch. The first layer is
linear, :math:`W_\theta \theta + W_s s + b`, so that each theta and each s goes through it once, and the A b candidates
are sums of what came out. All weights of a member lie in one row of one tensor, which clipping, optimisers and averages
then meet as a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.seeds import Seed, resolve_seed, stream

EPSILON = 1e-5
"""What layer normalisation adds to variances."""

RATIO_ACTIVATIONS = {"relu": torch.relu, "silu": nn.functional.silu}
"""Activations whose gradients are written by hand."""


class RatioNetwork(nn.Module):
    r"""K perceptrons :math:`h_k(\theta, s)` of one shape, each with its own weights.

    Args:
        members: K, the number of perceptrons.
        parameters: Width of theta.
        summaries: Width of s.
        hidden: Widths of the hidden layers, at least one.
        activation: "silu" or "relu".
        layer_norm: Normalise each hidden layer before its activation.
        seed: Seed of the initial weights: member m's are those of an ``MLP`` with a stream (seed, m) of its own.
        first: Number of the first member; ``RatioNetwork(1, ..., first=2)`` is the third of ``RatioNetwork(3, ...)``.
        dtype: Floating type of the weights; float32 if None.

    Raises:
        ValueError: If a number or width is not positive, there is no hidden layer, or the activation is another.
    """

    def __init__(
        self,
        members: int,
        parameters: int,
        summaries: int,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "silu",
        layer_norm: bool = False,
        seed: Seed = None,
        first: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members: expected a positive int; got {members}")
        if not hidden or min(*hidden, parameters, summaries) < 1:
            raise ValueError(
                "hidden, parameters, summaries: expected positive widths, and at least one hidden layer; got "
                f"{tuple(hidden)}, {parameters}, {summaries}"
            )
        if activation not in RATIO_ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(RATIO_ACTIVATIONS)}; got {activation!r}")
        self.parameters_width, self.summaries_width, self.hidden = parameters, summaries, tuple(hidden)
        self.activation, self.layer_norm, self.first = activation, layer_norm, first
        root = resolve_seed(seed)
        singles = [
            MLP(
                parameters + summaries,
                1,
                hidden,
                activation=activation,
                layer_norm=layer_norm,
                seed=stream(root, "initialise", "cpu", first + member),
                dtype=dtype,
            )
            for member in range(members)
        ]
        self.weights = nn.Parameter(torch.stack([self._flatten(single) for single in singles]))

    @staticmethod
    def _flatten(single: MLP) -> Tensor:
        """The weights of one perceptron in the order of ``shapes``."""
        row: list[Tensor] = []
        for layer in single.modules():
            if isinstance(layer, nn.Linear):
                row += [layer.weight.detach().T.flatten(), layer.bias.detach()]
            elif isinstance(layer, nn.LayerNorm):
                row += [layer.weight.detach(), layer.bias.detach()]
        return torch.cat(row)

    @property
    def members(self) -> int:
        """K, the number of perceptrons."""
        return len(self.weights)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of a member's weights, in order: of theta, of s, their bias, and layer by layer on."""
        norm = 2 if self.layer_norm else 0
        first = self.hidden[0]
        shapes = [(self.parameters_width, first), (self.summaries_width, first), *[(1, first)] * (1 + norm)]
        for before, after in pairwise(self.hidden):
            shapes += [(before, after), *[(1, after)] * (1 + norm)]
        return [*shapes, (self.hidden[-1], 1), (1, 1)]

    def views(self, rows: Tensor) -> list[Tensor]:
        """Rows of weights, or of their gradients, with shape (K, P), as tensors that share their memory."""
        sizes = [before * after for before, after in self.shapes]
        parts = rows.split(sizes, 1)
        return [part.view(len(rows), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def forward(self, theta: Tensor, s: Tensor) -> Tensor:
        r"""Values at W parameters for each of B summaries.

        Args:
            theta: Parameters with shape (B, W, d), or (K, B, W, d) where each member sees others.
            s: Summaries with shape (B, k).

        Returns:
            Values with shape (K, B, W).
        """
        views = self.views(self.weights)
        batch, count = theta.shape[-3:-1]
        rows = theta.flatten(-3, -2).expand(self.members, -1, -1)
        pre = torch.bmm(rows, views[0]).unflatten(1, (batch, count))
        pre = pre + torch.baddbmm(views[2], s.expand(self.members, -1, -1), views[1])[:, :, None]
        return self._above(pre.flatten(1, 2), views[3:]).unflatten(1, (batch, count))

    def candidates(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> Tensor:
        """Values at the candidates of each row: row i + offset of theta, cyclically, beside row i of s.

        Args:
            theta: Parameters of b pairs, with shape (K, b, d).
            s: Their summaries, with shape (K, b, k).
            offsets: A offsets; 0 is the row itself.

        Returns:
            Values with shape (K, A, b).
        """
        views = self.views(self.weights)
        own = torch.bmm(theta, views[0])
        given = torch.baddbmm(views[2], s, views[1])
        pre = torch.stack([own.roll(-offset, 1) + given for offset in offsets], 1)
        return self._above(pre.flatten(1, 2), views[3:]).unflatten(1, pre.shape[1:3])

    def _above(self, pre: Tensor, views: list[Tensor]) -> Tensor:
        """What follows the first linear map: (K, n, width) to (K, n)."""
        activation = RATIO_ACTIVATIONS[self.activation]
        rest = iter(views)
        for layer in range(len(self.hidden)):
            if layer:
                weight, bias = next(rest), next(rest)
                pre = torch.baddbmm(bias, pre, weight)
            if self.layer_norm:
                scale, shift = next(rest), next(rest)
                pre = nn.functional.layer_norm(pre, pre.shape[-1:], eps=EPSILON) * scale + shift
            pre = activation(pre)
        weight, bias = next(rest), next(rest)
        return torch.baddbmm(bias, pre, weight)[..., 0]

    def settings(self) -> dict[str, Any]:
        """What another network of the same shape is made with."""
        return {
            "members": self.members,
            "parameters": self.parameters_width,
            "summaries": self.summaries_width,
            "hidden": list(self.hidden),
            "activation": self.activation,
            "layer_norm": self.layer_norm,
        }
