"""What a wrong name is answered with: the list of right ones, and the closest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
