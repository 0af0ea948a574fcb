"""The verb ``learn``: every comparison through the same door, a law that is really learned, and mistakes refused."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import implicit_infer as ii
from implicit_estimators.comparisons import COMPARISONS, Adversarial
from implicit_estimators.networks import MLP
from implicit_infer.games import Training
from implicit_infer.generators.networks import FlowGenerator


def rows(n=400, d=2, seed=100):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


QUICK = {"latent": 2, "steps": 3, "batch_size": 32, "seed": 0, "progress": False}


class Shift(nn.Module):
    """N(location, 1): the generator whose one parameter is known to belong at the mean of the data."""

    def __init__(self, start=0.0):
        super().__init__()
        self.location = nn.Parameter(torch.tensor([start]))

    def forward(self, z):
        return self.location + z


class Quadratic(nn.Module):
    """A critic that can tell any log-ratio of normal laws."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Linear(2, 1)

    def forward(self, x):
        return self.weights(torch.cat([x, x.square()], 1))[:, 0]


class Given(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = MLP(3, 2, (8,), seed=0)

    def forward(self, z, condition):
        return self.network(torch.cat([z, condition], 1))


@pytest.mark.parametrize("name", list(COMPARISONS))
def test_every_comparison_is_learned_by_and_kept(name, tmp_path):
    learned = ii.learn(MLP(2, 2, (8,), seed=0), rows(), name, **QUICK)
    assert learned.comparison.name == name
    assert learned.history.finite
    assert learned.sample((4, 3), seed=0).shape == (4, 3, 2)
    assert torch.isfinite(learned.sample((50,), seed=0)).all()
    assert len(learned.history.figures["diversity"]) == 3
    learned.save(tmp_path / "a.safetensors")
    loaded = ii.load_learned(tmp_path / "a.safetensors")
    assert torch.equal(loaded.sample((5,), seed=1), learned.sample((5,), seed=1))
    assert loaded.history == learned.history
    assert repr(loaded) == repr(learned)
    assert type(loaded.comparison) is type(learned.comparison)
    if learned.critic is not None and loaded.critic is not None and "told_data" in learned.history.figures:
        if "log_ratio_data" in learned.history.figures:
            assert torch.equal(loaded.log_ratio(rows(5)), learned.log_ratio(rows(5)))
        else:
            with pytest.raises(ValueError, match="tells no ratio"):
                learned.log_ratio(rows(5))


@pytest.mark.parametrize("name", ["gan", "reverse-kl"])
def test_a_location_is_learned(name):
    """Data N(1.5, 1), model N(a, 1): the critic can tell every ratio, and a goes to the mean of the data.

    The mean of 2,000 data has standard error 0.022. On seeds 100 to 109 the learned locations differed from 1.5 by 0.03
    on average and 0.08 at most; the bound is twice that.
    """
    data = 1.5 + rows(2000, 1)
    training = Training(200, 0.03, 0.05, betas=(0.5, 0.9), average=0.98, marks=10)
    learned = ii.learn(Shift(), data, name, critic=Quadratic(), latent=1, training=training, seed=0, progress=False)
    assert float(learned.module.location.detach()) == pytest.approx(1.5, abs=0.16)
    assert learned.warnings == []
    # what is learned of the ratio says that the two are alike
    assert learned.history.figures["log_ratio_data"][-1] == pytest.approx(0, abs=0.3)


def test_the_network_that_was_given_is_the_one_that_was_learned():
    network = MLP(2, 2, (8,), seed=0)
    before = [p.detach().clone() for p in network.parameters()]
    learned = ii.learn(network, rows(), "gan", **QUICK)
    assert learned.module is network
    assert not network.training
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_same_seed_learns_the_same_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, two, other = (
        ii.learn("mlp", rows(), "gan", **QUICK | {"seed": seed}).sample((5,), seed=0) for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["array", "frame", "list", "ints", "float64", "function", "dataset"])
def test_data_of_every_kind(kind):
    samples = rows(100)

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, i):
            return samples[i]

    data = {
        "array": samples.numpy(),
        "frame": pd.DataFrame(samples.numpy(), columns=["a", "b"]),
        "list": samples.tolist(),
        "ints": (10 * samples).long(),
        "float64": samples.double(),
        "function": lambda n, seed: torch.randn(n, 2, generator=seed),
        "dataset": Items(),
    }[kind]
    learned = ii.learn("mlp", data, "gan", **QUICK)
    assert learned.sample((5,), seed=0).shape == (5, 2)
    assert learned.sample((5,), seed=0).dtype == torch.float32


