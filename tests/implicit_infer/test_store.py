"""Whatever ends a run, the store resumes to what an uninterrupted run would have written."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import pytest
import torch
import xarray as xr
from torch.distributions import Independent, Normal

from implicit_infer.simulate import simulate
from implicit_infer.store import Store
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


class Counting(GaussianLinear):
    """Counts the rows that are simulated."""

    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


def small(cls=Counting, block=100, **settings):
    simulator = cls(**{"dim": 2, **settings})
    simulator.block = block
    return simulator


def run(path, n, simulator=None, seed=5, **options):
    return simulate(simulator or small(), n, seed=seed, store=path, progress=False, **options)


def same(a, b):
    equal = torch.equal(a.theta, b.theta) and torch.equal(a.x.nan_to_num(9), b.x.nan_to_num(9))
    return equal and (a.seed, a.errors) == (b.seed, b.errors)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.zarr"


def test_xarray_reads_names_and_who_made_it(path):
    runs = run(path, 250)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(path)
    assert data.theta.dims == ("simulation", "parameter")
    assert data.x.dims == ("simulation", "x_dim_0")
    assert data.parameter.values.tolist() == ["theta_1", "theta_2"]
    assert np.array_equal(data.theta, runs.theta)
    assert np.array_equal(data.x, runs.x)
    assert data.rows.values.tolist() == [100, 100, 50]
    assert data.x.encoding["chunks"] == (100, 2)
    expected = {"simulator": "gaussian-linear", "seed": 5, "block": 100, "parameter_names": ["theta_1", "theta_2"]}
    assert expected.items() <= data.attrs.items()
    assert data.attrs["settings"] == {"dim": 2, "prior_variance": 0.1, "noise_variance": 0.1}
    assert data.attrs["versions"]["torch"] == version("torch")


def test_the_same_as_without_a_store(path):
    plain = simulate(small(), 250, seed=5, progress=False)
    assert same(run(path, 250), plain)
    assert same(run(path, 250), plain)  # read back
    assert same(run(path, 250, seed=None), plain)  # the store's own seed


def test_finished_blocks_are_not_simulated_again_and_a_store_can_be_extended(path):
    run(path, 200)
    simulator = small()
    runs = run(path, 500, simulator)
    assert simulator.simulated == 300
    assert same(runs, simulate(small(), 500, seed=5, progress=False))
    assert xr.open_zarr(path).sizes["simulation"] == 500
    simulator = small()
    assert same(run(path, 300, simulator), simulate(small(), 300, seed=5, progress=False))
    assert simulator.simulated == 0


def test_extending_a_broken_block_gives_what_one_run_gives(path):
    run(path, 250)
    simulator = small()
    assert same(run(path, 400, simulator), simulate(small(), 400, seed=5, progress=False))
    assert simulator.simulated == 200  # the third block again, as a whole, and the fourth


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_scalar_and_many_dimensional_events(path, shape):
    class Shaped(GaussianLinear):
        def _simulate(self, theta, stream):
            x = super()._simulate(theta, stream).sum(1)
            return x if shape == () else x[:, None, None].expand(-1, *shape).double()

    simulator = small(Shaped)
    simulator.event_shape = torch.Size(shape)
    first, again = run(path, 250, simulator), run(path, 250, simulator)
    assert same(first, again)
    assert again.x.dtype == first.x.dtype
    assert len(xr.open_zarr(path).x.dims) == 1 + len(shape)


def test_failures_and_their_reasons_are_kept(path):
    class Raises(GaussianLinear):
        def _simulate(self, theta, stream):
            if (theta[:, 0] > 0.5).any():
                raise ArithmeticError("diverged")
            return super()._simulate(theta, stream)

    first, again = run(path, 250, small(Raises)), run(path, 250, small(Raises))
    assert first.failures
    assert same(first, again)
    assert again.failures == first.failures
    reasons = xr.open_zarr(path).reason.values
    assert set(np.flatnonzero(reasons != "").tolist()) == set(first.failures)


def test_workers_write_the_same_store(path):
    assert same(run(path, 350, small(GaussianLinear), workers=2), simulate(small(), 350, seed=5, progress=False))


class OtherName(Counting):
    name = "other"


@pytest.mark.parametrize(
    ("other", "seed", "message"),
    [
        (small(), 6, "was made with seed 5; this run has 6"),
        (small(OtherName), 5, "was made with simulator 'gaussian-linear'; this run has 'other'"),
        (small(noise_variance=0.2), 5, "was made with settings"),
        (small(block=50), 5, "was made with block 100; this run has 50"),
        (small(GaussianLinear), 5, "was made with class"),
    ],
)
def test_another_run_is_refused_with_the_reason(path, other, seed, message):
    run(path, 100)
    with pytest.raises(ValueError, match=message):
        run(path, 200, other, seed=seed)


def test_another_prior_is_refused(path):
    run(path, 100)
    simulator = small()
    simulator.prior = Independent(Normal(torch.ones(2), 1.0), 1)
    with pytest.raises(ValueError, match="the prior draws other parameters"):
        run(path, 200, simulator)


def test_what_is_no_store_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    xr.Dataset({"a": ("b", [1.0])}).to_zarr(path, zarr_format=3, consolidated=False)
    for name in ("file", "folder", "runs.zarr"):
        with pytest.raises(ValueError, match="exists and is not a store of simulations"):
            run(tmp_path / name, 100)
    with pytest.raises(ValueError, match=r"expected a folder on this machine; got 's3://bucket/runs\.zarr'"):
        run("s3://bucket/runs.zarr", 100)
    with pytest.raises(TypeError, match="store: expected the path of a folder; got int"):
        run(3, 100)


def test_a_refused_store_is_left_unlocked_and_nothing_stays_beside_it(path, tmp_path):
    run(path, 100)
    for _ in range(2):
        with pytest.raises(ValueError, match="seed"):
            run(path, 100, seed=6)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.zarr"]


def test_a_second_writer_is_refused_and_told_who_writes(path):
    with Store(path, small(), 5), pytest.raises(RuntimeError, match=f"is being written by process {os.getpid()} on"):
        Store(path, small(), 5)
    run(path, 100)


def test_a_forked_child_does_not_keep_the_lock(path):
    import multiprocessing

    with Store(path, small(), 5) as store:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        assert not store._lock.file.closed
    try:
        run(path, 100)
    finally:
        child.kill()
        child.join()


def test_an_executor_of_forked_processes(path):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        runs = run(path, 350, GaussianLinear(dim=2), executor=pool)
    assert same(runs, simulate(GaussianLinear(dim=2), 350, seed=5, progress=False))


SCRIPT = """
import os, signal, sys
import implicit_infer.store as store
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

