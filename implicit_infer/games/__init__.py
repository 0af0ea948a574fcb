"""The two-player game that everything adversarial shares, and the ways to step it."""

from implicit_infer.games.alternating import Alternating
from implicit_infer.games.duel import Batch, Duel
from implicit_infer.games.game import Game, Optimisers
from implicit_infer.games.loop import GameHistory, Play, Training

GAMES: dict[str, type[Game]] = {"alternating": Alternating}
"""Ways to step a game, by name."""

__all__ = ["GAMES", "Alternating", "Batch", "Duel", "Game", "GameHistory", "Optimisers", "Play", "Training"]
