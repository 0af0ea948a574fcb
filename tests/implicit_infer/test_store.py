"""Whatever ends a run, the store resumes to what an uninterrupted run would have written."""

import concurrent.futures
import contextlib
import json
import os
import re
import sys
import threading
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
from tests.implicit_infer.disasters import Disk, ended, full, kill, power_off


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


def tiny():
    simulator = GaussianLinear(dim=1)
    simulator.block = 50
    return simulator


def in_two_parts(path):
    """A store that is made, and then extended, which replaces a block that was cut short."""
    run(path, 70, tiny())
    return run(path, 120, tiny())


def content(path):
    """Every file of a store and what it holds."""
    found = {}
    for file in path.rglob("*"):
        if file.is_file():
            found[str(file.relative_to(path))] = (
                json.loads(file.read_text()) if file.suffix == ".json" else file.read_bytes()
            )
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "runs.zarr"
    disk = Disk(kill)
    with disk.watched():
        runs = in_two_parts(path)
    assert same(runs, simulate(tiny(), 120, seed=5, progress=False))
    return runs, content(path), disk.count


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks up open files in /proc")
@pytest.mark.parametrize(("how", "every"), [(kill, 11), (power_off, 4)])
def test_killed_or_without_power_at_any_point_and_resumed_equals_uninterrupted(tmp_path, how, every, uninterrupted):
    runs, files, steps = uninterrupted
    assert steps > 100
    for fatal in range(1, steps + 1, every):
        path = tmp_path / str(fatal) / "runs.zarr"
        path.parent.mkdir()
        assert ended(lambda path=path: in_two_parts(path), how, fatal)
        assert same(run(path, 120, tiny()), runs), fatal
        assert content(path) == files, fatal
        assert [file.name for file in path.parent.iterdir()] == ["runs.zarr"], fatal


def test_a_disk_that_is_full_at_any_write_leaves_a_store_that_resumes(tmp_path, uninterrupted):
    runs, files, steps = uninterrupted
    for fatal in range(1, steps + 1, 7):
        path = tmp_path / str(fatal) / "runs.zarr"
        path.parent.mkdir()
        # what happens to the tidying up of a write that has failed is not what is asked here
        with Disk(full, fatal).watched(), contextlib.suppress(OSError):
            in_two_parts(path)
        assert same(run(path, 120, tiny()), runs), fatal
        assert content(path) == files, fatal


def test_a_full_disk_is_told(path):
    with Disk(full, 60).watched(), pytest.raises(OSError, match="No space left"):
        in_two_parts(path)


def test_an_old_entry_never_vouches_for_new_data(path, monkeypatch):
    """Dying between the data of a block and its entry must cost the block, not its truth."""
    run(path, 70, tiny())
    counted = []

    def count(self, block, size):
        counted.append((block, size))
        if size:
            raise OSError(28, "No space left on device")
        kept(self, block, size)

    kept = Store._count
    monkeypatch.setattr(Store, "_count", count)
    with pytest.raises(OSError, match="No space"):
        run(path, 120, tiny())
    assert counted == [(1, 0), (1, 50)]
    assert xr.open_zarr(path).rows.values.tolist() == [50, 0, 0]


def test_two_writers_take_turns_or_are_refused(path, tmp_path):
    """Threads and forked processes that all want the same store: one at a time, and what they make is one run."""
    refused = []

    def write():
        for _ in range(4):
            try:
                run(path, 120, tiny())
            except RuntimeError as error:
                refused.append(str(error))

    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                write()
                os._exit(all("is being written by process" in reason for reason in refused))
            os._exit(7)
        children.append(child)
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [1, 1]
    assert all("is being written by process" in reason for reason in refused)
    assert same(run(path, 120, tiny()), simulate(tiny(), 120, seed=5, progress=False))
    assert [file.name for file in tmp_path.iterdir()] == ["runs.zarr"]


def test_who_made_it_is_told_by_what_differs(path):
    run(path, 100)
    message = re.escape("settings {'noise_variance': 0.1}; this run has {'noise_variance': 0.2}")
    with pytest.raises(ValueError, match=message):
        run(path, 200, small(noise_variance=0.2))
