"""A network of a user's own as an embedding: called with x as it is, trained with the rest."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class OwnEmbedding(nn.Module):
    r"""Wraps a module that maps (n, \*event_shape) to n rows of any shape, which are flattened.

    A copy of the module is trained; the one that was given stays as it is, so that several runs start alike. Its
    inputs are not standardised: a network that comes with weights expects what it was trained on.

    Args:
        module: The network.
        event_shape: Shape of one x.

    Raises:
        TypeError: If ``module`` is no ``nn.Module``, or gives no tensor.
        ValueError: If it does not give two rows for two rows.
    """

    def __init__(self, module: nn.Module, event_shape: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"embedding: expected a name or an nn.Module; got {type(module).__name__}")
        self.event_shape = torch.Size(event_shape)
        self.module = copy.deepcopy(module)
        training = module.training
        with torch.no_grad():
            found = self.module.eval()(torch.zeros((2, *event_shape)))
        self.module.train(training)
        if not isinstance(found, Tensor):
            raise TypeError(f"embedding: expected a module that gives a tensor; got {type(found).__name__}")
        if not found.ndim or len(found) != 2:
            raise ValueError(f"embedding: expected 2 rows of outcomes for 2 rows; got shape {tuple(found.shape)}")
        self.outputs = found.numel() // 2

    def forward(self, x: Tensor) -> Tensor:
        r"""Outcome with shape (n, outputs) for x with shape (n, \*event_shape)."""
        return self.module(x).reshape(len(x), -1)
