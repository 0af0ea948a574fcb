"""A game on disk: a folder with its settings as JSON and its state as safetensors, replaced in one step."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from implicit_estimators.networks import storage
from implicit_infer.games import GameHistory, Play
from implicit_infer.games.state import State

KIND = "game"
SHARE = 0.05
"""Most of the time that may go into writing."""


class Checkpoint:
    """The folder of one game: ``settings.json`` says which, ``checkpoint.safetensors`` is its newest state.

    The state's numbers and the history are the JSON in the header of that file, so that one replacement changes all.

    Args:
        folder: Where; made when the first state is written.
        settings: What two runs must share to be the same game, as JSON.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=repr))
        self._next = 0.0

    @property
    def file(self) -> Path:
        """The newest state."""
        return self.folder / "checkpoint.safetensors"

    def check(self) -> None:
        """Refuse a folder that holds something else, before there is anything to lose.

        Raises:
            ValueError: If it is the folder of another game, or no folder of a game.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint: expected a folder; {self.folder} is a file")
        about = self.folder / "settings.json"
        if not about.is_file():
            if self.file.exists():
                raise ValueError(f"checkpoint: {self.folder} has a state and no settings.json that says of what")
            return
        try:
            theirs = json.loads(about.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"checkpoint: {about} is not JSON") from error
        for key in dict.fromkeys((*self.settings, *theirs)):
            if theirs.get(key) != self.settings.get(key):
                there, here = theirs.get(key), self.settings.get(key)
                raise ValueError(
                    f"checkpoint: {self.folder} was made with {key} {there!r}; this run has {here!r}: "
                    "give another folder, or what made this one"
                )

    def read(self, device: torch.device) -> tuple[State, GameHistory] | None:
        """The newest state and its history; None if nothing was written yet.

        Raises:
            ValueError: If the file is not a state of a game.
        """
        if not self.file.is_file():
            return None
        tensors, config = storage.load(self.file, KIND, device)
        state = State(config["step"], config["critic_steps_made"], storage.parted(tensors))
        return state, GameHistory.from_json(config["history"])

    def __call__(self, play: Play) -> None:
        """Write the state of a game: at a mark if it has been a while, and always at its end."""
        if play.ranks.rank != 0 or (play.history.stopped == "no" and time.monotonic() < self._next):
            return
        start = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        about = self.folder / "settings.json"
        if not about.is_file():
            draft = about.with_suffix(".draft")
            draft.write_text(json.dumps(self.settings, indent=1))
            os.replace(draft, about)
        state = play.state()
        config = {"step": state.step, "critic_steps_made": state.critic_steps_made, "history": play.history.to_json()}
        storage.save(self.file, KIND, storage.joined(state.parts), config)
        took = time.monotonic() - start
        self._next = time.monotonic() + took * (1 / SHARE - 1)
