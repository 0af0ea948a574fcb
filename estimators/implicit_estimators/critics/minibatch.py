r"""A critic that sees how alike the samples of its batch are, so that a collapsed model gives itself away.

A critic that looks at one sample at a time cannot tell a model that always draws the same good sample from one that
draws many. Here each sample's features are joined by its closeness to the other samples of the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.seeds import Seed, forked, resolve_seed


class MinibatchDiscrimination(nn.Module):
    r"""Appends to each row of features its closeness to all rows of the batch.

    .. math:: M_i = T f_i, \quad o_{ib} = \sum_{j=1}^n \exp\left(-\sum_c |M_{ibc} - M_{jbc}|\right)

    The sum holds j = i, as in the paper: o is 1 for a sample that is like no other, and n in a batch of copies. It
    grows with the batch, so a network that was trained at one batch size is to be asked at that size. No row has an
    output of its own: see :func:`~implicit_estimators.penalties.base.slopes` for what refuses it.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 3.2
        | https://arxiv.org/abs/1606.03498

    Args:
        inputs: Width of the features.
        kernels: B, the number of closenesses.
        width: C, the width that each is measured in.
        seed: Seed of the initial T.

    Raises:
        ValueError: If a number is not positive.
    """

    mixes_rows: ClassVar[bool] = True

    def __init__(self, inputs: int, kernels: int = 20, width: int = 5, *, seed: Seed = None) -> None:
        super().__init__()
        for argument, value in (("inputs", inputs), ("kernels", kernels), ("width", width)):
            if value < 1:
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        self.kernels, self.width = kernels, width
        with forked(resolve_seed(seed)):
            self.map = nn.Linear(inputs, kernels * width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (n, inputs) to shape (n, inputs + kernels)."""
        m = self.map(features).unflatten(-1, (self.kernels, self.width))
        distance = (m[:, None] - m[None, :]).abs().sum(-1)
        return torch.cat([features, (-distance).exp().sum(1)], 1)


class MinibatchCritic(nn.Module):
    """Logits of samples, given a condition or not, that depend on the whole batch.

    Penalties on the slope at each sample have no meaning for it and refuse it.

    Args:
        inputs: Width of a sample.
        conditions: Width of a condition; 0 for none.
        hidden: Widths of the hidden layers, at least one; closeness is measured on the last.
        activation: A name in ``networks.mlp.MLP_ACTIVATIONS``.
        kernels: Number of closenesses.
        width: Width that each is measured in.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where the weights lie.

    Raises:
        ValueError: If a width is not positive, ``hidden`` is empty or the activation is unknown.
    """

    def __init__(
        self,
        inputs: int,
        conditions: int = 0,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "leaky_relu",
        kernels: int = 20,
        width: int = 5,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden: expected at least one layer; got none")
        if conditions < 0:
            raise ValueError(f"conditions: expected a width of 0 or more; got {conditions}")
        seed = resolve_seed(seed)
        self.body = MLP(inputs + conditions, 1, hidden, activation=activation, seed=seed).layers[:-1]
        self.closeness = MinibatchDiscrimination(hidden[-1], kernels, width, seed=seed)
        self.head = MLP(hidden[-1] + kernels, 1, (), seed=seed)
        self.config: dict[str, Any] = {
            "inputs": inputs,
            "conditions": conditions,
            "hidden": list(hidden),
            "activation": activation,
            "kernels": kernels,
            "width": width,
        }
        self.to(dtype=dtype, device=device)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits with shape (n,).

        Args:
            samples: x, with shape (n, inputs): one batch, all of p or all of q.
            condition: y, with shape (n, conditions), or None.
        """
        return self.both(samples, condition)[0]

    def both(self, samples: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The logits and the features in one pass."""
        features = self.features(samples, condition)
        return self.head(self.closeness(features)).squeeze(-1), features

    def features(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The last hidden layer at each sample by itself, with shape (n, hidden[-1])."""
        return self.body(samples if condition is None else torch.cat([samples, condition], 1))
