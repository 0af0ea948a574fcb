"""The generator for samples without structure: layers of one width after another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from implicit_estimators.networks import ACTIVATIONS
from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.generators.networks.base import Bounds, Generator, joined


class MLPGenerator(Generator):
    r"""A multilayer perceptron of noise and condition, :math:`h \leftarrow a(\operatorname{norm}(W h + b))`.

    With ``hidden=(400,) * 4, activation="relu", batch_norm=True`` it is PacGAN's synthetic generator.
    Under batch normalisation a draw depends on its batch while the network learns, and not afterwards.

    Args:
        event_shape: Shape of one sample; an int d is (d,).
        latent: Width of the noise.
        condition: Width of a condition; 0 for none.
        hidden: Widths of the hidden layers.
        activation: A name in ``implicit_estimators.networks.ACTIVATIONS``.
        batch_norm: Normalise each hidden layer over the batch, before its activation.
        classes: See :class:`~implicit_infer.generators.networks.base.Generator`.
        embedding: The same.
        bounds: The same.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where they lie.

    Raises:
        ValueError: If a width is not positive or the activation is unknown.

    References:
        | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018)
        | https://arxiv.org/abs/1712.04086
    """

    name = "mlp"

    def __init__(
        self,
        event_shape: int | Sequence[int],
        latent: int,
        condition: int = 0,
        hidden: Sequence[int] = (128, 128, 128),
        *,
        activation: str = "relu",
        batch_norm: bool = False,
        classes: int | None = None,
        embedding: int | None = None,
        bounds: Bounds = None,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden: expected positive widths; got {tuple(hidden)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        with forked(resolve_seed(seed)):
            super().__init__(event_shape, latent, condition, classes, embedding, bounds)
            widths = [latent + self.encoded_width, *hidden]
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                # a shift would be taken off again by the normalisation
                layers.append(nn.Linear(before, after, bias=not batch_norm))
                layers += [nn.BatchNorm1d(after)] if batch_norm else []
                layers.append(ACTIVATIONS[activation]())
            self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], self.size))
        self.config |= {"hidden": list(hidden), "activation": activation, "batch_norm": batch_norm}
        self.to(dtype=dtype, device=device)

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The last layer's values, in the shape of a sample."""
        return self.layers(joined(z, condition)).reshape(-1, *self.event_shape)
