"""Simulations on disk: shown as if they were in memory, trained on without being there, and with the same results."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import implicit_infer as ii
from implicit_infer.posteriors.density import DensitySettings, Recipe
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns, open_runs
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

N = 4050


class SometimesFails(GaussianLinear):
    """Raises for some parameters and gives NaN for others."""

    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        x[theta[:, 0] > 0.6] = torch.nan
        if len(theta) == 1 and float(theta[0, 0]) < -0.6:
            raise ArithmeticError("diverged")
        if (theta[:, 0] < -0.6).any():
            raise ArithmeticError("somewhere")
        return x


def simulator(cls=SometimesFails, **settings):
    made = cls(**{"dim": 2, **settings})
    made.block = 200
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("stored") / "runs.zarr"


@pytest.fixture(scope="module")
def memory(path):
    return ii.simulate(simulator(), N, seed=3, store=path, progress=False)


def windowed(path, memory, rows=800):
    """The same simulations on disk, with a window of so many rows."""
    assert len(memory) == N
    return open_runs(path, window=rows * 16)


def test_it_shows_what_memory_shows(path, memory):
    stored = ii.simulate(simulator(), N, seed=3, store=path, memory=False, progress=False)
    assert isinstance(stored, StoredRuns)
    assert (len(stored), stored.seed, stored.parameter_names) == (N, 3, memory.parameter_names)
    assert stored.x.shape == memory.x.shape
    for rows in (slice(None), slice(190, 410), slice(-7, None), slice(100, 900, 3), slice(20, 10), slice(30, 4, -5)):
        expected = memory.theta[list(range(N))[rows]]
        assert torch.equal(stored.theta[rows], expected), rows
    for row in (0, 399, N - 1, -1):
        assert torch.equal(stored.x[row].nan_to_num(9), memory.x[row].nan_to_num(9))
    for row in (N, -N - 1):
        with pytest.raises(IndexError, match=f"row {row} of {N}"):
            stored.theta[row]
    assert torch.equal(stored.failed, memory.failed)
    assert stored.failures == memory.failures
    assert set(stored.failures.values()) == {"ArithmeticError: diverged", "returned NaN or infinity"}
    for one, other in zip(stored.valid(), memory.valid(), strict=True):
        assert torch.equal(one, other)
    assert stored.failure_table().equals(memory.failure_table())
    assert "4050 simulations of gaussian-linear" in repr(stored)


def test_the_table_of_failures_has_parameters_and_reasons(memory):
    table = memory.failure_table()
    assert list(table.columns) == ["theta_1", "theta_2", "reason"]
    assert table.index.tolist() == list(memory.failures)
    assert np.array_equal(table[["theta_1", "theta_2"]], memory.theta[memory.failed])
    assert (table.reason[table.theta_1 < 0] == "ArithmeticError: diverged").all()
    assert (table.reason[table.theta_1 > 0] == "returned NaN or infinity").all()
    none = Runs(torch.zeros(3, 2), torch.zeros(3, 2), 0).failure_table()
    assert (len(none), list(none.columns)) == (0, ["theta_1", "theta_2", "reason"])


def test_first_blocks_and_lengths(path, memory):
    stored = windowed(path, memory).first(1050)
    assert (len(stored), stored.blocks) == (1050, 6)
    theta, x = (torch.cat(parts) for parts in zip(*stored.chunks(), strict=True))
    expected = memory.first(1050).valid()
    assert torch.equal(theta, expected[0])
    assert torch.equal(x, expected[1])
    assert sum(stored.lengths) == len(theta)
    assert stored.failures == memory.first(1050).failures
    with pytest.raises(ValueError, match="holds 1050 simulations; 1051 were asked for"):
        stored.first(1051)


def test_a_store_that_is_being_written_shows_its_finished_part(tmp_path):
    path = tmp_path / "runs.zarr"
    ii.simulate(simulator(), 450, seed=3, store=path, progress=False)
    entries = path / "rows" / "c"
    assert len(open_runs(path)) == 450
    (entries / "1").write_bytes(b"")  # as the power may leave it
    assert len(open_runs(path)) == 200
    (entries / "1").unlink()
    assert len(open_runs(path)) == 200
    (entries / "0").unlink()
    with pytest.raises(ValueError, match="holds no finished simulations"):
        open_runs(path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (simulator(noise_variance=0.2), r"made with settings {'noise_variance': 0.1}; this run has"),
        (simulator(GaussianLinear), "made with class"),
        (simulator(dim=3), r"parameters and simulations of shapes \(3,\) and \(3,\); got \(2,\) and \(2,\)"),
    ],
)
def test_another_simulator_is_refused(path, memory, other, message):
    with pytest.raises(ValueError, match=message):
        ii.infer(other, torch.zeros(other.dim), runs=path)


def test_bad_arguments(tmp_path, path, memory):
    with pytest.raises(ValueError, match="memory: without a store"):
        ii.simulate(simulator(), 10, memory=False)
    with pytest.raises(ValueError, match="there is nothing at"):
        open_runs(tmp_path / "none.zarr")
    with pytest.raises(ValueError, match="window: expected a positive number of bytes; got 0"):
        open_runs(path, window=0)
    with pytest.raises(TypeError, match=r"runs: expected what ii\.simulate gives, or the path of a store; got int"):
        ii.infer(simulator(), torch.zeros(2), runs=3)
    with pytest.raises(ValueError, match=f"holds {N} simulations; 9999 were asked for"):
        ii.infer(simulator(), torch.zeros(2), budget=9999, runs=path, progress=False)


def moments(posterior):
    draws = posterior.sample((2000,), seed=0)
    return draws.mean(0), draws.std(0)


RECIPE, ONCE = Recipe(epochs=8, batch_size=100), Recipe(epochs=1)
METHODS = {
    "nre": ii.posteriors.NRE(epochs=6, contrasts=8),
    "npe": ii.posteriors.NPE(DensitySettings(members=2, transforms=1, normal=RECIPE, bending=RECIPE)),
    "gatsbi": ii.posteriors.GATSBI(epochs=20, hidden=(64, 64)),
    "rejection-abc": ii.abc.RejectionABC(keep=150, adjust="linear"),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_fits_in_the_window_gives_the_same_numbers_as_memory(path, memory, name):
    method = {
        "nre": ii.posteriors.NRE(epochs=1),
        "npe": ii.posteriors.NPE(DensitySettings(members=1, normal=ONCE, bending=ONCE)),
    }.get(name)
    method = method or ii.posteriors.GATSBI(epochs=1) if name != "rejection-abc" else METHODS[name]
    ask = {"method": method, "budget": 1000, "seed": 1, "progress": False}
    one, other = (ii.infer(simulator(), [0.1, -0.2], runs=runs, **ask) for runs in (memory, path))
    assert torch.equal(one.sample((50,), seed=2), other.sample((50,), seed=2))


@pytest.mark.parametrize("name", METHODS)
def test_training_from_disk_finds_the_posterior(path, memory, name):
    """The exact posterior is normal; failures cut the prior far from it."""
    runs = windowed(path, memory)
    assert not runs.fits
    posterior = ii.infer(simulator(), [0.1, -0.2], method=METHODS[name], runs=runs, seed=1, progress=False)
    assert posterior.simulations == N
    mean, deviation = moments(posterior)
    exact = simulator().posterior(torch.tensor([0.1, -0.2]))
    wanted = exact.variance.sqrt()
    # of 4000 simulations a regression knows the mean to 2 % of a deviation; networks wander by several times that,
    # and as far from memory as from disk: 0.12 and 0.15 were seen of the game from memory, 0.09 and 0.18 from disk
    far = 0.4 if name == "gatsbi" else 0.3
    assert ((mean - exact.mean) / wanted).abs().max() < far
    assert (deviation / wanted).log().abs().max() < far


def test_what_is_made_of_large_simulations_may_fit_where_they_do_not(tmp_path):
    from implicit_infer.posteriors.training_rows import training_rows

    class Wide(GaussianLinear):
        def summarize(self, x):
            return x[:, :2]

    wide = simulator(Wide, dim=20)
    ii.simulate(wide, 1000, seed=3, store=tmp_path / "runs.zarr", progress=False)
    runs = open_runs(tmp_path / "runs.zarr", window=20_000)
    assert not runs.fits
    rows = training_rows(runs, lambda theta, x: (theta[:, :2], wide.summarize(x)), "cpu")
    assert isinstance(rows, tuple)
    assert torch.equal(rows[1], runs.x[:][:, :2])


MEMORY = """
import json, resource, sys, torch
import implicit_infer as ii
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

