"""What every embedding is: a network from x to a few numbers, which first brings its channels to order one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from implicit_estimators.networks.standardise import Standardiser

HEAVY = 10.0
"""Channels with standardised values beyond this are squashed by arsinh."""


class Embedding(nn.Module):
    r"""Maps x of shape (n, \*event_shape) to (n, outputs). A child writes ``_arranged`` and ``_network``.

    To add an embedding, copy ``mlp.py``: call ``super().__init__`` with what rebuilds it, make the layers under
    ``implicit_estimators.seeds.forked`` from a seed, write the two methods, and add one line to ``EMBEDDINGS``. All are
    checked by one contract in ``tests/implicit_infer/test_embeddings.py``.

    Args:
        event_shape: Shape of one x.
        inputs: Channels of x as ``_arranged`` gives it: each is shifted and scaled alike wherever it stands.
        outputs: Width of the outcome.
        settings: Whatever else the class was made with, JSON-able.

    Attributes:
        config: What makes the network anew, with fresh weights: ``rebuild_embedding(config)``.
    """

    name: ClassVar[str]

    def __init__(self, event_shape: Sequence[int], inputs: int, outputs: int, **settings: Any) -> None:
        super().__init__()
        if outputs < 1:
            raise ValueError(f"outputs: expected a positive int; got {outputs}")
        self.event_shape = torch.Size(event_shape)
        self.outputs = outputs
        self.config: dict[str, Any] = {
            "name": self.name,
            "event_shape": list(event_shape),
            "outputs": outputs,
            "squash": False,
            **settings,
        }
        self.standardise = Standardiser(torch.zeros(inputs), torch.ones(inputs))

    def fit(self, x: Tensor) -> None:
        r"""Learn where the channels lie and how wide they are, from simulations of shape (n, \*event_shape)."""
        rows = self._rows(x)
        found = Standardiser.fit(rows)
        if (found(rows).abs() > HEAVY).any():
            found = Standardiser.fit(rows, robust=True)
        self.standardise = found.to(self.standardise.location)
        self.config["squash"] = found.squash

    def forward(self, x: Tensor) -> Tensor:
        r"""Outcome with shape (n, outputs) for x with shape (n, \*event_shape)."""
        return self._network(self.standardise(self._arranged(x)))

    def _arranged(self, x: Tensor) -> Tensor:
        r"""X with its channels last: (n, \*places, channels)."""
        raise NotImplementedError(f"{type(self).__name__} must write _arranged")

    def _network(self, z: Tensor) -> Tensor:
        """The outcome for arranged, standardised x."""
        raise NotImplementedError(f"{type(self).__name__} must write _network")

    def _rows(self, x: Tensor) -> Tensor:
        """What tells where the channels lie, with shape (N, channels)."""
        return self._arranged(x).flatten(0, -2)


def entries(event_shape: Sequence[int]) -> int:
    """How many numbers an x of this shape holds."""
    return math.prod(event_shape)
