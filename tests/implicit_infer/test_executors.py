"""Blocks come back the same from everywhere, and what raises loses only its own rows."""

import concurrent.futures
import logging
import os
import signal
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_infer.blocks import simulate_block
from implicit_infer.executors import run_blocks
from implicit_infer.simulate import simulate
from implicit_simulators import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def flaky(block=50):
    """A simulator that raises for negative first parameters; made inside a function, so that workers get its code."""

    class Flaky(GaussianLinear):
        def _simulate(self, theta, stream):
            if (theta[:, 0] < -0.5).any():
                raise ArithmeticError("diverged")
            return super()._simulate(theta, stream)

    simulator = Flaky(dim=2)
    simulator.block = block
    return simulator


def blocks(simulator, sizes, seed=3):
    return [(i, simulator.sample_prior(size, seed, i)) for i, size in enumerate(sizes)]


def collect(*args, **kwargs):
    found = sorted(run_blocks(*args, **kwargs), key=lambda block: block.index)
    return torch.cat([b.x for b in found]), [b.errors for b in found]


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield pool


def test_same_numbers_with_one_worker_two_workers_and_an_executor(threads):
    simulator = flaky()
    work = blocks(simulator, [50] * 5 + [7])
    here, errors = collect(simulator, work, 3)
    assert any(errors)  # otherwise the retry is not compared
    for options in ({"workers": 2}, {"executor": threads}):
        x, other = collect(simulator, work, 3, **options)
        assert torch.equal(x.nan_to_num(9), here.nan_to_num(9))
        assert other == errors


def test_a_raising_block_loses_only_the_rows_that_raise():
    simulator = flaky(block=500)
    theta = simulator.sample_prior(500, 0)
    block = simulate_block(simulator, theta, 0, 0)
    bad = (theta[:, 0] < -0.5).nonzero()[:, 0].tolist()
    assert bad
    assert block.errors == dict.fromkeys(bad, "ArithmeticError: diverged")
    assert block.x.isnan().any(1).nonzero()[:, 0].tolist() == bad


def test_rows_tried_again_have_noise_of_their_own():
    simulator = flaky(block=500)
    theta = simulator.sample_prior(500, 0)
    block = simulate_block(simulator, theta, 0, 0)
    noise = (block.x - theta)[~block.x.isnan().any(1)]
    assert len(noise.unique(dim=0)) == len(noise)


def test_workers_never_repeat_random_numbers():
    simulator = GaussianLinear(dim=1)
    theta = torch.zeros(20, 1)
    x, _ = collect(simulator, [(i, theta) for i in range(10)], 0, workers=2)
    assert len(x.unique()) == 200


def test_a_worker_uses_one_thread():
    class Threads(GaussianLinear):
        def _simulate(self, theta, stream):
            return torch.full_like(theta, float(torch.get_num_threads()))

    x, _ = collect(Threads(dim=1), [(0, torch.zeros(3, 1))], 0, workers=2)
    assert (x == 1).all()


def test_blocks_of_a_killed_worker_are_simulated_again(tmp_path):
    marker = tmp_path / "died"

    class Deadly(GaussianLinear):
        def _simulate(self, theta, stream):
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._simulate(theta, stream)

    work = blocks(GaussianLinear(dim=2), [20] * 6)
    x, _ = collect(Deadly(dim=2), work, 3, workers=2)
    assert marker.exists()
    assert torch.equal(x, collect(GaussianLinear(dim=2), work, 3)[0])


def test_workers_that_keep_dying_are_given_up(monkeypatch):
    monkeypatch.setattr("implicit_infer.processes.DEATHS", 2)  # each costs the start of new processes

    class Deadly(GaussianLinear):
        def _simulate(self, theta, stream):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="worker processes died"):
        collect(Deadly(dim=2), blocks(GaussianLinear(dim=2), [20] * 6), 3, workers=2)


