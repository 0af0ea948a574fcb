"""Posteriors on disk: one safetensors file whose header says what they are made of. Nothing in it can run.

What is written is what the posterior holds: tensors, networks, settings, and which class each belongs to. Reading it
makes objects of those classes and gives them what they held; no constructor is called and no code is read, and a name
that is not one of the package's, of torch's layers or of zuko's is refused. The simulator is not in the file: whoever
loads a posterior brings it, and it must be the one that was asked about.

A new kind of posterior needs nothing for this as long as its attributes are tensors, modules, dataclasses and plain
data. One that holds something else (a cache, an open file) leaves it out in ``_state`` and makes it anew in
``_of_state``; see :class:`implicit_infer.posteriors.base.Posterior`.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from implicit_estimators.networks import storage
from implicit_infer.posteriors.saving_graph import Reader, Writer
from implicit_simulators import Simulator

KIND = "posterior"
VERSION = 1
"""Of the format: files of a later one are refused."""


def save_posterior(posterior: Any, path: str | os.PathLike[str]) -> None:
    """Write a posterior to one file, replacing it in one step; ``load_posterior`` reads it.

    Args:
        posterior: The posterior.
        path: File to write; its folder must exist.

    Raises:
        TypeError: If it holds what cannot be written without pickle, such as a network of sbi's; the message says what
            and where.
    """
    writer = Writer(posterior.simulator)
    root = writer.write(posterior, type(posterior).__name__)
    config = {
        "version": VERSION,
        "simulator": identity(posterior.simulator),
        "root": root,
        "objects": writer.objects,
    }
    storage.save(path, KIND, writer.tensors, config)


def load_posterior(path: str | os.PathLike[str], simulator: Simulator) -> Any:
    """Read a posterior that ``posterior.save`` wrote; at a seed it draws what it drew before.

    Args:
        path: The file.
        simulator: The simulator that was asked about, made with the same settings.

    Returns:
        The posterior, of the class that it was.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else, or is of another simulator; the message says what differs.
        TypeError: If ``simulator`` is none.

    Example:
        >>> import implicit_infer as ii
        >>> posterior.save("two-moons.safetensors")                                # doctest: +SKIP
        >>> posterior = ii.load_posterior("two-moons.safetensors", TwoMoons())     # doctest: +SKIP
    """
    if not isinstance(simulator, Simulator):
        raise TypeError(f"simulator: expected a Simulator; got {type(simulator).__name__}")
    tensors, config = storage.load(path, KIND)
    if config.get("version") != VERSION:
        raise ValueError(f"path: expected a posterior of version {VERSION}; got {config.get('version')!r}")
    ours, theirs = identity(simulator), config["simulator"]
    for key in dict.fromkeys((*ours, *theirs)):
        if ours.get(key) != theirs.get(key):
            raise ValueError(
                f"simulator: {os.fspath(path)} was saved with {key} {theirs.get(key)!r}; this one has {ours.get(key)!r}"
            )
    return Reader(simulator, tensors, config["objects"]).read(config["root"])


def identity(simulator: Simulator) -> dict[str, Any]:
    """What two simulators must share for a posterior of one to be one of the other, as JSON gives it back."""
    said = {
        "class": f"{type(simulator).__module__}.{type(simulator).__qualname__}",
        "name": simulator.name,
        "settings": simulator.settings(),
        "parameters": list(simulator.parameter_names),
        "event_shape": list(simulator.event_shape),
        # a prior has no name that tells it from another, its draws do, but for their last digits
        "prior": hashlib.sha256(_rounded(simulator)).hexdigest(),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(said, default=repr))
    return loaded


def _rounded(simulator: Simulator) -> bytes:
    return " ".join(f"{value:.4g}" for value in simulator.sample_prior(8, seed=0).flatten().tolist()).encode()
