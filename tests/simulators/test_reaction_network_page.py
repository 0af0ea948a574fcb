"""The page on reaction networks runs as it is printed, and its picture shows what it computes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "reaction-networks.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names(page: str) -> dict[str, Any]:
    """Everything that the examples define, run one after another."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    return names


def test_the_examples_give_what_they_say(names: dict[str, Any]) -> None:
    assert names["x"].shape == (1000, 61, 2)
    assert torch.isfinite(names["x"]).all()
    assert names["point"].grad.shape == (1, 3)
    assert (names["point"].grad != 0).any()
    assert "it raised RuntimeError: Boolean value of Tensor" in names["reason"]
    assert torch.isfinite(names["switch"].simulate([[30.0, 0.5]], seed=0)).all()
    assert names["dimers"].simulate([[0.005, 0.2]], seed=0).shape == (1, 11, 2)
    assert names["observed"].shape == (61, 1)
    assert names["draws"].shape == (500, 5)


def test_the_gene_is_on_as_often_as_the_page_says(page: str, names: dict[str, Any]) -> None:
    """Shares of runs above 30 proteins, from 500 runs; 4 standard errors."""
    said = re.search(r"in (\d+) % of the exact runs and (\d+) % of the leaping ones, in (\d+) % by the Langevin", page)
    assert said is not None
    for kind, percent in zip(("jump", "tau", "sde"), said.groups(), strict=True):
        share = (names["proteins"][kind][:, -1] > 30).float().mean()
        assert abs(share - int(percent) / 100) < 4 * 0.5 / 500**0.5
    assert (names["proteins"]["ode"][:, -1] < 30).all()


def test_the_picture_is_there(page: str, pytestconfig: pytest.Config) -> None:
    assert "](images/reaction-networks.png)" in page
    assert (pytestconfig.rootpath / "docs" / "images" / "reaction-networks.png").stat().st_size > 10_000
    script = re.search(r"`python (docs/pictures/\w+\.py)`", page)
    assert script is not None
    assert (pytestconfig.rootpath / script[1]).is_file()
