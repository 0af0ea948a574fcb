"""Simulations by the block: reproducible, counted when they fail, and stopped cleanly."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from implicit_infer.progress import listening
from implicit_infer.runs import Runs
from implicit_infer.simulate import simulate
from implicit_infer.stored import open_runs
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def small(block=100, cls=GaussianLinear):
    simulator = cls(dim=2)
    simulator.block = block
    return simulator


def test_equals_the_simulator_itself_and_starts_with_the_prior():
    simulator = small()
    runs = simulate(simulator, 250, seed=5, progress=False)
    assert torch.equal(runs.x, simulator.simulate(runs.theta, 5))
    assert torch.equal(runs.theta[100:200], simulator.sample_prior(100, 5, 1))
    assert (len(runs), runs.seed, runs.failures) == (250, 5, {})


def test_does_not_depend_on_workers():
    one = simulate(small(), 350, seed=5, progress=False)
    two = simulate(small(), 350, seed=5, workers=2, progress=False)
    assert torch.equal(one.theta, two.theta)
    assert torch.equal(one.x, two.x)


def test_seed_none_is_fresh_and_a_generator_is_drawn_from():
    a, b = (simulate(small(), 10, progress=False) for _ in range(2))
    assert not torch.equal(a.theta, b.theta)
    a, b = (simulate(small(), 10, seed=torch.Generator().manual_seed(1), progress=False) for _ in range(2))
    assert torch.equal(a.x, b.x)


def test_global_random_state_and_threads_are_left_alone():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    simulate(small(), 200, seed=5, workers=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


class SometimesNaN(GaussianLinear):
    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        x[theta[:, 0] > 0.5] = torch.inf
        return x


class SometimesRaises(GaussianLinear):
    def _simulate(self, theta, stream):
        if (theta[:, 0] > 0.5).any():
            raise ArithmeticError("diverged")
        return super()._simulate(theta, stream)


class AlwaysRaises(GaussianLinear):
    def _simulate(self, theta, stream):
        raise KeyError("rate")


@pytest.mark.parametrize(
    ("cls", "reason"), [(SometimesNaN, "returned NaN or infinity"), (SometimesRaises, "ArithmeticError: diverged")]
)
def test_failures_are_kept_counted_and_logged_in_one_sentence(cls, reason, caplog):
    with caplog.at_level(logging.WARNING):
        runs = simulate(small(cls=cls), 250, seed=5, progress=False)
    bad = (runs.theta[:, 0] > 0.5).nonzero()[:, 0].tolist()
    assert 0 < len(bad) < 250
    assert runs.failures == dict.fromkeys(bad, reason)
    assert runs.failed.sum() == len(bad)
    assert len(runs.valid()[0]) == len(runs.valid()[1]) == 250 - len(bad)
    assert [record.getMessage() for record in caplog.records] == [
        f"gaussian-linear: {len(bad)} of 250 simulations failed ({100 * len(bad) / 250:.3g} %) and are NaN or "
        f"infinite, as runs.failures tells; row {bad[0]}: {reason}"
    ]


def test_failures_follow_the_first_rows():
    runs = simulate(small(cls=SometimesRaises), 250, seed=5, progress=False)
    first = runs.first(120)
    assert first.failures == {row: reason for row, reason in runs.failures.items() if row < 120}
    with pytest.raises(ValueError, match="the bank holds 250 simulations; 251 were asked for"):
        runs.first(251)


def test_a_simulator_that_only_raises_is_an_error_at_once():
    with pytest.raises(RuntimeError, match="all of the first 100 simulations raised: KeyError: 'rate'"):
        simulate(small(cls=AlwaysRaises), 10**6, seed=5, progress=False)


def test_scalar_and_many_dimensional_events():
    class Scalar(GaussianLinear):
        def _simulate(self, theta, stream):
            return super()._simulate(theta, stream).sum(1)

    class Image(GaussianLinear):
        def _simulate(self, theta, stream):
            return super()._simulate(theta, stream)[:, :, None].expand(-1, -1, 3)

    for cls, shape in ((Scalar, ()), (Image, (2, 3))):
        simulator = small(cls=cls)
        simulator.event_shape = torch.Size(shape)
        runs = simulate(simulator, 150, seed=5, progress=False)
        assert runs.x.shape == (150, *shape)
        assert not runs.failed.any()
    assert Runs(torch.zeros(0, 2), torch.zeros(0, 3), 0).failed.shape == (0,)


def test_progress_tells_the_rate_and_reaches_the_total():
    heard = []
    with listening(lambda bar: heard.append((bar.done, bar.total, dict(bar.figures)))):
        simulate(small(), 250, seed=5)
    done, total, figures = heard[-1]
    assert (done, total) == (250, 250)
    assert figures["per second"] > 0


class Interrupts(GaussianLinear):
    """Presses Ctrl-C during its third block, ``presses`` times."""

    presses = 1
    blocks = 0

    def _simulate(self, theta, stream):
        self.blocks += 1
        if self.blocks == 3:
            for _ in range(self.presses):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
        return super()._simulate(theta, stream)


def test_ctrl_c_finishes_the_block_in_hand_and_keeps_all(caplog):
    with caplog.at_level(logging.WARNING):
        runs = simulate(small(cls=Interrupts), 1000, seed=5, progress=False)
    assert torch.equal(runs.x, simulate(small(), 300, seed=5, progress=False).x)
    assert "stopped after 300 of 1000 simulations" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_at_once():
    simulator = small(cls=Interrupts)
    simulator.presses = 2
    with pytest.raises(KeyboardInterrupt):
        simulate(simulator, 1000, seed=5, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_with_workers_keeps_a_prefix():
    class Slow(GaussianLinear):
        def _simulate(self, theta, stream):
            time.sleep(0.05)
            return super()._simulate(theta, stream)

    simulate(small(), 200, seed=5, workers=2, progress=False)  # so that the workers are up
    pressed = []

    def press(bar):
        if bar.done >= 50 and not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))

    with listening(press):
        runs = simulate(small(block=10, cls=Slow), 2000, seed=5, workers=2)
    assert 0 < len(runs) < 2000
    assert torch.equal(runs.x, simulate(small(block=10), len(runs), seed=5, progress=False).x)


INTERRUPTED = """
import sys, time
import implicit_infer as ii
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

