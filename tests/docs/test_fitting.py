"""The page on fitting runs as it is printed, with smaller budgets, and names every method."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def test_the_examples_run_one_after_another(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (pytestconfig.rootpath / "docs" / "fitting.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        small = re.sub(r"budget=[\d_]+, seed=0\)", "budget=5000, seed=0, progress=False)", block)
        exec(small.replace("2000", "200"), names)
    assert names["again"].parameters.keys() == {"mean"}
    assert (tmp_path / "fit.png").is_file()
    assert any("hardly tells" in warning for warning in names["fit"].warnings)


def test_the_page_names_every_method(pytestconfig: pytest.Config) -> None:
    import implicit_infer as ii

    page = (pytestconfig.rootpath / "docs" / "fitting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9-]+)`", page))
    assert {"auto", "pathwise", "avo"} <= named & set(ii.fit_methods())
