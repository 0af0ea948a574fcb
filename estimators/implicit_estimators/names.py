"""Names turned into what they are names of, and what a wrong one is answered with: the right ones, and the closest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def named(
    name: str | Kind | type[Kind], known: Mapping[str, type[Kind]], base: type[Kind], settings: Mapping[str, Any]
) -> Kind:
    """The dataclass instance that a name, an instance or a class of ``known`` stands for, with ``settings`` put in.

    Args:
        name: A name in ``known``, an instance of ``base``, or a class of such.
        known: Classes by name.
        base: What all of them are.
        settings: What the class takes, in place of its own.

    Returns:
        The instance.

    Raises:
        ValueError: If there is none of that name, or it has no such setting.
        TypeError: If ``name`` is none of these.
    """
    argument = base.__name__.lower()
    if isinstance(name, str):
        if name not in known:
            raise unknown(name, known, argument)
        name = known[name]
    kind: Any = name if isinstance(name, type) else type(name)
    if not issubclass(kind, base):
        example = next(iter(known.values())).__name__
        raise TypeError(f"{argument}: expected a name or a {base.__name__} such as {example}(...); got {kind.__name__}")
    names = [field.name for field in fields(kind) if field.init]
    for setting in settings:
        if setting not in names:
            raise unknown(setting, names, f"setting of {kind.name!r}")
    given: Any = name
    made: Kind = given(**settings) if isinstance(name, type) else replace(given, **settings)
    return made


def unknown(name: object, known: Iterable[str], argument: str) -> ValueError:
    """The error of a name that is none of ``known``.

    Args:
        name: What the user asked for.
        known: What there is.
        argument: Name of the argument, for the message.

    Returns:
        An error to raise.

    Example:
        >>> unknown("gna", ["gan", "mmd"], "comparison")
        ValueError("comparison: expected one of gan, mmd; got 'gna' (did you mean 'gan'?)")
    """
    known = list(known)
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"{argument}: expected one of {', '.join(known)}; got {name!r}{hint}")
