"""What keeps a critic smooth: penalties on its gradient in the samples."""

from __future__ import annotations

from implicit_estimators.penalties.base import Critic, Penalty, check_rows, slopes
from implicit_estimators.penalties.combined import Sum
from implicit_estimators.penalties.dragan import Dragan
from implicit_estimators.penalties.wasserstein import WassersteinPenalty
from implicit_estimators.penalties.zero_centred import R1, R2, ZeroCentred

PENALTIES: dict[str, type[Penalty]] = {
    "wgan-gp": WassersteinPenalty,
    "r1": R1,
    "r2": R2,
    "zero-centred": ZeroCentred,
    "dragan": Dragan,
}
"""Every penalty there is, by name."""

VARIANTS: dict[str, Penalty] = {"wgan-lp": WassersteinPenalty(one_sided=True)}
"""Settings that have names of their own."""


def penalty(name: str | Penalty) -> Penalty:
    """The penalty called ``name``, with its default weight, or the penalty itself; "r1+r2" is a sum of two.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Penalty):
        return name
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in PENALTIES and part not in VARIANTS:
            known = ", ".join((*PENALTIES, *VARIANTS))
            raise ValueError(f"penalty: expected one of {known}, or several joined by +; got {name!r}")
    found = [VARIANTS[part] if part in VARIANTS else PENALTIES[part]() for part in parts]
    return found[0] if len(found) == 1 else Sum(tuple(found))


__all__ = [
    "PENALTIES",
    "R1",
    "R2",
    "VARIANTS",
    "Critic",
    "Dragan",
    "Penalty",
    "Sum",
    "WassersteinPenalty",
    "ZeroCentred",
    "check_rows",
    "penalty",
    "slopes",
]