class Slow(GaussianLinear):
    block = 10
    def _simulate(self, theta, stream):
        time.sleep(0.01)
        return super()._simulate(theta, stream)

for workers in (1, 2):
    ii.simulate(Slow(2), 40, seed=5, workers=workers, progress=False)  # so that the workers are up
    print("go", flush=True)
    store = f"{sys.argv[1]}/{workers}.zarr"
    print(len(ii.simulate(Slow(2), 100_000, seed=5, workers=workers, store=store, progress=False)), flush=True)

from implicit_infer import processes
print(*[worker.process.pid for worker in processes._idle], flush=True)
time.sleep(600)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to interrupt")
def test_ctrl_c_on_a_terminal_keeps_everything_with_and_without_workers(tmp_path):
    """A terminal interrupts all processes of a group; the parent alone decides, and says nothing but how far it is."""
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for workers in (1, 2):
            assert process.stdout.readline() == "go\n"
            while not list((tmp_path / f"{workers}.zarr" / "rows" / "c").glob("5*")):
                time.sleep(0.02)
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            kept = int(process.stdout.readline())
            runs = open_runs(tmp_path / f"{workers}.zarr").in_memory()
            assert 50 <= kept <= len(runs) < 100_000
            assert torch.equal(runs.x, simulate(small(block=10), len(runs), seed=5, progress=False).x)
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()  # as a full memory would
        said = process.stderr.read().splitlines()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers have outlived their parent"
        time.sleep(0.05)
    assert len(said) == 4, said
    for asked, stopped in (said[:2], said[2:]):
        assert "press Ctrl-C again" in asked
        assert re.fullmatch(r"gaussian-linear: stopped after \d+ of 100000 simulations", stopped)


def test_the_bar_shows_the_rate_and_the_time_left(monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what is no terminal is shown the end only
    monkeypatch.setenv("COLUMNS", "80")

    class Slow(GaussianLinear):
        def _simulate(self, theta, stream):
            time.sleep(0.15)
            return super()._simulate(theta, stream)

    simulate(small(cls=Slow), 800, seed=5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capfd.readouterr().err)
    assert re.search(r"simulating gaussian-linear \S+ [1-7]00/800 \d\d:\d\d left  \d+(\.\d+)?/s  failed 0", shown), (
        shown
    )
    assert re.search(r"simulating gaussian-linear \S+ 800/800 \d\d:\d\d \d+(\.\d+)?/s  failed 0", shown)


def test_runs_in_another_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(simulate(small(), 10, seed=5, progress=False)))
    thread.start()
    thread.join()
    assert len(found[0]) == 10


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n: expected a positive int; got 0"),
        (-3, ValueError, "n: expected a positive int; got -3"),
        (1.5, TypeError, "n: expected a positive int; got float"),
        (True, TypeError, "n: expected a positive int; got bool"),
    ],
)
def test_bad_n(n, error, message):
    with pytest.raises(error, match=message):
        simulate(small(), n)


def test_not_a_simulator_and_a_prior_without_sample():
    with pytest.raises(TypeError, match=r"simulator: expected a Simulator .* got function"):
        simulate(lambda theta: theta, 10)
    simulator = small()
    simulator.prior = object()
    with pytest.raises(TypeError, match=r"prior: expected a distribution with sample\(shape\); gaussian-linear has"):
        simulate(simulator, 10)


def test_seconds_of_compiling_are_shown_and_spent_first():
    """What is compiled, or loaded from disk, is ready before the first block is simulated."""
    order = []

    class Compiled(GaussianLinear):
        def prepare(self):
            order.append("prepare")
            return 2.5

        def _simulate(self, theta, stream):
            order.append("simulate")
            return super()._simulate(theta, stream)

    seen = []
    with listening(lambda bar: seen.append(dict(bar.figures))):
        simulate(Compiled(), 1500, seed=0)
    assert order == ["prepare", "simulate", "simulate"]
    assert seen[-1]["compiled, s"] == 2.5
