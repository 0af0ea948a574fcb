"""Moved to ``implicit_infer.games.base``."""

from implicit_infer.games.base import Game, Optimisers

__all__ = ["Game", "Optimisers"]
