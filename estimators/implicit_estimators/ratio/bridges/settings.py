"""Settings that the estimators with a network over time share, refused in one sentence each."""

from __future__ import annotations

from implicit_estimators.networks.standardise import STANDARDISERS


def check_settings(standardise: str, steps: int, batch_size: int, validation: float) -> None:
    """Refuse what no training over time can work with.

    Raises:
        ValueError: If there is no such standardisation, or a number is out of its range.
    """
    if standardise not in STANDARDISERS:
        raise ValueError(f"standardise: expected one of {', '.join(STANDARDISERS)}; got {standardise!r}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps, batch_size: expected positive ints; got {steps}, {batch_size}")
    if not 0 < validation < 1:
        raise ValueError(f"validation: expected a share inside (0, 1); got {validation}")
