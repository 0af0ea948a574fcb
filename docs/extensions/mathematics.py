"""Formulas without scripts: LaTeX becomes MathML when the site is built, so pages need no network and no JavaScript."""

from __future__ import annotations

import html
import re
from typing import Any

import latex2mathml.converter

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
"""What ``pymdownx.arithmatex`` leaves (``generic: true``): an inline ``\\(...\\)`` or a displayed ``\\[...\\]``."""


def on_page_content(content: str, **_: Any) -> str:
    """Replace every formula of a rendered page by MathML (an mkdocs hook)."""
    return FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[2] == "[" else "inline"
    return latex2mathml.converter.convert(html.unescape(match[3]).strip(), display=display)
