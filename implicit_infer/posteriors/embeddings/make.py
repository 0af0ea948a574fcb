"""Embeddings by name, and which one the data of a simulator call for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from implicit_estimators.seeds import Seed
from implicit_infer.posteriors.embeddings.base import Embedding
from implicit_infer.posteriors.embeddings.image import ImageEmbedding
from implicit_infer.posteriors.embeddings.mlp import MLPEmbedding
from implicit_infer.posteriors.embeddings.own import OwnEmbedding
from implicit_infer.posteriors.embeddings.points import SetEmbedding
from implicit_infer.posteriors.embeddings.series import SeriesEmbedding
from implicit_simulators import Simulator

EMBEDDINGS: dict[str, type[Embedding]] = {
    "mlp": MLPEmbedding,
    "series": SeriesEmbedding,
    "image": ImageEmbedding,
    "set": SetEmbedding,
}
"""Every embedding there is, by name."""

Choice = str | Mapping[str, Any] | nn.Module | None
"""What a user may give as ``embedding=``: a name, a name with settings, a network, or None for no embedding."""

FIELD = 8
"""Height and width from which on an x with two axes is taken for an image rather than for a series of vectors."""


def make_embedding(
    embedding: str | Mapping[str, Any] | nn.Module,
    event_shape: Sequence[int],
    seed: Seed = None,
    **settings: Any,
) -> Any:
    r"""An embedding from its name, or of a user's module; called with x of shape (n, \*event_shape).

    Args:
        embedding: A name in ``EMBEDDINGS``, a mapping ``{"name": ..., **settings}``, or an ``nn.Module``.
        event_shape: Shape of one x.
        seed: Seed of the initial weights; a module comes with its own.
        settings: Whatever else the embedding's class takes: ``outputs``, ``channels``, ``pooling``, ...

    Returns:
        The network, a module with ``outputs``, the width of what it gives. One of the package's is to be shown some
        simulations first, ``made.fit(x)``, that it may bring its inputs to order one.

    Raises:
        ValueError: If there is none of that name, or x has a shape that it cannot take.
        TypeError: If ``embedding`` is something else, or the class does not know a setting.

    Example:
        >>> import torch
        >>> network = make_embedding("series", (50, 2), seed=0, outputs=8)
        >>> network(torch.zeros(3, 50, 2)).shape
        torch.Size([3, 8])
    """
    if isinstance(embedding, nn.Module):
        if settings:
            raise TypeError(f"settings: expected none beside a module; got {', '.join(settings)}")
        return OwnEmbedding(embedding, event_shape)
    if isinstance(embedding, Mapping):
        given = {**embedding, **settings}
        name = given.pop("name", None)
        return make_embedding(name if isinstance(name, str) else repr(name), event_shape, seed, **given)
    if not isinstance(embedding, str):
        raise TypeError(f"embedding: expected a name, a mapping or an nn.Module; got {type(embedding).__name__}")
    if embedding not in EMBEDDINGS:
        raise ValueError(f"embedding: expected one of {', '.join(EMBEDDINGS)} or an nn.Module; got {embedding!r}")
    kind: Any = EMBEDDINGS[embedding]
    return kind(tuple(event_shape), seed=seed, **settings)


def rebuild_embedding(config: Mapping[str, Any]) -> Embedding:
    """The embedding that a ``config`` describes, with fresh weights: load its ``state_dict`` next.

    Raises:
        ValueError: If there is none of its name.
        TypeError: If a setting is unknown.
    """
    settings = dict(config)
    squash = settings.pop("squash")
    made: Embedding = make_embedding(settings, settings.pop("event_shape"), seed=0)
    made.standardise.squash = made.config["squash"] = bool(squash)
    return made


def kind_for(simulator: Simulator) -> str:
    """The embedding that a simulator's x calls for.

    Several points of one law are a set; what has ``event_times``, or two axes of which one is short, is a series;
    larger fields are images; the rest are vectors.

    Args:
        simulator: The simulator.

    Returns:
        A name in ``EMBEDDINGS``.
    """
    shape = simulator.event_shape
    if simulator.points > 1 or getattr(simulator, "masked", False):
        return "set"
    times = getattr(simulator, "event_times", None)
    if times is not None and len(shape) and len(times) == shape[0]:
        return "series"
    if len(shape) >= 3 or (len(shape) == 2 and min(shape) >= FIELD):
        return "image"
    return "series" if len(shape) == 2 else "mlp"
