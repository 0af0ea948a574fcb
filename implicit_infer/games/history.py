"""What a game looked like on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass
class GameHistory:
    """What a game looked like on the way, at its marks.

    Attributes:
        steps: Generator steps made at each mark.
        critic: Mean critic loss since the mark before, without penalty.
        generator: Mean generator loss since the mark before.
        figures: Whatever else was watched, by name, one value for each mark: ``generator_gradient`` and
            ``critic_gradient`` are root mean squares of the gradients' norms since the mark before.
        finite: Whether all losses and weights were finite.
        stopped: Why the game ended: at its "end", because it "diverged", was "interrupted", or for lack of "time".
    """

    steps: list[int] = field(default_factory=list)
    critic: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    finite: bool = True
    stopped: Literal["no", "end", "diverged", "interrupted", "time"] = "no"

    def latest(self) -> dict[str, float]:
        """The losses and figures of the last mark, by name."""
        return {name: values[-1] for name, values in self.columns().items() if name != "step"}

    def shown(self) -> dict[str, float]:
        """What of the last mark fits into a line: losses, the share that the critic tells right, the gradients."""
        latest = self.latest()
        told = [latest[name] for name in ("told_data", "told_model") if name in latest]
        figures = {name: latest[name] for name in ("critic", "generator")}
        figures |= {"told": sum(told) / len(told)} if told else {}
        names = {"generator_gradient": "gradients", "critic_gradient": "and"}
        return figures | {short: latest[name] for name, short in names.items() if name in latest}

    def columns(self) -> dict[str, list[Any]]:
        """The history as columns of a table."""
        return {"step": self.steps, "critic": self.critic, "generator": self.generator, **self.figures}

    def cut(self, step: int) -> None:
        """Forget the marks after ``step``."""
        kept = sum(mark <= step for mark in self.steps)
        for column in self.columns().values():
            del column[kept:]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it: numbers that are not finite as text."""
        return {key: _written(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> GameHistory:
        """What :meth:`to_json` gave."""
        history = cls(**written)
        for name in ("critic", "generator"):
            setattr(history, name, [float(value) for value in getattr(history, name)])
        history.figures = {name: [float(value) for value in values] for name, values in history.figures.items()}
        return history


def _written(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _written(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_written(entry) for entry in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
