"""A game on disk: what is killed or interrupted goes on bit by bit; another game's folder is refused."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

import implicit_infer as ii
from implicit_estimators.networks import MLP
from implicit_infer.games import Training

SETTINGS = {
    "latent": 2,
    "batch_size": 16,
    "instance_noise": 0.3,
    "penalise_every": 2,
    "seed": 0,
    "training": Training(40, marks=8),
    "progress": False,
}


class Forgetful(nn.Module):
    """Dropout draws from torch's global generator, batch normalisation remembers."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(MLP(2, 8, (8,), seed=0), nn.BatchNorm1d(8), nn.Dropout(0.3), MLP(8, 2, (), seed=1))

    def forward(self, z):
        return self.network(z)


def data():
    return torch.randn(100, 2, generator=torch.Generator().manual_seed(0))


def play(folder=None, watch=None, comparison="gan", game="alternating", **changes):
    settings = SETTINGS | {"penalty": "r1", "generator_loss": "kl"} | changes
    if comparison != "gan":
        settings = {key: value for key, value in settings.items() if key not in ("penalty", "generator_loss")}
    return ii.learn(Forgetful(), data(), comparison, game=game, checkpoint=folder, watch=watch, **settings)


def stops_at(step, how):
    def watch(play):
        if play.step >= step:
            how()
        return {}

    return watch


def interrupt():
    raise KeyboardInterrupt


def same(one, two):
    assert all(map(torch.equal, one.module.state_dict().values(), two.module.state_dict().values()))
    if one.critic is not None:
        assert all(map(torch.equal, one.critic.state_dict().values(), two.critic.state_dict().values()))
    assert one.history == two.history
    assert one.warnings == two.warnings


@pytest.mark.parametrize(
    ("comparison", "game"),
    [
        ("gan", "alternating"),
        ("gan", ii.games()["extragradient"](past=True)),
        ("fisher", "optimistic"),
        ("energy", "alternating"),
    ],
    ids=["gan", "past gradients", "multiplier", "nothing trained"],
)
def test_what_was_interrupted_goes_on_bit_by_bit(tmp_path, comparison, game):
    whole = play(tmp_path / "whole", comparison=comparison, game=game)
    halted = play(tmp_path / "part", stops_at(20, interrupt), comparison=comparison, game=game)
    assert halted.history.stopped == "interrupted"
    assert halted.warnings[0] == "stopped: after 15 of 40 steps; the same call does the rest"
    assert halted.sample((3,), seed=0).shape == (3, 2)
    resumed = play(tmp_path / "part", comparison=comparison, game=game)
    same(resumed, whole)
    assert resumed.figures["steps"] == 40


def test_a_killed_run_goes_on_bit_by_bit(tmp_path):
    """SIGKILL, in another process: nothing can be tidied up."""
    program = (
        "import os, signal, sys; sys.path.insert(0, os.path.dirname(sys.argv[1]))\n"
        "from test_generators_checkpoint import play, stops_at\n"
        "play(sys.argv[2], stops_at(30, lambda: os.kill(os.getpid(), signal.SIGKILL)))"
    )
    folder = tmp_path / "game"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", program, __file__, str(folder)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert {path.name for path in folder.iterdir()} == {"settings.json", "checkpoint.safetensors"}
    resumed, whole = play(folder), play()
    same(resumed, whole)


def test_ctrl_c_finishes_the_step_in_hand(tmp_path, caplog):
    def ask(play):
        if play.step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    halted = play(tmp_path, ask)
    assert 10 <= halted.figures["steps"] <= 11
    assert "stopping after this step" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    same(play(tmp_path), play())


def test_before_the_first_step_there_is_nothing_to_give(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        play(watch=stops_at(0, interrupt))


def test_a_finished_game_is_read_and_not_played_again(tmp_path):
    first = play(tmp_path)
    played = []
    again = play(tmp_path, lambda play: played.append(play.step) or {})
    assert played == []
    same(first, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "made with seed 0; this run has 1"),
        ({"batch_size": 8}, "made with batch_size 16; this run has 8"),
        ({"penalty": "r2"}, "made with comparison "),
        ({"game": "optimistic"}, "made with game "),
        ({"training": Training(80, marks=8)}, "made with training "),
    ],
)
def test_another_game_is_refused(tmp_path, change, message):
    play(tmp_path, stops_at(10, interrupt))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint: .* was " + message):
        play(tmp_path, **change)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_other_data_are_another_game(tmp_path):
    play(tmp_path, stops_at(10, interrupt))
    with pytest.raises(ValueError, match=r"checkpoint: .* was made with data "):
        ii.learn(Forgetful(), data() + 1, "gan", checkpoint=tmp_path, penalty="r1", generator_loss="kl", **SETTINGS)


def test_a_file_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint: expected a folder"):
        play(tmp_path / "file")
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"checkpoint: .*settings.json is not JSON"):
        play(tmp_path)


def test_a_diverged_game_is_not_played_on(tmp_path):
    class Explodes(Forgetful):
        calls = 0

        def forward(self, z):
            Explodes.calls += self.training
            return super().forward(z) * (float("nan") if Explodes.calls > 40 else 1.0)

    settings = SETTINGS | {"checkpoint": tmp_path}
    first = ii.learn(Explodes(), data(), "gan", **settings)
    assert first.history.stopped == "diverged"
    assert first.figures["steps"] == first.history.steps[-1] - 5
    Explodes.calls = 0
    again = ii.learn(Explodes(), data(), "gan", **settings)
    assert Explodes.calls == 0
    assert str(again.history) == str(first.history)  # NaN is not itself
    assert again.warnings[0] == first.warnings[0]
