"""Whatever a simulation does to its process, it costs one row, and the rest go on."""

import collections
import ctypes
import itertools
import logging
import os
import sys
import time

import cloudpickle
import pytest
import torch
import xarray as xr

import implicit_infer as ii
from implicit_infer import processes
from implicit_simulators import FunctionSimulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


def row_by_row(on_bad, block=20, n_bad_above=0.9):
    """A function of one row, which does ``on_bad`` for one row in twenty."""

    def draw(theta, rng):
        if theta[0] > n_bad_above:
            on_bad()
        return theta + rng.normal(size=2)

    simulator = FunctionSimulator(
        draw, prior=([0.0, 0.0], [1.0, 1.0]), event_shape=2, batched=False, array="numpy", name="fragile"
    )
    simulator.block = block
    return simulator


def run(simulator, n=60, **options):
    return ii.simulate(simulator, n, seed=1, progress=False, **options)


@pytest.fixture(scope="module")
def healthy():
    runs = run(row_by_row(lambda: None))
    bad = (runs.theta[:, 0] > 0.9).nonzero()[:, 0].tolist()
    assert 2 <= len(bad) <= 10
    return runs, bad


def test_a_row_that_takes_too_long_is_a_failure_and_the_rest_keep_their_numbers(healthy, tmp_path):
    whole, bad = healthy
    store = tmp_path / "runs.zarr"
    for _ in range(2):  # made, and read back
        runs = run(row_by_row(lambda: time.sleep(60)), timeout=1, store=store)
        assert runs.failures == dict.fromkeys(bad, "TimeoutError: took longer than 1 s")
        assert torch.equal(runs.x[~runs.failed], whole.x[~runs.failed])
    table = runs.failure_table()
    assert table.index.tolist() == bad
    assert torch.equal(torch.tensor(table[["theta_1", "theta_2"]].to_numpy()), whole.theta[bad])
    reasons = xr.open_zarr(store).reason.values
    assert [row for row, reason in enumerate(reasons) if reason] == bad


def test_a_limit_that_nobody_exceeds_changes_nothing(healthy):
    for options in ({"timeout": 30}, {"timeout": 30, "workers": 2}):
        assert torch.equal(run(row_by_row(lambda: None), **options).x, healthy[0].x)


def test_reasons_of_rows_that_the_simulator_caught_itself_come_back(healthy):
    _, bad = healthy
    for options in ({}, {"workers": 2}):
        runs = run(row_by_row(lambda: 1 / 0), **options)
        assert runs.failures == dict.fromkeys(bad, "ZeroDivisionError: division by zero")


def hang():
    collections.deque(itertools.repeat(0), maxlen=0)  # in C, for ever, deaf to signals


def crash():
    ctypes.string_at(0)


def one_bad(on_bad):
    """A simulator of which one row of the first block is bad, and which row that is."""
    theta = row_by_row(on_bad, block=10).sample_prior(10, 1, 0)[:, 0]
    highest = theta.sort().values
    return row_by_row(on_bad, block=10, n_bad_above=float(highest[-2:].mean())), int(theta.argmax())


@pytest.mark.parametrize(
    ("on_bad", "reason"),
    [(hang, "TimeoutError: took longer than 1 s"), (crash, "ended its process (SIGSEGV)")],
)
def test_a_row_that_hangs_or_crashes_its_process_is_a_failure(on_bad, reason, monkeypatch, caplog):
    monkeypatch.setattr(processes, "GRACE", 0.3)
    monkeypatch.setattr(processes, "PATIENCE", 1)  # each death costs the start of a process
    simulator, bad = one_bad(on_bad)
    with caplog.at_level(logging.ERROR):
        runs = run(simulator, 14, timeout=1)
    assert runs.failures == {bad: reason}
    healthy = run(one_bad(lambda: None)[0], 14)
    assert torch.equal(runs.x[10:], healthy.x[10:])  # the other block never heard of it


class SlowTogether(GaussianLinear):
    """Takes long for some parameters, whatever is asked for beside them."""

    block = 10

    def _simulate(self, theta, stream):
        time.sleep(20.0 * bool((theta[:, 0] > 0.45).any()))
        return super()._simulate(theta, stream)


def test_a_batch_that_takes_too_long_is_split_into_its_rows():
    simulator = SlowTogether(dim=2)
    runs = run(simulator, 20, timeout=0.6)
    bad = (runs.theta[:, 0] > 0.45).nonzero()[:, 0].tolist()
    assert 1 <= len(bad) <= 4
    assert runs.failures == dict.fromkeys(bad, "TimeoutError: took longer than 0.6 s")


def test_the_limit_holds_on_executors_too(healthy):
    import concurrent.futures

    _, bad = healthy

    def sleep():  # in short naps, between which a thread can be interrupted
        for _ in range(6000):
            time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        runs = run(row_by_row(sleep), timeout=1, executor=threads)
    assert set(runs.failures) == set(bad)
    assert set(runs.failures.values()) == {"TimeoutError: took longer than 1 s"}


def test_workers_stay_for_the_next_run_and_one_that_died_is_replaced():
    class Process(GaussianLinear):
        block = 5

        def _simulate(self, theta, stream):
            return torch.full_like(theta, float(os.getpid()))

    def workers():
        return set(run(Process(1), 40, workers=2).x.flatten().int().tolist())

    first = workers()
    assert len(first) <= 2
    idle = [worker.process.pid for worker in processes._idle]
    assert first <= set(idle)
    os.kill(idle[-1], 9)
    second = workers()
    assert idle[-1] not in second


def test_a_worker_that_cannot_load_the_simulator_says_so():
    class Unloadable(GaussianLinear):
        def __reduce__(self):
            return _refuse, ()

    with pytest.raises(RuntimeError, match="a worker process cannot load gaussian-linear: ValueError: no entry"):
        run(Unloadable(1), 10, workers=2)


def _refuse():
    raise ValueError("no entry")


@pytest.mark.parametrize(
    ("timeout", "error", "message"),
    [
        (0, ValueError, "timeout: expected a positive number of seconds; got 0"),
        (-1.5, ValueError, r"timeout: expected a positive number of seconds; got -1\.5"),
        (float("inf"), ValueError, "timeout: expected a positive number of seconds; got inf"),
        ("1", TypeError, "timeout: expected seconds as a number, or None; got str"),
    ],
)
def test_bad_timeouts(timeout, error, message):
    with pytest.raises(error, match=message):
        run(GaussianLinear(1), timeout=timeout)
