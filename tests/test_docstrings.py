"""Every module can be imported, and every example in a docstring gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import implicit_estimators
import implicit_infer
import implicit_simulators

MODULES = [
    name
    for package in (implicit_simulators, implicit_estimators, implicit_infer)
    for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.failed == 0, capsys.readouterr().out
