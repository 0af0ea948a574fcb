r"""What a conditional network is given of x: the linear summaries, and beside them what an embedding finds in x.

.. math:: c(x) = (s(x), \; e_\psi(x))

The linear summaries s are those of :class:`Coordinates`, whose regression needs them; the embedding's weights
:math:`\psi` are trained by the loss of the density, the ratio or the generator that is given c. Nothing else tells the
embedding what to look for.

A training loop holds its data as rows of one tensor. So x travels as ``given``: s, and flat beside it x itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.embeddings.base import Embedding, entries
from implicit_infer.posteriors.embeddings.make import Choice, kind_for, make_embedding
from implicit_simulators import Simulator

MANY = 64
"""Linear summaries beyond this number are handed on as what the regression makes of them, d numbers."""


class EmbeddedSummaries(nn.Module):
    r"""Linear summaries and an embedding of x as one module: ``given = view.given(x)``, then ``view(given)``.

    With ``embedding=None``, ``given`` is the summaries and the module hands them on, so that a method needs no second
    path.

    Args:
        coordinates: Gives the linear summaries.
        embedding: None, a name in ``EMBEDDINGS``, "auto" for the one that the simulator's x calls for, a mapping
            ``{"name": ..., **settings}``, or an ``nn.Module`` from (n, \*event_shape) to (n, ...).
        x: Simulations with shape (n, \*event_shape), which the embedding's inputs are scaled by: some hundred suffice.
        seed: Seed of the embedding's initial weights.

    Attributes:
        width: Width of what ``view(given)`` gives.
        given_width: Width of ``given``.

    Raises:
        ValueError: If there is no embedding of that name, or it does not fit the shape of x.
        TypeError: If a setting is unknown.
    """

    def __init__(self, coordinates: Coordinates, embedding: Choice, x: Tensor, seed: int) -> None:
        super().__init__()
        made = None
        if embedding is not None:
            made = make_embedding(named(embedding, coordinates.simulator), x.shape[1:], seed=seed)
            if isinstance(made, Embedding):
                made.fit(x.to(coordinates.slope))
        self._take(coordinates, made)

    @classmethod
    def of(cls, coordinates: Coordinates, embedding: nn.Module | None) -> EmbeddedSummaries:
        """Around an embedding that is made and fitted, or None."""
        view = cls.__new__(cls)
        nn.Module.__init__(view)
        view._take(coordinates, embedding)
        return view

    def _take(self, coordinates: Coordinates, embedding: Any) -> None:
        self.coordinates, self.embedding = coordinates, embedding
        self.event_shape = coordinates.simulator.event_shape
        k, d = coordinates.summaries_dim, coordinates.parameters_dim
        self.width = self.given_width = k
        if embedding is not None:
            self.given_width = k + entries(self.event_shape)
            self.width = (d if k > MANY else k) + embedding.outputs

    def given(self, x: Tensor) -> Tensor:
        r"""What a training loop holds of x with shape (n, \*event_shape): rows (n, given_width)."""
        s = self.coordinates.summaries(x)
        return s if self.embedding is None else torch.cat((s, x.reshape(len(x), -1).to(s)), 1)

    def linear(self, given: Tensor) -> Tensor:
        r"""The linear summaries in ``given``: what ``Coordinates.free`` and ``bound`` take, with shape (\*, k)."""
        return given[..., : self.coordinates.summaries_dim]

    def forward(self, given: Tensor) -> Tensor:
        r"""Rows (n, width) for a network, of rows (n, given_width)."""
        if self.embedding is None:
            return given
        s, x = given.tensor_split((self.coordinates.summaries_dim,), dim=1)
        found = self.embedding(x.reshape(len(x), *self.event_shape))
        if s.shape[1] > MANY:
            fitted = s @ self.coordinates.slope.T
            s = fitted @ self.coordinates.whiten.T
        return torch.cat((s, found), 1)


def named(embedding: str | Mapping[str, Any] | nn.Module, simulator: Simulator) -> str | Mapping[str, Any] | nn.Module:
    """An embedding's name with what only the simulator knows: the kind for "auto", and which rows are points."""
    if embedding == "auto":
        embedding = kind_for(simulator)
    settings: dict[str, Any] = {"name": embedding} if isinstance(embedding, str) else {}
    if isinstance(embedding, Mapping):
        settings = dict(embedding)
    if settings.get("name") != "set":
        return embedding
    masked = bool(getattr(simulator, "masked", False))
    known: dict[str, Any] = {"masked": masked}
    if simulator.points > 1 and not masked:
        known["points"] = simulator.points
    return {**known, **settings}
