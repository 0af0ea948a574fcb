"""A run that was killed goes on bit by bit, a finished one takes more budget, and another question is refused."""

import json
import shutil

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from torch.distributions import Independent, Uniform

import implicit_infer as ii
from implicit_infer.abc import ABCMCMC, SMCABC, Mahalanobis, PNorm, ReplenishmentABC
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from tests.implicit_infer.disasters import Disk, ended, kill, power_off

METHODS = {
    "smc": SMCABC(particles=40, kernel="local"),
    "adaptive": SMCABC(particles=40, adaptive=True, schedule="ess", quantile=0.4),
    "replenishment": ReplenishmentABC(particles=40),
    "mcmc": ABCMCMC(chains=20),
}
OBSERVED = torch.tensor([0.4, -0.2])


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


def infer(method, checkpoint=None, budget=600, simulator=None, observed=OBSERVED, seed=100, **options):
    simulator = Counting(dim=2) if simulator is None else simulator
    return ii.infer(simulator, observed, method, budget, checkpoint=checkpoint, seed=seed, progress=False, **options)


def same(one, two):
    """Particles and figures, but for the time that generations took."""
    ours, theirs = ({**part.figures, "paths": {**part.figures["paths"], "seconds": []}} for part in (one, two))
    return (
        ours == theirs
        and torch.equal(one.particles().theta, two.particles().theta)
        and torch.equal(one.particles().log_weights, two.particles().log_weights)
    )


@pytest.fixture(scope="module", params=METHODS)
def finished(request, tmp_path_factory):
    method = METHODS[request.param]
    folder = tmp_path_factory.mktemp("finished") / "run"
    return method, infer(method), infer(method, folder), folder


def test_keeping_a_run_changes_nothing(finished):
    _, plain, kept, folder = finished
    assert same(plain, kept)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        *(f"generation-{i:04d}.safetensors" for i in range(kept.figures["generations"])),
        "run.json",
    ]


