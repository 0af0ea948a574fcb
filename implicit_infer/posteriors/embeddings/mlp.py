"""For vectors without an order that a network could use: residual layers over all entries."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.seeds import Seed
from implicit_infer.posteriors.embeddings.base import Embedding, entries


class MLPEmbedding(Embedding):
    """A residual multilayer perceptron over the entries of x, each of which is standardised by itself.

    Args:
        event_shape: Shape of one x.
        outputs: Width of the outcome.
        hidden: Widths of the hidden layers; one that repeats the width before it is residual.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If a width is not positive.
    """

    name = "mlp"

    def __init__(
        self, event_shape: Sequence[int], outputs: int = 16, hidden: Sequence[int] = (128, 128, 128), seed: Seed = None
    ) -> None:
        width = entries(event_shape)
        super().__init__(event_shape, width, outputs, hidden=list(hidden))
        self.layers = MLP(width, outputs, hidden, activation="silu", layer_norm=True, residual=True, seed=seed)

    def _arranged(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)

    def _network(self, z: Tensor) -> Tensor:
        return self.layers(z)
