"""The page on simulators runs as it is printed, and lists what there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from implicit_simulators import FunctionSimulator, simulators


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "simulators.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_another(page: str) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
    assert names["observed"].shape == (14,)
    assert isinstance(names["fishery"], FunctionSimulator)
    assert names["fishery"].failed == 0
    summaries = names["fishery"].summarize(names["fishery"].simulate(names["theta"], seed=0))
    assert summaries.shape == (500, 4)
    assert torch.isfinite(summaries).all()


def test_the_examples_of_the_engines_run_too(pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "engines.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    assert names["x"].shape == (1000, 50)
    assert torch.isfinite(names["where"].grad).all()
    assert names["states"].shape == (1000, 10, 1)


def test_every_simulator_is_listed(page: str) -> None:
    assert all(f"| `{name}` |" in page for name in simulators())