def test_goes_on_after_any_generation(finished, tmp_path):
    method, plain, kept, folder = finished
    generations = kept.figures["generations"]
    for done in {1, generations // 2, generations - 1}:
        part = tmp_path / str(done)
        shutil.copytree(folder, part)
        for i in range(done, generations):
            (part / f"generation-{i:04d}.safetensors").unlink()
        (part / f"generation-{done:04d}.draft").write_text("what a kill left")
        simulator = Counting(dim=2)
        assert same(infer(method, part, simulator=simulator), plain), done
        spent = sum(kept.figures["paths"]["simulations"][done:])
        assert simulator.simulated == spent, done


@pytest.mark.parametrize("how", [kill, power_off])
def test_killed_at_any_point_and_resumed_equals_uninterrupted(tmp_path, how):
    method = METHODS["smc"]
    whole = infer(method)
    with (disk := Disk(how)).watched():
        infer(method, tmp_path / "whole")
    assert disk.count > 10
    for fatal in range(1, disk.count + 1, 2):
        folder = tmp_path / str(fatal)
        assert ended(lambda folder=folder: infer(method, folder), how, fatal)
        assert same(infer(method, folder), whole), fatal


def test_a_finished_run_is_read_and_takes_more_budget(finished, tmp_path):
    method, plain, _, folder = finished
    shutil.copytree(folder, tmp_path / "more")
    simulator = Counting(dim=2)
    assert same(infer(method, tmp_path / "more", simulator=simulator), plain)
    assert simulator.simulated == 0
    longer = infer(method, tmp_path / "more", 1500, simulator=simulator)
    assert simulator.simulated == longer.simulations - plain.simulations > 800
    assert longer.figures["tolerance"] <= plain.figures["tolerance"] or METHODS["adaptive"] is method
    assert longer.figures["particles"] == plain.figures["particles"] or METHODS["mcmc"] is method
    assert longer.figures["paths"]["ess"][: plain.figures["generations"]] == plain.figures["paths"]["ess"]


def test_more_budget_does_not_bend_the_posterior(tmp_path):
    """A run that was extended is still right: the mean within the tolerance's bias and its standard error."""
    method = SMCABC(particles=500)
    for budget in (3000, 8000, 13_000, 20_000):
        posterior = infer(method, tmp_path, budget)
    assert posterior.simulations == 20_000
    exact = GaussianLinear(dim=2).posterior(OBSERVED)
    particles = posterior.particles()
    mean = particles.weights @ particles.theta.double()
    radius = 0.5 * posterior.figures["tolerance"]  # a summary's scale is 0.45
    assert ((mean - exact.mean).abs() < radius / 2 + 4 * exact.stddev / particles.ess**0.5).all()


def test_a_smaller_budget_is_refused(tmp_path):
    infer(METHODS["smc"], tmp_path)
    with pytest.raises(ValueError, match="has spent 600 simulations already; expected a budget of at least as many"):
        infer(METHODS["smc"], tmp_path, 500)


class OtherPrior(Counting):
    def __init__(self):
        super().__init__(dim=2)
        self.prior = Independent(Uniform(-torch.ones(2), torch.ones(2)), 1)


BLOCKY = Counting(dim=2)
BLOCKY.block = 17


@pytest.mark.parametrize(
    ("method", "changed", "message"),
    [
        (SMCABC(particles=40, distance=Mahalanobis()), {}, "was made with settings .*p.*; this run has"),
        (SMCABC(particles=40, distance=PNorm(p=1)), {}, "was made with settings .*'p': 2.0.*'p': 1,"),
        (SMCABC(particles=40, kernel="optimal"), {}, "{'kernel': 'twice'}; this run has {'kernel': 'optimal'}"),
        (ReplenishmentABC(particles=40), {}, "was made with method 'smc-abc'"),
        (None, {"observed": OBSERVED + 1}, "was made with observed"),
        (None, {"seed": 1}, "was made with seed 100; this run has 1"),
        (None, {"simulator": OtherPrior()}, "was made with simulator .*prior"),
        (None, {"simulator": BLOCKY}, r"was made with simulator {'block': \d+}; this run has {'block': 17}"),
    ],
)
def test_another_question_is_refused(tmp_path, method, changed, message):
    infer(SMCABC(particles=40), tmp_path, 300)
    with pytest.raises(ValueError, match=message):
        infer(method or SMCABC(particles=40), tmp_path, 300, **changed)


def test_another_bank_is_refused(tmp_path):
    simulator = Counting(dim=2)
    first, other = (simulate(simulator, 300, seed=seed, progress=False) for seed in (4, 5))
    infer(METHODS["smc"], tmp_path, runs=first, budget=300)
    infer(METHODS["smc"], tmp_path, runs=first, budget=300)
    with pytest.raises(ValueError, match="was made with bank 4; this run has 5"):
        infer(METHODS["smc"], tmp_path, runs=other, budget=300)


def test_wall_time_and_budget_are_no_part_of_the_question(tmp_path):
    infer(SMCABC(particles=40, max_time=1000.0), tmp_path, 300)
    assert infer(SMCABC(particles=40), tmp_path, 400).simulations == 400


def test_two_processes_are_kept_apart(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(RuntimeError, match="another process is at work"):
        infer(METHODS["smc"], tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        infer(METHODS["smc"], tmp_path / "file")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json is not JSON"):
        infer(METHODS["smc"], tmp_path / "torn")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "generation-0000.safetensors").write_text("")
    with pytest.raises(ValueError, match=r"no run.json that says of what"):
        infer(METHODS["smc"], tmp_path / "lost")
    with pytest.raises(ValueError, match="checkpoint: rejection-abc does not run in generations"):
        infer("rejection-abc", tmp_path / "new")


def test_files_are_read_by_others(finished):
    _, _, kept, folder = finished
    with safe_open(folder / "generation-0000.safetensors", framework="numpy") as file:
        state = json.loads(file.metadata()["config"])
        assert file.get_tensor("phi").shape == (len(file.get_tensor("distances")), 2)
    assert state["generations"][0]["tolerance"] == kept.figures["paths"]["tolerance"][0]
    assert json.loads((folder / "run.json").read_text())["seed"] == 100


def test_other_observations_do_not_touch_the_folder(finished):
    _, _, kept, folder = finished
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    kept.sample((5,), OBSERVED + 0.1, seed=0)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == before


def test_a_posterior_of_a_kept_run_is_saved_and_read(finished, tmp_path):
    _, _, kept, _ = finished
    kept.save(tmp_path / "posterior.safetensors")
    again = ii.load_posterior(tmp_path / "posterior.safetensors", Counting(dim=2))
    assert torch.equal(again.sample((20,), seed=1), kept.sample((20,), seed=1))