def test_rows_in_a_dataset_are_those_of_the_tensor():
    samples = rows(100)
    pairs = torch.utils.data.TensorDataset(samples, samples[:, :1])
    one = ii.learn(Given(), pairs, "gan", **QUICK)
    two = ii.learn(Given(), samples, "gan", condition=samples[:, :1], **QUICK)
    z, given = torch.zeros(3, 2), torch.zeros(3, 1)
    assert torch.equal(one.module(z, given), two.module(z, given))


def test_conditions_reach_both_players_and_the_draws():
    samples, given = rows(200), rows(200, 1, seed=101)
    learned = ii.learn(Given(), samples, "gan", condition=given, packing=2, **QUICK)
    assert learned.sample((7,), [0.5], seed=0).shape == (7, 2)
    one_row, all_rows = learned.sample((3,), [0.5], seed=0), learned.sample((3,), [[0.5]] * 3, seed=0)
    assert torch.equal(one_row, all_rows)
    with pytest.raises(ValueError, match="condition: expected rows of width 1; got None"):
        learned.sample((7,))
    with pytest.raises(ValueError, match="condition: expected 1 row or 7; got 2"):
        learned.sample((7,), [[0.5], [0.5]])
    with pytest.raises(ValueError, match="log_ratio: the critic sees 2 samples at a time"):
        learned.log_ratio(samples, given)


def test_a_flow_is_learned_by_likelihood_and_has_a_density():
    data = 2 + 0.5 * rows(1000)
    learned = ii.learn(FlowGenerator(2, transforms=2, hidden=(8,), seed=0), data, "mle", **QUICK | {"latent": None})
    assert learned.critic is None
    # N(2, 0.25 I), which fit_scale has given it: the entropy is log(2 pi e 0.25) = 1.45 nats, up to the standard error
    assert float(-learned.log_prob(data).mean()) == pytest.approx(math.log(2 * math.pi * math.e * 0.25), abs=0.1)
    with pytest.raises(ValueError, match="log_ratio: 'mle' trains no critic"):
        learned.log_ratio(data)
    with pytest.raises(TypeError, match="generator: MLPGenerator has no log_prob; a flow has one"):
        ii.learn("mlp", data, "gan", **QUICK).log_prob(data)


def test_choices_are_free_of_each_other():
    learned = ii.learn(
        "mlp", rows(), "brier", generator_loss="kl", penalty="dragan", game="optimistic", instance_noise=0.5, **QUICK
    )
    assert isinstance(learned.comparison, Adversarial)
    assert learned.comparison.moves.divergence.name == "kl"
    assert learned.comparison.regulariser.name == "dragan"
    assert ii.learn("mlp", rows(), "gan", penalty=None, **QUICK).comparison.regulariser is None


def test_images_have_a_critic_of_their_own(tmp_path):
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    learned = ii.learn("conv", images, "gan", **QUICK | {"latent": 4, "batch_size": 8})
    assert learned.sample((3,), seed=0).shape == (3, 1, 8, 8)
    assert learned.log_ratio(images[:2]).shape == (2,)
    learned.plot(draws=20).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_low_precision_is_for_products_alone():
    learned = ii.learn("mlp", rows(), "gan", penalty="r1", precision="bfloat16", **QUICK)
    assert learned.history.finite
    assert all(p.dtype == torch.float32 for p in learned.module.parameters())
    same = ii.learn("mlp", rows(), "gan", penalty="r1", **QUICK)
    a, b = learned.sample((50,), seed=0), same.sample((50,), seed=0)
    # three steps of 5e-4 in directions that bfloat16 (8 bits) has rounded
    assert 0 < float((a - b).abs().max()) < 0.1


