"""Imports go one way only: implicit_infer -> implicit_simulators | implicit_estimators, and never in a circle.

``make lint`` says so with import-linter; this reads the syntax alone, so it also holds for the installed wheel.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import implicit_estimators
import implicit_infer
import implicit_simulators

PACKAGES = (implicit_simulators, implicit_estimators, implicit_infer)
OURS = {package.__name__ for package in PACKAGES}
MAY_IMPORT = {
    "implicit_simulators": {"implicit_simulators"},
    "implicit_estimators": {"implicit_estimators"},
    "implicit_infer": OURS,
}


def modules() -> dict[str, str]:
    """The source of every module of ours, by dotted name (a package's ``__init__`` under the package's name)."""
    sources = {}
    for package in PACKAGES:
        assert package.__file__ is not None
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            parts = (package.__name__, *path.relative_to(root).with_suffix("").parts)
            sources[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return sources


SOURCES = modules()


def imports(source: str, known: set[str] | None = None) -> Iterator[str]:
    """Every module of ours that ``source`` imports, in functions too; ``known`` tells a module from a name in one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"line {node.lineno}: relative import; ours are absolute"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if known and name in known else node.module for name in within]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in OURS)


def violations(module: str, source: str) -> list[str]:
    """The imports of ``module`` that run against the layers."""
    return [name for name in imports(source) if name.split(".")[0] not in MAY_IMPORT[module.split(".")[0]]]


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20
    assert {name.split(".")[0] for name in SOURCES} == OURS


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module: str) -> None:
    assert violations(module, SOURCES[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("implicit_simulators.base", "import implicit_infer"),
        ("implicit_simulators.base", "def late():\n    from implicit_infer.simulate import Runs"),
        ("implicit_estimators.kernels", "from implicit_simulators import Simulator"),
        ("implicit_simulators.ricker", "import numpy, implicit_estimators.kernels as kernels"),
    ],
)
def test_an_import_against_the_layers_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def circle(sources: dict[str, str]) -> list[str]:
    """One circle of imports, or none. A package importing its own modules is none: they do not import it back."""
    known = set(sources)
    graph = {
        name: {imported for imported in imports(source, known) if imported != name} for name, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_goes_in_a_circle() -> None:
    assert circle(SOURCES) == []


def test_a_circle_is_seen() -> None:
    a, b = "implicit_infer.a", "implicit_infer.b"
    found = circle({a: f"from {b} import x", b: "def late():\n    from implicit_infer import a"})
    assert set(found) == {a, b}
