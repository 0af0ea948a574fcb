"""A command line with places for values, which no shell reads, and the files that it is made of."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)(?::([^{}]*))?\}")
OWN = {"seed": 1, "output": "path"}
"""Places with a meaning of their own, with a value for each."""

DIGITS = 16


class Template:
    """The program and its arguments, ``{name}`` or ``{name:format}`` standing for a value, ``{{name}}`` for itself.

    Args:
        command: A list of strings.
        names: Of the parameters that may have places; either none or all of them have one.

    Attributes:
        words: The command as it was given.
        places: The names that it has places for.

    Raises:
        TypeError: If ``command`` is no list of strings.
        ValueError: If it is empty, or a place has no parameter, or a parameter no place.
    """

    def __init__(self, command: Any, names: Sequence[str]) -> None:
        self.words = _words(command)
        for reserved in OWN:
            if reserved in names:
                raise ValueError(f"parameter_names: {reserved!r} has a meaning of its own in a command")
        known = {**dict.fromkeys(names, 1.0), **OWN}
        found = set()
        for match in (match for word in self.words for match in PLACEHOLDER.finditer(word) if match[2]):
            name = match[2]
            if name not in known:
                raise ValueError(
                    f"command: {match[0]} is none of {', '.join(known)}; write {{{{{name}}}}} for the text itself"
                )
            try:
                format(known[name], match[3] or "")
            except ValueError as error:
                raise ValueError(f"command: {match[0]} has no legal format: {error}") from None
            found.add(name)
        missing = [name for name in names if name not in found]
        if missing and len(missing) < len(names):
            raise ValueError(f"command: {{{missing[0]}}} is missing, which other parameters have")
        self.places = frozenset(found)

    def fill(self, values: Mapping[str, float | int | str]) -> list[str]:
        """The command with values in their places, floats with all their digits."""

        def value(match: re.Match[str]) -> str:
            if match[1]:
                return f"{{{match[1]}}}"
            given = values[match[2]]
            return format(given, match[3]) if match[3] else repr(given) if isinstance(given, float) else str(given)

        return [PLACEHOLDER.sub(value, word) for word in self.words]


def _words(command: Any) -> list[str]:
    if isinstance(command, (str, bytes, os.PathLike)) or not isinstance(command, Sequence):
        raise TypeError(
            f"command: expected a list, the program and its arguments (no shell reads them); got {command!r}"
        )
    words = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in command]
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"command: expected strings; got {word!r}")
    if not words:
        raise ValueError("command: expected the program and its arguments; got an empty list")
    return words


def find_program(program: str, cwd: str | None, environment: Mapping[str, str]) -> str:
    """The program's whole path: found as a shell would, relative ones from ``cwd``.

    Raises:
        ValueError: If there is no such program.
    """
    if os.path.dirname(program):
        path = os.path.abspath(os.path.join(cwd or "", program))
        found = shutil.which(path)
    else:
        found = shutil.which(program, path=environment.get("PATH"))
    if found is None:
        raise ValueError(f"command: expected a program that can be run; {program!r} is not found")
    return found


def digests_of(command: Sequence[str], program: str, cwd: str | None) -> dict[str, str]:
    """The content of the program and of arguments that are files, by how they are named in the command."""
    files = {command[0]: Path(program)}
    files.update({word: Path(cwd or "", word) for word in command[1:] if "\0" not in word and len(word) < 4096})
    digests = {}
    for word, path in files.items():
        with contextlib.suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    digests[word] = hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
    return digests
