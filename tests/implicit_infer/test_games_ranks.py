"""Several processes that play one game make the steps of one process with all of the batch."""

import subprocess
import sys

import pytest
import torch

import implicit_infer as ii
from implicit_estimators.networks import MLP
from implicit_infer.games import Training
from implicit_infer.games.ranks import Ranks

PROGRAM = """
import os, sys, torch
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from test_games_ranks import play
torch.set_num_threads(1)
rank, folder = int(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
learned = play(start=rank, folder=f"{folder}/game")  # each rank starts elsewhere: that of rank 0 counts
learned.save(f"{folder}/{rank}.safetensors")
torch.distributed.destroy_process_group()
"""


def play(start=0, folder=None):
    data = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    network = MLP(2, 2, (16,), seed=start)
    critic = MLP(2, 1, (16,), seed=start + 2)
    settings = {"batch_size": 32, "training": Training(30, marks=3), "seed": 0, "progress": False}
    return ii.learn(
        network, data, "gan", penalty="r1", game="extragradient", critic=critic, latent=2, checkpoint=folder, **settings
    )


def test_two_processes_play_the_game_of_one(tmp_path):
    commands = [[sys.executable, "-c", PROGRAM, __file__, str(rank), str(tmp_path)] for rank in (0, 1)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for one in running:
        _, said = one.communicate(timeout=300)
        assert one.returncode == 0, said
    whole = play()
    first, second = (ii.load_learned(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for a, b, c in zip(*(m.module.parameters() for m in (first, second, whole)), strict=True):
        assert torch.equal(a, b)
        # 30 steps of at most 1e-3; sums in another order differ in the last digits, of 1e-7
        torch.testing.assert_close(a, c, atol=2e-5, rtol=1e-4)
    assert first.history.critic == pytest.approx(whole.history.critic, rel=1e-4)
    assert first.history.figures["critic_gradient"] == pytest.approx(whole.history.figures["critic_gradient"], rel=1e-3)
    assert sorted(path.name for path in (tmp_path / "game").iterdir()) == ["checkpoint.safetensors", "settings.json"]


def test_alone_nothing_is_sent():
    ranks, tensor = Ranks.here(), torch.ones(2)
    assert ranks == Ranks(0, 1)
    ranks.average([tensor])
    ranks.follow_first([tensor])
    assert tensor.tolist() == [1, 1]
    assert ranks.share(5) == slice(0, 5)
    assert ranks.any(True, torch.device("cpu"))
    assert not ranks.any(False, torch.device("cpu"))


def test_shares_of_a_batch_are_equal():
    assert [Ranks(rank, 4).share(8) for rank in range(4)] == [slice(i, i + 2) for i in (0, 2, 4, 6)]
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 4 processes; got 6"):
        Ranks(0, 4).share(6)
