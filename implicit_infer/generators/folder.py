"""What learning leaves for a user who works with files: draws, network, history, picture and figures in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_estimators.discrepancies import MMD, SlicedWasserstein
from implicit_estimators.seeds import stream
from implicit_infer.draws import read_numbers
from implicit_infer.generators.learned import Learned

MOST = 2000
"""Rows of each side that figures are of."""


def read_samples(path: Path, condition: str | None) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Samples and conditions in a file.

    Args:
        path: A CSV, NPY, NPZ, JSON or Parquet file with a sample in each row. An NPZ file holds one array, or one named
            "data" and perhaps one named "condition".
        condition: Columns that are conditions, by name or number from 0, with commas between; None for none.

    Returns:
        The samples, their conditions or None, and the names of the columns of the samples where they have any.

    Raises:
        ValueError: If the file holds something else, or a column is not there.
        FileNotFoundError: If there is no such file.
    """
    if path.suffix == ".npz":
        return (*_from_npz(path), [])
    values, names = read_numbers(path)
    values = values[:, None] if values.ndim == 1 else values
    if condition is None:
        return values, None, names
    if values.ndim != 2:
        raise ValueError(f"condition: expected a table with columns; {path.name} has shape {values.shape}")
    chosen = []
    for column in condition.split(","):
        name = column.strip()
        if name in names:
            chosen.append(names.index(name))
        elif name.isdigit() and int(name) < values.shape[1]:
            chosen.append(int(name))
        else:
            known = ", ".join(names) or f"0 to {values.shape[1] - 1}"
            raise ValueError(f"condition: {path.name} has the columns {known}; got {name!r}")
    rest = [i for i in range(values.shape[1]) if i not in chosen]
    return values[:, rest], values[:, chosen], [names[i] for i in rest] if names else []


def _from_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:  # objects, which only unpickling could read
        raise ValueError(f"{path.name}: expected numbers only") from error
    if len(arrays) == 1:
        return next(iter(arrays.values())), None
    if "data" not in arrays or set(arrays) - {"data", "condition"}:
        raise ValueError(f"{path.name}: expected one array, or data and condition; got {', '.join(arrays)}")
    return arrays["data"], arrays.get("condition")


def write_folder(
    learned: Learned, data: np.ndarray, condition: np.ndarray | None, names: list[str], out: Path, draws: int, seed: int
) -> dict[str, tuple[float, float | None]]:
    """Write what was learned to a folder.

    ``samples.csv`` (``samples.npy`` for images), ``learned.safetensors``, ``history.csv``, ``metrics.csv`` and
    ``plot.png``.

    Args:
        learned: What was learned.
        data: What from.
        condition: What the samples were given; draws are made for conditions chosen among them.
        names: Of the columns, or none.
        out: The folder.
        draws: How many draws are written.
        seed: Of the draws.

    Returns:
        Figures by name: of draws against data, and of one half of the data against the other, which is what chance
        would give; None where there is no such thing.
    """
    import pandas as pd

    out.mkdir(parents=True, exist_ok=True)
    given = None
    if condition is not None:
        random = stream(seed, "subsample")
        given = torch.as_tensor(condition)[torch.randint(len(condition), (draws,), generator=random)]
    made = learned.sample((draws,), given, seed=seed).cpu()
    if made.ndim == 2:
        columns = names or [f"x_{i + 1}" for i in range(made.shape[1])]
        pd.DataFrame(made.numpy(), columns=columns).to_csv(out / "samples.csv", index=False)
    else:
        np.save(out / "samples.npy", made.numpy())
    learned.save(out / "learned.safetensors")
    pd.DataFrame(learned.history.columns()).to_csv(out / "history.csv", index=False)
    learned.plot(seed=seed).savefig(out / "plot.png", dpi=150)
    figures = metrics(learned, torch.as_tensor(data), made, seed)
    table = pd.DataFrame([(name, *pair) for name, pair in figures.items()], columns=["figure", "draws", "chance"])
    table.to_csv(out / "metrics.csv", index=False)
    return figures


def metrics(learned: Learned, data: Tensor, draws: Tensor, seed: int) -> dict[str, tuple[float, float | None]]:
    """How far draws are from data, in standardised units, beside how far one half of the data is from the other."""
    chosen = torch.randperm(len(data), generator=stream(seed, "split"))[: 2 * MOST]
    sight = learned.sight
    centre, scale = sight.centre.cpu().double(), sight.scale.cpu().double()
    some = ((data[chosen].reshape(-1, *learned.event_shape).double() - centre) / scale).flatten(1)
    ours = ((draws[:MOST].double() - centre) / scale).flatten(1)
    first, second = some[: len(some) // 2], some[len(some) // 2 :]
    kernel, slices = MMD.placed(first, second, seed=seed), SlicedWasserstein(seed=seed)
    return {
        "sliced Wasserstein": (float(slices.distance(ours, first)), float(slices.distance(first, second))),
        "MMD²": (float(kernel.squared(ours, first)), float(kernel.squared(first, second))),
        "diversity": (learned.figures["diversity"], 1.0),
        "spread": (learned.figures["spread"], 1.0),
        "generator loss": (learned.history.generator[-1], None),
        **({} if learned.critic is None else {"critic loss": (learned.history.critic[-1], None)}),
    }


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made.

    Raises:
        ValueError: If it is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder; {out} is a file")


def shown(figures: dict[str, tuple[float, float | None]]) -> list[list[Any]]:
    """The figures as rows of a printed table."""
    return [[name, *("" if value is None else f"{value:.4g}" for value in pair)] for name, pair in figures.items()]
