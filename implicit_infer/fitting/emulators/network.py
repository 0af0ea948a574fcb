"""The generator that starts as a linear Gaussian simulator: noise passes through, and a network adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.seeds import Seed
from implicit_infer.generators.networks import rebuild as rebuild_generator
from implicit_infer.generators.networks.base import Generator, joined


class PassingGenerator(Generator):
    r""":math:`g(z, c) = z_{1..k} + m(z, c)` with an MLP m that is 0 at first.

    In the units of :class:`~implicit_infer.fitting.emulators.frame.Frame`, noise that passes through is the linear
    Gaussian simulator; what is learned is how the simulator differs from it.

    Args:
        event_shape: Shape of one sample; an int k is (k,).
        latent: Width of the noise, at least the entries of a sample.
        condition: Width of a condition; 0 for none.
        hidden: Widths of the hidden layers.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If the noise is too narrow, or a width is not positive.
    """

    name = "passing"

    def __init__(
        self,
        event_shape: int | Sequence[int],
        latent: int,
        condition: int = 0,
        hidden: Sequence[int] = (64, 64),
        *,
        seed: Seed = None,
    ) -> None:
        super().__init__(event_shape, latent, condition)
        if latent < self.size:
            raise ValueError(f"latent: expected at least {self.size}, the entries of a sample; got {latent}")
        self.network = MLP(latent + condition, self.size, hidden, seed=seed)
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
        self.config: dict[str, Any] = {
            "name": self.name,
            "event_shape": list(self.event_shape),
            "latent": latent,
            "condition": condition,
            "hidden": list(hidden),
        }

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The noise, and what the network adds to it."""
        return (z[:, : self.size] + self.network(joined(z, condition))).reshape(-1, *self.event_shape)


def rebuild(config: dict[str, Any]) -> nn.Module:
    """The network that ``config`` describes, with fresh weights."""
    settings = dict(config)
    if settings["name"] != PassingGenerator.name:
        return rebuild_generator(settings)
    del settings["name"]
    return PassingGenerator(**settings, seed=0)