def test_columns_without_spread_do_not_blow_up():
    data = torch.cat([rows(), torch.full((400, 1), 7.0)], 1)
    learned = ii.learn("mlp", data, "gan", penalty="r1", **QUICK)
    assert learned.history.finite
    assert max(map(abs, learned.history.generator)) < 100


MISTAKES = {
    "comparison": ({"comparison": "wgann"}, ValueError, "comparison: expected one of gan"),
    "game": ({"game": "alternate"}, ValueError, "game: expected one of alternating"),
    "generator name": ({"generator": "mpl"}, ValueError, r"generator: expected one of mlp.*did you mean 'mlp'"),
    "generator": ({"generator": 3}, TypeError, "generator: expected an nn.Module or a name; got int"),
    "no weights": ({"generator": nn.Identity()}, ValueError, "generator: expected a network with parameters"),
    "shape": (
        {"generator": MLP(2, 3, (4,), seed=0)},
        ValueError,
        r"generator: expected draws of the shape of data, \(2, 2\)",
    ),
    "call": (
        {"generator": MLP(3, 2, (4,), seed=0)},
        ValueError,
        r"generator: calling it with z of shape \(n, 2\) failed",
    ),
    "latent": ({"generator": MLP(2, 2, (4,), seed=0), "latent": None}, ValueError, "latent: expected the width"),
    "latent width": ({"latent": 0}, ValueError, "latent: expected an int of at least 1; got 0"),
    "critic": (
        {"critic": nn.Linear(2, 3)},
        ValueError,
        r"critic: expected one number for each of 2 samples; got \(2, 3\)",
    ),
    "no critic": (
        {"comparison": "mle", "generator": "flow", "critic": nn.Linear(2, 1)},
        ValueError,
        "critic: 'mle' trains none",
    ),
    "nan": ({"data": torch.full((4, 2), math.nan)}, ValueError, "data: expected finite values"),
    "one row": ({"data": rows(1)}, ValueError, "data: expected at least 2 rows"),
    "text": ({"data": np.array([["a"]])}, TypeError, "data: expected real numbers"),
    "condition": ({"condition": rows(3)}, ValueError, "condition: expected 400 rows, one for each sample; got 3"),
    "steps": ({"steps": 0}, ValueError, "steps: expected an int of at least 1; got 0"),
    "batch": ({"batch_size": 2.5}, TypeError, "batch_size: expected an int"),
    "rate": ({"learning_rate": -1.0}, ValueError, "learning_rate: expected a positive number"),
    "average": ({"average": 1.0}, ValueError, r"average: expected a decay in \[0, 1\)"),
    "packing": ({"packing": 5}, ValueError, "packing: expected a divisor of batch_size=32; got 5"),
    "noise": ({"instance_noise": -0.1}, ValueError, "instance_noise: expected a number that is not negative"),
    "every": ({"penalise_every": 0}, ValueError, "penalise_every: expected an int of at least 1"),
    "precision": ({"precision": "float16"}, ValueError, "precision: expected 'float32' or 'bfloat16'"),
    "compile": ({"compile": True, "game": "unrolled"}, ValueError, "compile: the game 'unrolled' differentiates"),
    "device": ({"device": "abacus"}, ValueError, "device: 'abacus' cannot be used here"),
    "seed": ({"seed": -1}, ValueError, "seed: expected a non-negative int"),
    "time": ({"max_time": 0}, ValueError, "max_time: expected a positive number of seconds"),
    "penalty": ({"penalty": "r3"}, ValueError, "penalty: expected one of"),
    "penalty of none": (
        {"comparison": "mle", "generator": "flow", "penalty": "r1"},
        ValueError,
        "penalty: 'mle' has none",
    ),
    "one player": (
        {"comparison": "mle", "generator": "flow", "game": "consensus"},
        ValueError,
        "game: 'consensus' needs",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_before_any_work(change, error, message, tmp_path, monkeypatch):
    from implicit_infer.games import Play

    def played(*_, **__):
        raise AssertionError("the game was played")

    monkeypatch.setattr(Play, "run", played)
    folder = tmp_path / "game"
    arguments = {"generator": "mlp", "data": rows(), "comparison": "gan", "checkpoint": folder, **QUICK} | change
    with pytest.raises(error, match=message):
        ii.learn(**arguments)
    assert not folder.exists()


def test_collapse_is_seen_and_said():
    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.zeros(2))

        def forward(self, z):
            return self.place + 0 * z

    learned = ii.learn(Point(), rows(), "gan", **QUICK)
    (warning,) = learned.warnings
    assert warning.startswith("collapsed: draws are ")
    assert learned.figures["diversity"] < 0.1
    assert learned.figures["spread"] == 0


def test_the_real_law_has_full_diversity():
    learned = ii.learn(Shift(), rows(4000, 1), "gan", critic=Quadratic(), **QUICK | {"latent": 1})
    # two sets of 256 draws of one law: on seeds 100 to 109 between 0.88 and 1.09, and variances between 0.82 and 1.14
    assert learned.figures["diversity"] == pytest.approx(1, abs=0.2)
    assert learned.figures["spread"] == pytest.approx(1, abs=0.4)
    assert learned.warnings == []


def test_a_critic_that_has_won_is_said():
    data = 100 + 0.01 * rows(400, 1)
    settings = QUICK | {"latent": 1, "steps": None, "standardise": False}
    training = Training(40, critic_learning_rate=0.5, marks=10)
    learned = ii.learn(Shift(), data, "minimax", training=training, **settings)
    assert any(warning.startswith("the critic has won") for warning in learned.warnings)


def test_divergence_goes_back_to_the_last_finite_mark():
    class Explodes(Shift):
        calls = 0

        def forward(self, z):
            Explodes.calls += self.training
            return self.location * (math.nan if Explodes.calls > 40 else 1.0) + z

    learned = ii.learn(Explodes(), rows(400, 1), "gan", critic=Quadratic(), **QUICK | {"latent": 1, "steps": 100})
    assert learned.history.stopped == "diverged"
    assert learned.figures["steps"] == learned.history.steps[-1] - 1
    assert learned.warnings[0].startswith("diverged: losses or weights were no longer finite at step ")
    assert torch.isfinite(learned.module.location).all()


def test_time_is_up():
    learned = ii.learn("mlp", rows(), "gan", max_time=0.2, **QUICK | {"steps": 1_000_000})
    assert learned.history.stopped == "time"
    assert 0 < learned.figures["steps"] < 100_000
    assert learned.warnings[0].startswith("out of time: after ")


def test_figures_of_a_mark_are_those_of_the_players():
    seen = {}

    def watch(play):
        x = torch.linspace(-1, 1, 8)[:, None].expand(-1, 2)
        seen["critic"] = play.duel.critic(x).mean()
        return {"mine": float(play.step)}

    learned = ii.learn("mlp", rows(), "gan", watch=watch, **QUICK)
    assert learned.history.figures["mine"] == [1.0, 2.0, 3.0]
    figures = learned.history.figures
    assert set(figures) >= {"generator_gradient", "critic_gradient", "log_ratio_data", "told_data", "diversity"}
    assert all(0 <= share <= 1 for share in figures["told_data"] + figures["told_model"])
    assert all(norm > 0 for norm in figures["generator_gradient"] + figures["critic_gradient"])


def test_progress_says_what_matters(capsys):
    ii.learn("mlp", rows(), "gan", **QUICK | {"progress": True})
    said = capsys.readouterr().err
    assert all(f"{word} " in said for word in ("gan", "critic", "generator", "told"))


@pytest.mark.slow
def test_compiled_networks_learn_the_same():
    one, two = (ii.learn("mlp", rows(), "gan", compile=compile, **QUICK) for compile in (False, True))
    assert two.module._compiled_call_impl is None
    torch.testing.assert_close(one.sample((50,), seed=0), two.sample((50,), seed=0), atol=1e-4, rtol=1e-4)
