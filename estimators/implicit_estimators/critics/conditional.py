"""A critic of samples given a condition: the network that conditional games and amortised ratios are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.spectral import normalise_spectrally
from implicit_estimators.seeds import Seed, resolve_seed


class ConditionalCritic(nn.Module):
    r"""Logits :math:`c(x, y)` of samples x given conditions y: an MLP on both side by side.

    Trained to tell p(x, y) from q(x, y) with the same law of y, its output is :math:`\log p(x \mid y) / q(x \mid y)`.
    With several outputs it is a map to features, for comparisons that hold the laws of those against one another.

    Args:
        inputs: Width of a sample.
        conditions: Width of a condition; 0 for none.
        hidden: Widths of the hidden layers.
        outputs: Numbers for each sample: 1, or the width of the features.
        activation: A name in ``networks.mlp.MLP_ACTIVATIONS``; "maxout" with widths (200, 200, 200) is PacGAN's.
        layer_norm: Normalise each hidden layer.
        residual: Add a hidden layer's input to its output where the widths agree.
        spectral_norm: Divide each weight matrix by its largest singular value, so that the critic has slope at most 1
            (with activations of slope at most 1) in samples and conditions together.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where the weights lie.

    Raises:
        ValueError: If a width is not positive or the activation is unknown.

    References:
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """

    def __init__(
        self,
        inputs: int,
        conditions: int,
        hidden: Sequence[int] = (64, 64),
        *,
        outputs: int = 1,
        activation: str = "silu",
        layer_norm: bool = False,
        residual: bool = False,
        spectral_norm: bool = False,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if conditions < 0:
            raise ValueError(f"conditions: expected a width of 0 or more; got {conditions}")
        seed = resolve_seed(seed)
        self.network = MLP(
            inputs + conditions,
            outputs,
            hidden,
            activation=activation,
            layer_norm=layer_norm,
            residual=residual,
            seed=seed,
            dtype=dtype,
            device=device,
        )
        self.config: dict[str, Any] = {
            "inputs": inputs,
            "conditions": conditions,
            **{name: self.network.config[name] for name in ("hidden", "activation", "layer_norm", "residual")},
            "outputs": outputs,
            "spectral_norm": spectral_norm,
        }
        if spectral_norm:
            normalise_spectrally(self.network, seed)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        r"""Logits of each sample, or its features.

        Args:
            samples: x, with shape (\*, inputs).
            condition: y, with shape (\*, conditions); leading axes are broadcast against those of ``samples``, so one
                row of conditions can meet many samples. None if the critic has no condition.

        Returns:
            Logits with the broadcast leading shape (\*), or with shape (\*, outputs) if there are several.
        """
        return self.both(samples, condition)[0]

    def both(self, samples: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs and the features in one pass."""
        features = self.features(samples, condition)
        values = self.network.layers[-1](features)
        return (values.squeeze(-1) if self.config["outputs"] == 1 else values), features

    def features(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        r"""The last hidden layer at each sample, with shape (\*, hidden[-1]): what feature matching compares."""
        return self.network.features(self._pairs(samples, condition))

    def _pairs(self, samples: Tensor, condition: Tensor | None) -> Tensor:
        if condition is None:
            return samples
        leading = torch.broadcast_shapes(samples.shape[:-1], condition.shape[:-1])
        return torch.cat([samples.expand(*leading, -1), condition.expand(*leading, -1)], -1)
