"""The page on running simulations runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


def test_the_examples_run_one_after_another(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (pytestconfig.rootpath / "docs" / "running.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        exec(block, names)
    assert "store: runs.zarr was made with seed 0; this run has 1" in capsys.readouterr().out
    runs = names["runs"]
    assert len(runs) == 4000
    overloaded = runs.theta[:][:, 0] > 0.95
    assert set(runs.failures.values()) == {"RuntimeError: overloaded"}
    assert torch.equal(runs.failed, overloaded)
    assert list(runs.failure_table().columns) == ["service", "gap", "reason"]
    assert names["data"].sizes["simulation"] == 4000
    assert names["data"].attrs["simulator"] == "queue"
    assert len(names["moons"]) == 3000
    assert names["posterior"].sample((10,), seed=0).shape == (10, 2)

    def broken(parameters: Any) -> np.ndarray:
        raise ValueError("no")

    assert np.isnan(names["row_by_row"](np.zeros((2, 2)), broken)).all()