path, where, count, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
seen = 0

def die(here):
    global seen
    seen += here == where
    if here == where and seen == count:
        os.kill(os.getpid(), signal.SIGKILL)

def before(function, here):
    def dying(*args, **kwargs):
        die(here)
        return function(*args, **kwargs)
    return dying

simulator = GaussianLinear(dim=2)
simulator.block = 100
simulator._simulate = before(simulator._simulate, "simulate")
store._fsync = before(store._fsync, "flush")
store._consolidate = before(store._consolidate, "consolidate")
store.Store._count = before(store.Store._count, "count")
store.os.replace = before(store.os.replace, "move")
simulate(simulator, n, seed=5, store=path, progress=False)
"""
POINTS = [("simulate", 3), ("count", 1), ("count", 3), ("flush", 20), ("move", 1), ("consolidate", 1)]


def killed(path, where, count, n):
    command = [sys.executable, "-c", SCRIPT, str(path), where, str(count), str(n)]
    return subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "runs.zarr"
    return run(path, 550, small(GaussianLinear)), files(path)


def files(path):
    """Every file of a store and what it holds."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("where", "count"), POINTS)
def test_killed_anywhere_and_resumed_equals_uninterrupted(path, where, count, uninterrupted):
    assert killed(path, where, count, 550) == -signal.SIGKILL
    assert same(run(path, 550, small(GaussianLinear)), uninterrupted[0])
    assert files(path) == uninterrupted[1]


def test_killed_while_a_broken_block_is_replaced(path, uninterrupted):
    """Its old entry must not vouch for new data: dying between the two writes must cost the block, not its truth."""
    run(path, 250, small(GaussianLinear))
    assert killed(path, "count", 2, 550) == -signal.SIGKILL  # 1: the old entry is taken back; 2: the new one is due
    assert xr.open_zarr(path).rows.values.tolist()[:3] == [100, 100, 0]
    assert same(run(path, 550, small(GaussianLinear)), uninterrupted[0])


def test_killed_while_it_is_extended(path, uninterrupted):
    run(path, 300, small(GaussianLinear))
    assert killed(path, "consolidate", 2, 550) == -signal.SIGKILL  # grown, but the gathered metadata are old
    assert xr.open_zarr(path).sizes["simulation"] == 300
    assert same(run(path, 550, small(GaussianLinear)), uninterrupted[0])


def test_a_full_disk_leaves_a_store_that_resumes(path, monkeypatch, uninterrupted):
    def full(*args):
        raise OSError(28, "No space left on device")

    run(path, 200, small(GaussianLinear))
    with monkeypatch.context() as patched:
        patched.setattr(Store, "_flush", full)
        with pytest.raises(OSError, match="No space left"):
            run(path, 550, small(GaussianLinear))
    assert same(run(path, 550, small(GaussianLinear)), uninterrupted[0])
