"""The page on learning generators runs as it is printed, with fewer steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch


def test_the_examples_run_one_after_another(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (pytestconfig.rootpath / "docs" / "learning.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        exec(block.replace("steps=5000", "steps=6"), names)
    assert "checkpoint: game was made with seed 0; this run has 1" in capsys.readouterr().out
    assert names["draws"].shape == (1000, 2)
    assert torch.equal(names["again"].sample((5,), seed=0), names["gen"].sample((5,), seed=0))
    assert names["whole"].history.stopped == "end"
    assert names["cell"].comparison.moves.divergence.name == "kl"


def test_the_table_has_every_comparison_and_every_choice(pytestconfig: pytest.Config) -> None:
    import implicit_infer as ii
    from implicit_estimators.penalties import PENALTIES

    page = (pytestconfig.rootpath / "docs" / "learning.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9-]+)`", page))
    assert set(ii.comparisons()) - named == set()
    assert set(PENALTIES) - named == set()
    assert set(ii.games()) - named <= {"historical-averaging"}
