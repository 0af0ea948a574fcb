"""The pages on a user's own simulator run as they are printed, and reach the exact posteriors they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def run_page(root: Path, name: str) -> dict[str, Any]:
    """What the examples of a page leave, run one after another."""
    page = (root / "docs" / name).read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        exec(block, names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_function(pytestconfig: pytest.Config) -> None:
    """The mean of 1,000 kept simulations has a standard error of 0.24 / 30; bias is allowed for besides."""
    names = run_page(pytestconfig.rootpath, "own-function.md")
    assert names["runs"].failures == {}
    assert "was made with settings {'code': " in names["refusal"]
    assert names["mean"] == pytest.approx(0.764, abs=0.005)
    assert float(names["draws"].mean()) == pytest.approx(names["mean"], abs=0.06)
    assert float(names["draws"].std()) == pytest.approx(names["spread"], rel=0.15)


def test_a_pyro_model(pytestconfig: pytest.Config) -> None:
    """The standard error of a mean of 1,000 is 3.3 / 30 for both; five of them."""
    names = run_page(pytestconfig.rootpath, "own-pyro.md")
    assert float(names["exact_mu"]) == pytest.approx(4.40, abs=0.05)
    assert float(names["mu"].mean()) == pytest.approx(float(names["exact_mu"]), abs=0.55)
    assert float(names["tau"].mean()) == pytest.approx(float(names["exact_tau"]), abs=0.55)
    assert not hasattr(names["simulator"], "log_likelihood")


def test_a_program(pytestconfig: pytest.Config) -> None:
    """The standard error of a mean of 200 is 0.63 / 14; five of them."""
    names = run_page(pytestconfig.rootpath, "own-command.md")
    assert names["x"].isnan().any(1).tolist() == [False, False, True]
    assert names["simulator"].failures[0].message.startswith("exit status 1; stderr: overflow: 1")
    assert 0 < names["fast"].failed < 1500
    assert float(names["draws"].mean()) == pytest.approx(float(names["exact"].mean), abs=0.22)
    assert float(names["draws"].std()) == pytest.approx(float(names["exact"].stddev), rel=0.3)


def test_the_pages_are_in_the_menu_and_on_the_page_of_simulators(pytestconfig: pytest.Config) -> None:
    menu = (pytestconfig.rootpath / "mkdocs.yml").read_text(encoding="utf-8")
    simulators = (pytestconfig.rootpath / "docs" / "simulators.md").read_text(encoding="utf-8")
    for page in ("own-function.md", "own-pyro.md", "own-command.md"):
        assert f": {page}\n" in menu
        assert f"]({page})" in simulators
