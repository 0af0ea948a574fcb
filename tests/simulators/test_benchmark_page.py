"""The page on the benchmark runs as it is printed, and lists every task."""

from __future__ import annotations

import re
from typing import Any

import pytest

from implicit_simulators.benchmark.publication import DIMENSIONS


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_another(page: str) -> None:
    pytest.importorskip("sbibm", reason="pip install --no-deps sbibm==1.1.0")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert names["x"].shape == (1000, 20)
    assert names["truth"].shape == (4,)
    # of equal distributions: half, and five standard errors for the draws and for how the classifier is trained
    assert abs(float(names["score"]) - 0.5) < 5 * names["score"].standard_error


def test_every_task_is_listed(page: str) -> None:
    assert all(f"| `{name}` |" in page for name in DIMENSIONS)
