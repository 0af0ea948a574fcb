"""The two-player game that everything adversarial shares, and the ways to step it."""

from __future__ import annotations

from typing import Any

from implicit_estimators.names import named
from implicit_infer.games.alternating import Alternating
from implicit_infer.games.base import Game, Optimisers
from implicit_infer.games.consensus import Consensus
from implicit_infer.games.duel import Batch, Duel
from implicit_infer.games.extragradient import Extragradient
from implicit_infer.games.historical import HistoricalAveraging
from implicit_infer.games.history import GameHistory
from implicit_infer.games.instance_noise import AnnealedNoise
from implicit_infer.games.loop import Play
from implicit_infer.games.numerics import eigenvalues, jacobian, multipliers
from implicit_infer.games.optimistic import Optimistic
from implicit_infer.games.simultaneous import Simultaneous
from implicit_infer.games.training import Training
from implicit_infer.games.unrolled import Unrolled

GAMES: dict[str, type[Game]] = {
    "alternating": Alternating,
    "simultaneous": Simultaneous,
    "extragradient": Extragradient,
    "optimistic": Optimistic,
    "consensus": Consensus,
    "unrolled": Unrolled,
}
"""Ways to step a game, by name."""


def game(name: str | Game | type[Game], **settings: Any) -> Game:
    """The game called ``name``, or the one that is given, with ``settings`` in place of its own.

    Args:
        name: A name in ``GAMES``, a game, or a class of games.
        **settings: What its class takes.

    Returns:
        The game.

    Raises:
        ValueError: If there is none of that name, or it has no such setting.
        TypeError: If ``name`` is none of these.

    Example:
        >>> game("alternating", critic_steps=5)
        Alternating(critic_steps=5)
    """
    return named(name, GAMES, Game, settings)


__all__ = [
    "GAMES",
    "Alternating",
    "AnnealedNoise",
    "Batch",
    "Consensus",
    "Duel",
    "Extragradient",
    "Game",
    "GameHistory",
    "HistoricalAveraging",
    "Optimisers",
    "Optimistic",
    "Play",
    "Simultaneous",
    "Training",
    "Unrolled",
    "eigenvalues",
    "game",
    "jacobian",
    "multipliers",
]
