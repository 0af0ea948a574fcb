"""What ``implicit-infer fit`` does: reads the data, fits, and writes the fit, its table and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from implicit_infer.fitting.base import Fit
from implicit_simulators import Simulator


def read_data(simulator: Simulator, data: str) -> Any:
    """The name of a shipped observation, or the content of a file with an observation in each row.

    A file with as many numbers as one observation is one, whether they stand in a row or in a column.

    Raises:
        ValueError: If there is no such file or observation, or rows of another length.
    """
    from implicit_infer.draws import read_numbers

    if data in simulator.observations:
        return data
    path = Path(data)
    if not path.is_file():
        shipped = ", ".join(simulator.observations) or "none"
        raise ValueError(f"data: expected a file or an observation of {simulator.name} ({shipped}); got {data!r}")
    values, columns = read_numbers(path)
    labels = getattr(simulator, "event_labels", None)
    if labels and columns and set(labels) <= set(columns):
        values = values[:, [columns.index(label) for label in labels]]
    size, shape = simulator.event_shape.numel(), tuple(simulator.event_shape)
    if values.size == size or (values.ndim == 2 and values.shape[1] == size) or size == 1:
        return values.reshape(-1, *shape)
    raise ValueError(f"data: {simulator.name} expects {size} numbers in a row; {path} has shape {values.shape}")


def read_start(start: str | None) -> dict[str, float] | None:
    """Parameters by name, from text as in ``mean=5,scale=2``.

    Raises:
        ValueError: If it is not of that form.
    """
    if start is None:
        return None
    found: dict[str, float] = {}
    for part in start.split(","):
        name, separator, value = part.partition("=")
        try:
            if not separator:
                raise ValueError
            found[name.strip()] = float(value)
        except ValueError:
            raise ValueError(f"start: expected NAME=NUMBER with commas between; got {start!r}") from None
    return found


def check_out(out: Path) -> None:
    """Refuse a place that cannot be a folder, before anything runs.

    Raises:
        ValueError: If there is a file of that name.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder; {out} is a file")


def write_fit(fit: Fit, out: Path) -> None:
    """Write ``fit.safetensors``, ``parameters.csv``, ``trace.csv`` and ``fit.png`` into a folder."""
    import pandas as pd

    out.mkdir(parents=True, exist_ok=True)
    fit.save(out / "fit.safetensors")
    fit.summary().to_csv(out / "parameters.csv")
    way = pd.DataFrame([theta.tolist() for theta in fit.trace.theta], columns=list(fit.simulator.parameter_names))
    way.insert(0, "simulations", fit.trace.simulations)
    for name, values in fit.trace.figures.items():
        way[name] = values
    way.to_csv(out / "trace.csv", index=False)
    fit.plot(out / "fit.png")


def rows_of(fit: Fit) -> tuple[list[str], list[list[str]]]:
    """The summary as text: columns and rows."""
    table = fit.summary()
    rows = [
        [str(name), *("" if value != value else f"{value:.4g}" for value in row)]
        for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)
    ]
    return ["parameter", *map(str, table.columns)], rows
