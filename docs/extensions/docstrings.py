"""Docstrings in Markdown: the reStructuredText that our docstrings use, rewritten before the reference pages render."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

DISPLAYED = re.compile(r"^([ ]*)\.\. math::[ ]*(.*(?:\n(?:\1[ ]+\S.*|[ ]*(?=\n\1[ ]+\S)))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj|doc):`~?([^`]+)`")
LITERAL = re.compile(r"(?<!`)``(?!`)(.+?)(?<!`)``(?!`)", re.DOTALL)
LINE_BLOCK = re.compile(r"^([ ]*)\|[ ](.*)$", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Rewrite ``.. math::``, roles, double backquotes and line blocks (``| ...``) of one docstring as Markdown."""
    text = DISPLAYED.sub(_displayed, text)
    text = INLINE.sub(r"$\1$", text)
    text = ROLE.sub(r"`\1`", text)
    text = LITERAL.sub(r"`\1`", text)
    return LINE_BLOCK.sub(r"\1\2  ", text)


def _displayed(match: re.Match[str]) -> str:
    indent = match[1]
    lines = [line for line in inspect.cleandoc(match[2]).splitlines() if line.strip()]  # a blank line ends a formula
    return "\n".join(["", *(indent + line for line in ("$$", *lines, "$$")), ""])


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is collected (an extension of griffe, which mkdocstrings reads Python with)."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of ``obj``, where it has one."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
