"""Regression adjustment: correct accepted parameters for not matching the observation exactly."""

from __future__ import annotations

from implicit_infer.abc.adjustment.base import Adjustment
from implicit_infer.abc.adjustment.linear import LocalLinear
from implicit_infer.abc.adjustment.neural import Neural
from implicit_infer.abc.adjustment.ridge import Ridge

ADJUSTMENTS: dict[str, type[Adjustment]] = {"linear": LocalLinear, "ridge": Ridge, "neural": Neural}
"""Adjustments by the name that ``adjust=`` takes, besides "none"."""


def resolve_adjustment(adjust: str | Adjustment) -> Adjustment | None:
    """An adjustment from its name, or as it is; None for "none".

    Raises:
        ValueError: If there is none of that name.
        TypeError: If it is neither a name nor an adjustment.
    """
    if isinstance(adjust, Adjustment):
        return adjust
    if not isinstance(adjust, str):
        raise TypeError(f"adjust: expected a name or an Adjustment; got {type(adjust).__name__}")
    if adjust == "none":
        return None
    if adjust not in ADJUSTMENTS:
        raise ValueError(f"adjust: expected one of none, {', '.join(ADJUSTMENTS)}; got {adjust!r}")
    return ADJUSTMENTS[adjust]()


__all__ = ["ADJUSTMENTS", "Adjustment", "LocalLinear", "Neural", "Ridge", "resolve_adjustment"]
