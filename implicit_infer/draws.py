"""Numbers from files and draws to files, in formats that others read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    import pandas

READ = (".csv", ".npy", ".json", ".parquet")
WRITTEN = (".csv", ".parquet", ".zarr")


def read_numbers(path: Path) -> tuple[np.ndarray, list[str]]:
    """The numbers in a CSV, NPY, JSON or Parquet file.

    Args:
        path: The file. A CSV file may have a header; columns that are not numeric are refused.

    Returns:
        The numbers, with at least two axes if they are a table, and the names of the columns, empty if it has none.

    Raises:
        ValueError: If the file has another suffix, or holds something else than numbers.
        FileNotFoundError: If there is no such file.
    """
    if path.suffix not in READ:
        raise ValueError(f"{path.name}: expected a file with suffix {', '.join(READ)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False), []
        except ValueError as error:  # objects, which only unpickling could read
            raise ValueError(f"{path.name}: expected numbers only") from error
    if path.suffix == ".json":
        try:
            return _numeric(json.loads(path.read_text()), path), []
        except json.JSONDecodeError as error:
            raise ValueError(f"{path.name}: expected JSON; {error}") from error
    frame = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    return _numeric(frame.to_numpy(), path), [column for column in frame.columns if isinstance(column, str)]


def check_draws_path(path: Path) -> None:
    """Refuse what :func:`save_draws` could not write, before there is anything to lose.

    Raises:
        ValueError: If the suffix is unknown, the library for it is not there, or the folder does not exist.
    """
    if path.suffix not in WRITTEN:
        raise ValueError(f"out: expected a file with suffix {', '.join(WRITTEN)}; got {path.name!r}")
    _check_parquet(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"out: the folder {path.parent} does not exist")


def save_draws(path: Path, theta: Tensor, names: tuple[str, ...], observed: Tensor) -> None:
    """Write draws (n, d) as a table with named columns, or as a Zarr store that ArviZ reads."""
    import pandas

    if path.suffix == ".zarr":
        write_draws(path, theta, names, observed, None)
        return
    frame = pandas.DataFrame(theta.numpy(), columns=list(names))
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)


def write_draws(path: Path, theta: Tensor, names: tuple[str, ...], observed: Tensor, predictive: Tensor | None) -> None:
    """Keep posterior draws (n, d), the observation and simulations at draws (m, *event_shape) in ArviZ's groups."""
    import xarray

    axes = [f"x_{i}" for i in range(observed.ndim)]
    groups = {
        "posterior": xarray.Dataset(
            {"theta": (("chain", "draw", "parameter"), theta.numpy()[None])},
            # zarr has no stable form for arrays of fixed-width strings
            coords={"parameter": np.array(names, dtype=object)},
        ),
        "observed_data": xarray.Dataset({"x": (axes, observed.numpy())}),
    }
    if predictive is not None:
        groups["posterior_predictive"] = xarray.Dataset({"x": (("chain", "draw", *axes), predictive.numpy()[None])})
    xarray.DataTree.from_dict(groups).to_zarr(path, consolidated=False)


def read_draws(path: Path, group: str = "posterior") -> np.ndarray | None:
    """Draws kept by :func:`write_draws`, with the chain axis dropped; None if the group is not there."""
    import zarr

    variable = "theta" if group == "posterior" else "x"
    store = zarr.open_group(path, mode="r")
    if group not in store:
        return None
    values = np.asarray(store[f"{group}/{variable}"])
    return values if group == "observed_data" else values[0]


def _numeric(values: object, path: Path) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)  # a copy: arrays of frames are read-only
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: expected numbers only") from error


def _read_csv(path: Path) -> pandas.DataFrame:
    import pandas

    with path.open() as file:
        first = file.readline().split(",")
    return pandas.read_csv(path, header=None if all(map(_is_number, first)) else 0)


def _read_parquet(path: Path) -> pandas.DataFrame:
    import pandas

    _check_parquet(path)
    return pandas.read_parquet(path)


def _check_parquet(path: Path) -> None:
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"{path.name}: Parquet files need pyarrow, which is not installed; .csv and .zarr do not")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
