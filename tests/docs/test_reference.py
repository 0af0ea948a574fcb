"""Whatever a package offers by name has a place in the reference: `mkdocs --strict` cannot see what is left out."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import implicit_estimators
import implicit_infer
import implicit_simulators

ROOTS = (implicit_simulators, implicit_estimators, implicit_infer)
PACKAGES = [root.__name__ for root in ROOTS] + [
    module.name
    for root in ROOTS
    for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
    if module.ispkg
]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_in_the_reference(package: str, pytestconfig: pytest.Config) -> None:
    pages = (pytestconfig.rootpath / "docs" / "reference").glob("*.md")
    shown = {name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)}
    face = importlib.import_module(package)
    public = {name: getattr(face, name) for name in getattr(face, "__all__", ())}
    homes = {name: getattr(value, "__module__", "") for name, value in public.items()}
    assert {name: home for name, home in homes.items() if home.startswith("implicit_") and home not in shown} == {}
