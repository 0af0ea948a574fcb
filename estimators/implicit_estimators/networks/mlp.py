"""The network that most estimators need: layers of one width after another, with the usual three choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.maxout import Maxout
from implicit_estimators.seeds import Seed, forked, resolve_seed

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}
"""Activations by name, one output for each input."""

MLP_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {**ACTIVATIONS, "maxout": Maxout}
"""Those of an MLP: the others, and the maxout of 5 linear maps for each hidden unit."""


class MLP(nn.Module):
    r"""A multilayer perceptron on the last axis: :math:`h \leftarrow a(\operatorname{norm}(W h + b))`, then linear.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        hidden: Widths of the hidden layers; () is a linear map.
        activation: A name in ``MLP_ACTIVATIONS``.
        layer_norm: Normalise each hidden layer before its activation.
        residual: Add a hidden layer's input to its output where the widths agree.
        seed: Seed of the initial weights; torch's global generator is left as it was.
        dtype: Floating type of the weights; float32 if None.
        device: Where the weights lie.

    Raises:
        ValueError: If a width is not positive or the activation is unknown.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "silu",
        layer_norm: bool = False,
        residual: bool = False,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        if min(*widths, outputs) < 1:
            raise ValueError(f"hidden: expected positive widths; got {inputs} -> {tuple(hidden)} -> {outputs}")
        if activation not in MLP_ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(MLP_ACTIVATIONS)}; got {activation!r}")
        self.config: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "hidden": list(hidden),
            "activation": activation,
            "layer_norm": layer_norm,
            "residual": residual,
        }
        with forked(resolve_seed(seed)):
            self._build(widths, outputs)
        self.to(dtype=dtype, device=device)

    def _build(self, widths: list[int], outputs: int) -> None:
        layers = []
        for before, after in pairwise(widths):
            activation = MLP_ACTIVATIONS[self.config["activation"]]()
            linear = after * activation.pieces if isinstance(activation, Maxout) else after
            parts: list[nn.Module] = [nn.Linear(before, linear)]
            if self.config["layer_norm"]:
                parts.append(nn.LayerNorm(linear))
            parts.append(activation)
            layer = nn.Sequential(*parts)
            layers.append(Residual(layer) if self.config["residual"] and before == after else layer)
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def forward(self, x: Tensor) -> Tensor:
        r"""Map x of shape (\*, inputs) to shape (\*, outputs)."""
        return self.layers(x)

    def features(self, x: Tensor) -> Tensor:
        r"""The last hidden layer at x, with shape (\*, hidden[-1]); x itself where there is none."""
        return self.layers[:-1](x)


class Residual(nn.Module):
    """Adds a layer's input to its output.

    Args:
        layer: A layer that keeps the shape.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """X plus the layer's value at x."""
        return x + self.layer(x)
