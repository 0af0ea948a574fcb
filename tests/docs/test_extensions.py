"""What turns our docstrings and formulas into pages: markup that it missed would stand there as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def extensions(pytestconfig: pytest.Config) -> dict[str, ModuleType]:
    folder = pytestconfig.rootpath / "docs" / "extensions"
    return {path.stem: load(path) for path in folder.glob("*.py")}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_extension_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("Of :math:`x_1` and ``x``.", "Of $x_1$ and `x`."),
        ("See :func:`listening` and :class:`~a.b.C`.", "See `listening` and `a.b.C`."),
        (".. math:: a = b", "\n$$\na = b\n$$\n"),
        ("    .. math:: a\n        = b\n\n    After.", "\n    $$\n    a\n    = b\n    $$\n\n\n    After."),
        (".. math::\n\n    a = b\n\n    c = d\n\nAfter.", "\n$$\na = b\nc = d\n$$\n\n\nAfter."),
        ("References:\n    | Title\n    | https://a.b", "References:\n    Title  \n    https://a.b  "),
        ("tensor | None, and a `code` span", "tensor | None, and a `code` span"),
    ],
)
def test_docstrings_become_markdown(extensions: dict[str, ModuleType], docstring: str, markdown: str) -> None:
    assert extensions["docstrings"].to_markdown(docstring) == markdown


@pytest.mark.parametrize(
    ("page", "display"),
    [
        (r'<p>Let <span class="arithmatex">\(a &lt; b\)</span> be.</p>', "inline"),
        (r'<div class="arithmatex">\[' + "\n" + r"\frac{a}{b} &lt; 1" + "\n" + r"\]</div>", "block"),
    ],
)
def test_formulas_become_mathml(extensions: dict[str, ModuleType], page: str, display: str) -> None:
    content = extensions["mathematics"].on_page_content(page)
    assert f'display="{display}"' in content
    assert "&lt;" in content or "&#x0003C;" in content
    assert "arithmatex" not in content
