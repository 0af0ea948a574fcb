"""Networks on disk: one safetensors file, whose header holds the settings as JSON. Nothing in it can run.

Any reader of safetensors opens the tensors, and the header's ``config`` says what they belong to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = "implicit-estimators/1"


def save(path: str | os.PathLike[str], kind: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write tensors and settings to ``path``, replacing it in one step.

    Args:
        path: File to write; its folder must exist.
        kind: What is saved, checked when it is loaded.
        tensors: A module's ``state_dict()`` and whatever else belongs to it.
        config: JSON-able settings.

    Raises:
        TypeError: If ``config`` is not JSON-able.
    """
    from safetensors.torch import save_file

    path = Path(path)
    header = {"format": FORMAT, "kind": kind, "config": json.dumps(config)}
    draft = path.with_name(path.name + ".draft")
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(owned, draft, metadata=header)
    os.replace(draft, path)


def kind(path: str | os.PathLike[str]) -> str:
    """What a file that :func:`save` wrote holds.

    Args:
        path: File to read.

    Returns:
        The kind it was saved under.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {os.fspath(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"path: {os.fspath(path)} is not a safetensors file") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"path: expected a file saved as {FORMAT}; got {header.get('format')!r}")
    return str(header["kind"])


def load(
    path: str | os.PathLike[str], kind: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote.

    Args:
        path: File to read.
        kind: What is expected in it.
        device: Where the tensors shall lie.

    Returns:
        The tensors and the settings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not one of ours, or holds another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {os.fspath(path)}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"path: expected a file saved as {FORMAT}; got {header.get('format')!r}")
            if header.get("kind") != kind:
                raise ValueError(f"path: expected a saved {kind}; got a {header.get('kind')}")
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(header["config"])
    except SafetensorError as error:
        raise ValueError(f"path: {os.fspath(path)} is not a safetensors file") from error


def joined(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several modules as one dict; :func:`parted` takes it apart again."""
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def parted(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by what stands before the first dot of their names."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts
