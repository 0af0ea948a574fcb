"""The names of the toy targets, for command lines and reports."""

from __future__ import annotations

from implicit_simulators.targets.base import Target
from implicit_simulators.targets.dirac import Dirac
from implicit_simulators.targets.grid import Grid
from implicit_simulators.targets.lines import Lines
from implicit_simulators.targets.ring import Ring
from implicit_simulators.targets.swiss_roll import SwissRoll

TARGETS: dict[str, type[Target]] = {
    "ring": Ring,
    "grid": Grid,
    "lines": Lines,
    "swiss-roll": SwissRoll,
    "dirac": Dirac,
}
"""To add a target, write its class and add one line here."""


def toy_targets() -> dict[str, type[Target]]:
    """Each toy target's name, and its class.

    Example:
        >>> toy_targets()["ring"]().modes.shape
        torch.Size([8, 2])
    """
    return dict(TARGETS)