def test_stop_lets_blocks_in_hand_finish(threads):
    for options in ({}, {"executor": threads}):
        simulator, stop = GaussianLinear(dim=2), threading.Event()
        found = []
        for block in run_blocks(simulator, blocks(simulator, [10] * 50), 3, stop=stop, **options):
            found.append(block)
            stop.set()
        assert 1 <= len(found) <= 5  # the one at hand, and with two threads those in waiting


def test_what_a_stopped_run_leaves_behind_does_not_reach_the_next():
    simulator = GaussianLinear(dim=2)
    expected = collect(simulator, blocks(simulator, [10] * 6), 3)[0]
    for _ in range(5):
        stop = threading.Event()
        for _ in run_blocks(simulator, blocks(simulator, [10] * 50), 7, workers=2, stop=stop):
            stop.set()
        assert torch.equal(collect(simulator, blocks(simulator, [10] * 6), 3, workers=2)[0], expected)


def test_a_dask_cluster_that_loses_a_worker_gives_the_same_numbers(tmp_path):
    distributed = pytest.importorskip("distributed")
    simulator = flaky()
    work = blocks(simulator, [50] * 8)
    marker = tmp_path / "died"

    class Deadly(type(simulator)):
        def _simulate(self, theta, stream):
            if float(theta[0, 0]) == float(work[3][1][0, 0]) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._simulate(theta, stream)

    deadly = Deadly(dim=2)
    deadly.block = 50
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        x, errors = collect(deadly, work, 3, executor=client)
    assert marker.exists()
    here, expected = collect(simulator, work, 3)
    assert torch.equal(x.nan_to_num(9), here.nan_to_num(9))
    assert errors == expected


def test_compiled_simulators_run_in_threads_of_this_process():
    class Compiled(GaussianLinear):
        releases_gil = True

        def __init__(self, dim):
            super().__init__(dim)
            self.processes = set()

        def __reduce__(self):
            raise AssertionError("it must not be sent anywhere")

        def _simulate(self, theta, stream):
            self.processes.add((os.getpid(), threading.current_thread().name))
            return super()._simulate(theta, stream)

    simulator = Compiled(dim=2)
    work = blocks(simulator, [50] * 6)
    assert torch.equal(collect(simulator, work, 3, workers=2)[0], collect(GaussianLinear(dim=2), work, 3)[0])
    assert {process for process, _ in simulator.processes} == {os.getpid()}
    assert all(name.startswith("simulate") for _, name in simulator.processes)


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    block=st.integers(1, 7),
    order=st.randoms(use_true_random=False),
)
def test_numbers_depend_on_seed_and_place_alone(sizes, block, order):
    """Whatever is simulated together, in whatever order and in however many runs."""
    simulator = flaky(block)
    n = sum(sizes)
    whole = simulate(simulator, n, seed=3, progress=False)
    work = blocks(simulator, [block] * (n // block) + ([n % block] if n % block else []))
    order.shuffle(work)
    cut = sizes[0] % (len(work) + 1)
    found = [*run_blocks(simulator, work[:cut], 3), *run_blocks(simulator, work[cut:], 3)]
    x = torch.cat([part.x for part in sorted(found, key=lambda part: part.index)])
    assert torch.equal(x.nan_to_num(9), whole.x.nan_to_num(9))
    if not whole.errors:  # rows that are tried again have streams of their own
        assert torch.equal(x, simulator.simulate(whole.theta, 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ValueError, "workers: expected a positive int; got 0"),
        ({"workers": "2"}, TypeError, "workers: expected an int; got str"),
        ({"executor": 3}, TypeError, "executor: expected a concurrent.futures executor"),
    ],
)
def test_bad_arguments(options, error, message):
    simulator = GaussianLinear(dim=2)
    with pytest.raises(error, match=message):
        collect(simulator, blocks(simulator, [5]), 0, **options)


def test_a_simulator_that_cannot_travel_is_refused():
    class Holding(Simulator):
        name = "holding"

        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match="holding cannot be sent to worker processes"):
        collect(Holding(), [], 0, workers=2)
