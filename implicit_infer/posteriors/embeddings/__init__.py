r"""Networks that turn x into summaries, trained with whatever is learned of them: the setting ``embedding=``.

How a method takes one: the module :class:`EmbeddedSummaries` stands between x and the method's networks. ::

    view = EmbeddedSummaries(coordinates, embedding, x, seed)   # embedding: None, a name, "auto", a mapping or a module
    given = view.given(x)            # once for all simulations: rows (n, view.given_width) for the training loop
    s = view.linear(given)           # what coordinates.free(u, s) and coordinates.bound(v, s) take
    network(torch.cat((v, view(given)), 1))       # in each batch: view(given) has shape (n, view.width)

``view`` must be a submodule of what is trained, so that its weights are. With ``embedding=None`` it hands the linear
summaries on, and all three are the same tensor. ``make_embedding(name_or_module, event_shape, seed=..., **settings)``
is the bare network, with ``outputs`` and, for the package's own, ``fit(x)``.
"""

from implicit_infer.posteriors.embeddings.base import Embedding
from implicit_infer.posteriors.embeddings.image import ImageEmbedding
from implicit_infer.posteriors.embeddings.make import EMBEDDINGS, kind_for, make_embedding, rebuild_embedding
from implicit_infer.posteriors.embeddings.mlp import MLPEmbedding
from implicit_infer.posteriors.embeddings.own import OwnEmbedding
from implicit_infer.posteriors.embeddings.points import SetEmbedding
from implicit_infer.posteriors.embeddings.series import SeriesEmbedding
from implicit_infer.posteriors.embeddings.summaries import EmbeddedSummaries

__all__ = [
    "EMBEDDINGS",
    "EmbeddedSummaries",
    "Embedding",
    "ImageEmbedding",
    "MLPEmbedding",
    "OwnEmbedding",
    "SeriesEmbedding",
    "SetEmbedding",
    "kind_for",
    "make_embedding",
    "rebuild_embedding",
]
