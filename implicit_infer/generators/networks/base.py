r"""What every generator network shares: noise in, a sample out, in the units of the data that it is to resemble.

A network is called with noise z, standard normal, and with a condition c where it has one,

.. math:: x = m + s \, g(z, c) \quad \text{or, between bounds,} \quad x = a + (b - a) \, \sigma(g(z, c)),

where m and s are the location and the scale of the data (:meth:`Generator.fit_scale`): a network starts where the data
are, and its weights have the size that they were made for. ``config`` holds all that rebuilds it
(:func:`implicit_infer.generators.networks.rebuild`); its weights and its scale are its ``state_dict``.

To add one: copy a neighbour, set ``name``, write ``draw``, and add it to ``GENERATORS``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from implicit_estimators.seeds import Seed, generator

Bounds = tuple[float, float] | None
"""Lowest and highest value of a sample's entries, or None where there is none."""


class Generator(nn.Module):
    r"""A child sets ``name`` and writes ``draw(z, condition)``, the sample in standard units.

    Attributes:
        name: The name in ``GENERATORS``.
        event_shape: Shape of one sample.
        latent_shape: Shape of the noise of one sample.
        condition_width: Numbers in one condition; 0 for none.
        config: JSON-able settings that rebuild the network.

    Args:
        event_shape: Shape of one sample; an int d is (d,).
        latent: Width of the noise of one sample.
        condition: Width of a condition; 0 for none.
        classes: How many classes there are, where the condition is a class label 0, 1, ..., as one number; None
            where it is a row of numbers.
        embedding: Width of the vector that is learned for each class; None for one-hot columns.
        bounds: Lowest and highest value that a sample's entries may have; None for no bounds.

    Raises:
        ValueError: If a number is out of its range.
    """

    name: ClassVar[str]
    location: Tensor
    scale: Tensor

    def __init__(
        self,
        event_shape: int | Sequence[int],
        latent: int,
        condition: int = 0,
        classes: int | None = None,
        embedding: int | None = None,
        bounds: Bounds = None,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(int(n) for n in event_shape)
        if not self.event_shape or min(self.event_shape) < 1:
            raise ValueError(f"event_shape: expected positive sizes; got {self.event_shape}")
        if latent < 1:
            raise ValueError(f"latent: expected a positive int; got {latent}")
        if condition < 0:
            raise ValueError(f"condition: expected a width of 0 or more; got {condition}")
        if classes is not None and (classes < 2 or condition != 1):
            raise ValueError(
                f"classes: expected at least 2, and labels as a condition of width 1; got {classes}, {condition}"
            )
        if embedding is not None and (classes is None or embedding < 1):
            raise ValueError(f"embedding: expected a positive width, with classes; got {embedding}, classes={classes}")
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds: expected (low, high) with low < high; got {bounds}")
        self.latent_shape = (latent,)
        self.condition_width = condition
        self.classes = classes
        self.bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        self.embedding = None if embedding is None or classes is None else nn.Embedding(classes, embedding)
        self.register_buffer("location", torch.zeros(self.event_shape))
        self.register_buffer("scale", torch.ones(self.event_shape))
        self.config: dict[str, Any] = {
            "name": self.name,
            "event_shape": list(self.event_shape),
            "latent": latent,
            "condition": condition,
            "classes": classes,
            "embedding": embedding,
            "bounds": None if self.bounds is None else list(self.bounds),
        }

    @property
    def size(self) -> int:
        """How many numbers one sample has."""
        return math.prod(self.event_shape)

    @property
    def encoded_width(self) -> int:
        """Width of the condition as the network gets it: labels are spread over columns."""
        if self.classes is None:
            return self.condition_width
        return self.classes if self.embedding is None else self.embedding.embedding_dim

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The sample in standard units (before the scale, or the bounds), with shape (n, *event_shape).

        Args:
            z: Noise with shape (n, *latent_shape).
            condition: The condition as columns, with shape (n, encoded_width), or None.
        """
        raise NotImplementedError(f"{type(self).__name__} must write draw(z, condition)")

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The sample that noise makes.

        Args:
            z: Standard normal noise with shape (n, *latent_shape).
            condition: With shape (n, condition_width), or (n,) for a width of 1; None for a network without.

        Returns:
            Samples with shape (n, *event_shape).

        Raises:
            ValueError: If the noise or the condition has another shape.
        """
        if z.shape[1:] != self.latent_shape:
            raise ValueError(f"z: expected shape (n, {', '.join(map(str, self.latent_shape))}); got {tuple(z.shape)}")
        return self.place(self.draw(z, self.encode(condition, len(z))))

    def encode(self, condition: Tensor | None, rows: int) -> Tensor | None:
        """The condition as columns of numbers.

        Raises:
            ValueError: If there is one and the network has none, the other way round, or its shape is another.
        """
        if not self.condition_width or condition is None:
            if condition is None and not self.condition_width:
                return None
            got = "None" if condition is None else f"shape {tuple(condition.shape)}"
            raise ValueError(f"condition: expected a width of {self.condition_width}; got {got}")
        columns = condition.reshape(len(condition), -1)
        if columns.shape != (rows, self.condition_width):
            raise ValueError(
                f"condition: expected shape ({rows}, {self.condition_width}); got {tuple(condition.shape)}"
            )
        if self.classes is None:
            return columns.to(self.location.dtype)
        labels = columns[:, 0].round().long()
        if self.embedding is not None:
            return self.embedding(labels)
        return (labels[:, None] == torch.arange(self.classes, device=labels.device)).to(self.location.dtype)

    def place(self, standard: Tensor) -> Tensor:
        """Standard units to those of the data."""
        if self.bounds is None:
            return self.location + self.scale * standard
        low, high = self.bounds
        return low + (high - low) * torch.sigmoid(self.location + self.scale * standard)

    @torch.no_grad()
    def fit_scale(self, data: Tensor) -> None:
        r"""Take the location and the scale of the data: mean and standard deviation of each entry.

        Where there are bounds, the network keeps to them, and nothing is taken. An entry that does not vary has scale 0
        in data and keeps a scale of 1e-6 of the others', so that no sample is refused.

        Args:
            data: With shape (n, \*event_shape), n at least 2.

        Raises:
            ValueError: If the shape is another.
        """
        if data.shape[1:] != self.event_shape or len(data) < 2:
            expected = ", ".join(map(str, self.event_shape))
            raise ValueError(f"data: expected shape (n, {expected}) with n at least 2; got {tuple(data.shape)}")
        if self.bounds is None:
            self._take_scale(data)

    def _take_scale(self, values: Tensor) -> None:
        values = values.double()
        spread = values.std(0)
        widest = float(spread.max())
        self.location.copy_(values.mean(0))
        self.scale.copy_(spread.clamp(min=1e-6 * widest) if widest > 0 else torch.ones_like(spread))

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        """Draws of the network as it is.

        Args:
            n: How many.
            condition: With n rows, or None for a network without.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.

        Returns:
            Samples with shape (n, *event_shape).
        """
        source = generator(seed, self.location.device)
        z = torch.randn(
            (n, *self.latent_shape), generator=source, device=self.location.device, dtype=self.location.dtype
        )
        return self(z, condition)


def joined(z: Tensor, condition: Tensor | None) -> Tensor:
    """Noise and condition side by side."""
    return z if condition is None else torch.cat([z, condition], 1)