class Wide(GaussianLinear):
    def _simulate(self, theta, stream):
        draws = torch.randint(2**31, (len(theta), 200), generator=stream.torch(), dtype=torch.int32)
        return theta.repeat(1, 100) + draws / 2**31

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

simulator = Wide(2)
simulator.event_shape = torch.Size([200])
method = ii.posteriors.NRE(epochs=1, contrasts=1, hidden=(8,), batch_size=4096, validation=0.4)

def train(n, name):
    ii.simulate(simulator, n, seed=0, store=name, memory=False, progress=False)
    runs = ii.open_runs(name, window=2**21)
    found = ii.infer(simulator, torch.zeros(200), method=method, runs=runs, seed=0, progress=False)
    return runs, float(found.sample((500,), seed=0).mean())

train(20_000, sys.argv[1] + "/small.zarr")
before = peak()
runs, mean = train(150_000, sys.argv[1] + "/large.zarr")
print(json.dumps({"store": len(runs) * runs.row_bytes / 2**20, "increase": peak() - before, "mean": mean}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
def test_memory_stays_bounded_while_the_store_grows(tmp_path):
    ran = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True)
    figures = json.loads(ran.stdout)
    assert figures["store"] > 110
    # 30 to 50 were seen with 80, and 30 with 230: what is held does not depend on its size
    assert figures["increase"] < 75
    assert abs(figures["mean"] + 0.5) < 0.2  # x is theta plus one half on average
