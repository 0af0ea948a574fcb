"""The two-player game that everything adversarial shares, and the ways to step it."""

from implicit_infer.games.alternating import Alternating
from implicit_infer.games.consensus import Consensus
from implicit_infer.games.duel import Batch, Duel
from implicit_infer.games.extragradient import Extragradient
from implicit_infer.games.game import Game, Optimisers
from implicit_infer.games.loop import GameHistory, Play, Training
from implicit_infer.games.optimistic import Optimistic
from implicit_infer.games.simultaneous import Simultaneous
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


def game(name: str | Game, critic_steps: int = 1) -> Game:
    """The game called ``name``; one that is given is returned as it is.

    Args:
        name: A name in ``GAMES``, or a game.
        critic_steps: Critic steps for each generator step of the game that a name means.

    Raises:
        ValueError: If there is none of that name.
        TypeError: If it is neither a name nor a game.
    """
    if isinstance(name, Game):
        return name
    if not isinstance(name, str):
        raise TypeError(f"game: expected a name or a game; got {type(name).__name__}")
    if name not in GAMES:
        raise ValueError(f"game: expected one of {', '.join(GAMES)}; got {name!r}")
    return GAMES[name](critic_steps)


__all__ = [
    "GAMES",
    "Alternating",
    "Batch",
    "Consensus",
    "Duel",
    "Extragradient",
    "Game",
    "GameHistory",
    "Optimisers",
    "Optimistic",
    "Play",
    "Simultaneous",
    "Training",
    "Unrolled",
    "game",
]
