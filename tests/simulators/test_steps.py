"""Stepwise models, compiled, against the very function run row by row in Python: on the same noise, and on other."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from math import exp as imported_exp

import numpy as np
import pytest
import scipy.stats
import torch

from implicit_simulators.engines.step_kernel import is_vector_code
from implicit_simulators.engines.steps import StepProcess, step_process

TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""


def reversion(x, speed, level, z, dt=0.1):
    """An Ornstein-Uhlenbeck process by Euler-Maruyama."""
    return (x + dt * speed * (level - x) + math.sqrt(dt) * 0.5 * z,)


def walk(x, scale, z):
    """A random walk reflected at 0 and 3."""
    y = x + scale * z
    if y < 0.0:
        y = -y
    if y > 3.0:
        y = 6.0 - y
    return (y,)


def queue(between, arrived, left, low, width, rate, u, e):
    """Customers of an M/G/1 queue: time between departures, last arrival, last departure."""
    arrived = arrived + e / rate
    ended = max(left, arrived) + low + width * u
    return ended - left, arrived, ended


def ricker(n, log_r, sigma, phi, z):
    return (n * math.exp(log_r - n + sigma * z),)


def seen(n, log_r, sigma, phi):
    return (phi * n,)


def half(x):
    return 0.5 * math.tanh(x)


def rich(scale: float) -> Callable:
    """A step with what users write: a closure, a helper, functions of several modules, three kinds of noise."""

    def step(a, b, p, q, u, z, e, floor=-2.0):
        c = scale * half(a) + 0.1 * imported_exp(-abs(b)) * z
        d = 0.9 * b + np.exp(-p * e) * u - math.log1p(q * q)
        return max(c, floor), d if d > -5.0 else -5.0

    return step


def rich_emission(a, b, p, q, z, u):
    return a + 0.1 * z, b * u, math.sqrt(q * q) + math.pow(a, 2.0)


def scalar(x, a, z):
    for _ in range(3):
        x = 0.5 * x + 0.1 * z
    return (x + 0.01 * math.gamma(1.0 + a),)


@pytest.fixture(scope="module")
def process() -> StepProcess:
    return step_process(reversion, states=1)


@pytest.fixture(scope="module")
def rich_process() -> StepProcess:
    kinds = ("uniform", "normal", "exponential")
    return step_process(rich(0.8), states=2, noise=kinds, emit=rich_emission, emission_noise=("normal", "uniform"))


def some(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and initial states of ``reversion`` that differ from row to row."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 3, (n, 2)), rng.normal(size=(n, 1))


def replay(process: StepProcess, parameters, initial, steps: int, key: int, every=1, skip=0, first_row=0) -> np.ndarray:
    """The function itself, row by row, on the noise that the process says it uses."""
    n = len(parameters)
    noise = process.noise_of(n, steps, key, first_row)
    seen_noise = process.noise_of(n, (steps - skip) // every, key, first_row, emission=True)
    records = np.empty((n, (steps - skip) // every, process.outputs))
    for row in range(n):
        state, theta = list(map(float, initial[row])), list(map(float, parameters[row]))
        for t in range(steps):
            state = process.step(*state, *theta, *noise[row, t].tolist())
            place, rest = divmod(t + 1 - skip, every)
            if t + 1 > skip and not rest:
                values = process.emit(*state, *theta, *seen_noise[row, place - 1].tolist()) if process.emit else state
                records[row, place - 1] = [values[i] for i in process.recorded]
    return records


def elsewhere(process: StepProcess, theta, initial, steps: int, n: int) -> np.ndarray:
    """The textbook program: the function in a loop, with the random numbers of the standard library."""
    rng, counts = random.Random(0), np.random.default_rng(0)
    draw = {"normal": lambda: rng.gauss(0, 1), "uniform": rng.random, "exponential": lambda: rng.expovariate(1)}
    records = np.empty((n, steps, process.outputs))
    for row in range(n):
        state = list(initial)
        for t in range(steps):
            state = process.step(*state, *theta, *(draw[kind]() for kind in process.noise))
            values = process.emit(*state, *theta) if process.emit else state
            records[row, t] = [values[i] for i in process.recorded]
    return counts.poisson(records) if process.counts else records


def assert_same_law(process: StepProcess, theta, initial, steps: int, places: tuple[int, ...]) -> None:
    n, m = 20_000, 3000
    ours = process(np.tile(theta, (n, 1)), np.tile(initial, (n, 1)), steps, key=11)[..., 0]
    theirs = elsewhere(process, theta, initial, steps, m)[..., 0]
    for t in places:
        assert scipy.stats.ks_2samp(ours[:, t], theirs[:, t]).pvalue > TRIES
    # the law of a whole path: its mean, its spread and how far it jumps
    for of_path in (lambda x: x.mean(1), lambda x: x.std(1), lambda x: np.abs(np.diff(x, axis=1)).max(1)):
        assert scipy.stats.ks_2samp(of_path(ours), of_path(theirs)).pvalue > TRIES


def test_a_diffusion_has_the_law_of_the_textbook_loop(process: StepProcess) -> None:
    assert_same_law(process, (1.5, 0.7), (2.0,), 20, (0, 5, 19))


def test_a_reflected_walk_has_the_law_of_the_textbook_loop() -> None:
    process = step_process(walk, states=1)
    assert process.engine == "lanes"
    assert_same_law(process, (0.8,), (0.3,), 12, (0, 3, 11))


def test_a_queue_has_the_law_of_the_textbook_loop() -> None:
    process = step_process(queue, states=3, noise=("uniform", "exponential"), record=[0])
    assert_same_law(process, (1.0, 2.0, 0.4), (0.0, 0.0, 0.0), 15, (0, 1, 14))


def test_counts_of_a_population_have_the_law_of_the_textbook_loop() -> None:
    process = step_process(ricker, states=1, emit=seen, counts=True)
    theta = (3.8, 0.3, 10.0)
    assert_same_law(process, theta, (1.0,), 15, (0, 1, 14))
    counts = process([theta] * 100, [[1.0]] * 100, 30, key=0)
    np.testing.assert_array_equal(counts, np.rint(counts))
    means = replay(process, [theta] * 100, [[1.0]] * 100, 30, key=0)
    spread = np.sqrt(means.sum())  # counts differ from their very means by the Poisson law: 5 standard errors
    assert abs(counts.sum() - means.sum()) < 5 * spread
    assert abs(((counts - means) ** 2 - means).sum()) < 5 * math.sqrt((means + 2 * means**2).sum())


def test_a_diffusion_has_its_known_moments(process: StepProcess) -> None:
    """An autoregression: mean and variance of Euler-Maruyama follow exactly; 5 standard errors."""
    n, speed, level, x0, steps = 50_000, 1.5, 0.7, 2.0, 8
    x = process(np.tile((speed, level), (n, 1)), np.full((n, 1), x0), steps, key=3)[:, -1, 0].astype(float)
    factor = 1 - 0.1 * speed
    mean = level + (x0 - level) * factor**steps
    variance = 0.1 * 0.25 * (1 - factor ** (2 * steps)) / (1 - factor**2)
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
def test_a_path_is_that_of_the_function_on_the_same_noise(process: StepProcess, n: int) -> None:
    parameters, initial = some(n)
    ours = process(parameters, initial, 21, key=2**64 - 1, first_row=99, dtype=np.float64)
    np.testing.assert_allclose(ours, replay(process, parameters, initial, 21, 2**64 - 1, first_row=99), atol=1e-12)


@pytest.mark.parametrize(("steps", "every", "skip"), [(1, 1, 0), (53, 1, 0), (53, 3, 5), (40, 2, 7), (19, 7, 1)])
def test_closures_helpers_and_every_kind_of_noise_are_followed(
    rich_process: StepProcess, steps: int, every: int, skip: int
) -> None:
    """Emissions with noise of their own, records that fill their buffer, burn-in and gaps."""
    rng = np.random.default_rng(1)
    parameters, initial = rng.uniform(0, 2, (70, 2)), rng.normal(size=(70, 2))
    settings = {"steps": steps, "key": 5, "every": every, "skip": skip, "first_row": 1 << 31}
    ours = rich_process(parameters, initial, dtype=np.float64, **settings)
    assert ours.shape == (70, (steps - skip) // every, 3)
    np.testing.assert_allclose(ours, replay(rich_process, parameters, initial, **settings), rtol=1e-12, atol=1e-12)


def test_results_do_not_depend_on_how_rows_are_split_or_on_threads(process: StepProcess) -> None:
    parameters, initial = some(3000)
    whole = process(parameters, initial, 20, key=7, every=2)
    for threads in (2, 3):
        np.testing.assert_array_equal(process(parameters, initial, 20, key=7, every=2, threads=threads), whole)
    for a, b in ((0, 1), (1, 65), (65, 700), (700, 3000), (2999, 3000)):
        part = process(parameters[a:b], initial[a:b], 20, key=7, every=2, first_row=a, threads=2)
        np.testing.assert_array_equal(part, whole[a:b])


def test_what_other_rows_do_changes_nothing(process: StepProcess) -> None:
    parameters, initial = some(200)
    whole = process(parameters, initial, 10, key=1)
    parameters[::2], initial[1:100:4] = np.nan, np.inf
    broken = process(parameters, initial, 10, key=1)
    same = np.isfinite(parameters).all(1) & np.isfinite(initial).all(1)
    np.testing.assert_array_equal(broken[same], whole[same])
    assert np.isnan(broken[::2]).all()


def test_single_precision_is_double_precision_rounded(process: StepProcess) -> None:
    parameters, initial = some(500)
    single, double = (process(parameters, initial, 50, key=1, dtype=dtype) for dtype in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_records_in_between_are_left_out_and_change_nothing(process: StepProcess) -> None:
    parameters, initial = some(10)
    every_step = process(parameters, initial, 50, key=1)
    np.testing.assert_array_equal(process(parameters, initial, 50, key=1, every=7), every_step[:, 6::7])
    np.testing.assert_array_equal(process(parameters, initial, 50, key=1, every=7, skip=3), every_step[:, 9::7])
    np.testing.assert_array_equal(process(parameters, initial, 30, key=1), every_step[:, :30])


def test_rows_and_keys_have_their_own_noise(process: StepProcess) -> None:
    parameters, initial = np.ones((500, 2)), np.zeros((500, 1))
    x = process(parameters, initial, 4, key=1)[:, -1, 0]
    assert len(np.unique(x)) > 495
    for other in ({"key": 2}, {"key": 1 + (1 << 32)}, {"key": 1, "first_row": 500}):
        y = process(parameters, initial, 4, **other)[:, -1, 0]
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / math.sqrt(500)


def test_no_rows_no_steps_and_no_records_are_arrays_too(process: StepProcess) -> None:
    parameters, initial = some(3)
    assert process(parameters[:0], initial[:0], 5, key=0).shape == (0, 5, 1)
    assert process(parameters, initial, 0, key=0).shape == (3, 0, 1)
    assert process(parameters, initial, 5, key=0, every=6).shape == (3, 0, 1)
    assert process(parameters, initial, 5, key=0, skip=5).shape == (3, 0, 1)


def test_the_last_row_number_there_is_can_be_simulated(process: StepProcess) -> None:
    parameters, initial = some(65)
    x = process(parameters, initial, 3, key=0, first_row=2**32 - 65)
    np.testing.assert_array_equal(process(parameters[64:], initial[64:], 3, key=0, first_row=2**32 - 1), x[64:])


def test_read_only_arrays_lists_and_tensors_are_parameters(process: StepProcess) -> None:
    parameters, initial = some(5)
    x = process(parameters, initial, 3, key=0)
    parameters.flags.writeable = False
    before = process._kernel.seconds
    np.testing.assert_array_equal(process(parameters, initial, 3, key=0), x)
    assert process._kernel.seconds == before  # numba would compile anew for them
    for p, i in ((parameters.tolist(), initial.tolist()), (torch.tensor(parameters), torch.tensor(initial))):
        np.testing.assert_array_equal(process(p, i, 3, key=0), x)


@pytest.mark.parametrize(
    ("function", "inputs", "outputs", "vector"),
    [
        (reversion, 4, 1, True),
        (walk, 3, 1, True),
        (queue, 8, 3, True),
        (lambda x, z: (z,), 2, 1, True),  # nothing to compute
        (lambda x, z: (math.log(x) + np.exp(z) + math.pow(x, 1.5), math.tanh(z)), 2, 2, True),
        (lambda x, z: (abs(x) ** 1.5 + z,), 2, 1, False),
        (lambda x, z: (math.gamma(x) + z,), 2, 1, False),
        (lambda x, z: (math.sin(x) + z,), 2, 1, False),
        (scalar, 3, 1, False),
    ],
    ids=["arithmetic", "branches", "several", "copy", "ours", "power", "gamma", "sine", "loop"],
)
def test_whether_rows_run_side_by_side_is_seen_in_the_machine_code(
    function: Callable, inputs: int, outputs: int, vector: bool
) -> None:
    assert is_vector_code(function, inputs, outputs) is vector


def test_a_step_with_a_loop_is_compiled_a_row_at_a_time_and_says_so(process: StepProcess) -> None:
    slow = step_process(scalar, states=1)
    assert slow.engine == "scalar"
    assert slow.reason == "step has math.gamma and a loop that keeps rows from running side by side"
    parameters, initial = some(70)
    ours = slow(parameters[:, :1], initial, 10, key=4)
    np.testing.assert_allclose(ours, replay(slow, parameters[:, :1], initial, 10, key=4), rtol=1e-6, atol=1e-6)
    assert (process.engine, process.reason) == ("lanes", "")


def test_a_process_is_made_once(process: StepProcess) -> None:
    assert step_process(reversion, states=1) is process
    assert step_process(reversion, states=1, record=[0]) is not process
    assert copy.copy(process) is process


def test_a_process_is_made_anew_when_what_its_function_reads_has_changed() -> None:
    offset = 2.0

    def shifted(x, z):
        return (x + offset + z,)

    first = step_process(shifted, states=1)
    assert step_process(shifted, states=1) is first
    offset = 3.0
    assert step_process(shifted, states=1) is not first


def test_seconds_are_told_by_prepare_and_spent_once(process: StepProcess) -> None:
    assert process.prepare() >= 0
    assert process.prepare() == 0


def test_a_step_that_is_undefined_for_ones_is_taken() -> None:
    """Compiled, the logarithm of zero is minus infinity."""
    assert step_process(lambda x, z: (math.log(1.0 - x) / (x - 1.0) + z,), states=1).outputs == 1


def test_arguments_with_defaults_are_no_parameters(process: StepProcess) -> None:
    assert process.parameters == 2
    slower = step_process(lambda x, speed, level, z, dt=0.05: reversion(x, speed, level, z, dt), states=1)
    assert slower.parameters == 2


def fine(x, a, z):
    return (x + a * z,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise": "gaussian"}, ValueError, "noise: expected kinds among normal, uniform, exponential; got 'gaussian'"),
        (
            {"emit": lambda x, a, u: (x,), "emission_noise": ("poisson",)},
            ValueError,
            "emission_noise: expected kinds among normal, uniform, exponential; got 'poisson'",
        ),
        ({"states": 0}, ValueError, "states: expected an int in .1, "),
        ({"states": -1}, ValueError, "states: expected an int in .1, "),
        ({"states": 4}, ValueError, "step: expected arguments for 4 states, the parameters and 1 of noise; got 3"),
        ({"noise": ("normal",) * 3}, ValueError, "step: expected arguments for 1 states, .* 3 of noise; got 3"),
        ({"step": lambda x, a, z: (x, a)}, ValueError, "step: expected a tuple of 1 states; got 2"),
        ({"step": lambda x, a, z: x}, ValueError, "step: expected a tuple of numbers; got float"),
        ({"step": lambda x, a, z: [x]}, ValueError, "step: expected a tuple of numbers; got list"),
        ({"step": lambda *x: (x[0],)}, TypeError, "step: expected positional arguments only"),
        ({"step": lambda x, *, z: (x,)}, TypeError, "step: expected positional arguments only"),
        ({"step": 3}, TypeError, "step: expected a Python function; got int"),
        ({"step": lambda x, z: (math.sqrt(-1.0 - x * x),)}, ValueError, "step: .* it fails on each that was tried: "),
        ({"emit": lambda x: (x,)}, ValueError, "emit: expected arguments for 1 states, 1 parameters and 0 of noise; "),
        ({"emit": lambda x, a: x}, ValueError, "emit: expected a tuple of numbers; got float"),
        ({"emit": "x"}, TypeError, "emit: expected a Python function; got str"),
        ({"emission_noise": "normal"}, ValueError, "emission_noise: needs emit"),
        ({"record": [1]}, ValueError, r"record: expected states from 0 to 0; got \[1\]"),
        ({"record": []}, ValueError, r"record: expected states from 0 to 0; got \[\]"),
        ({"emit": lambda x, a: (x,), "record": [0]}, ValueError, "record: chooses states where there is no emit"),
    ],
)
def test_bad_models_are_refused(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        step_process(**{"step": fine, "states": 1, **arguments})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": np.ones((2, 3))}, r"parameters: expected shape \(n, 2\); got \(2, 3\)"),
        ({"initial": np.ones(2)}, r"initial: expected shape \(n, 1\); got \(2,\)"),
        ({"initial": np.ones((3, 1))}, "initial: expected 2 rows, as parameters has; got 3"),
        ({"steps": -1}, r"steps: expected an int in \[0, "),
        ({"every": 0}, r"every: expected an int in \[1, "),
        ({"skip": 6}, r"skip: expected an int in \[0, 5\]; got 6"),
        ({"key": -1}, r"key: expected an int in \[0, "),
        ({"key": 2**64}, r"key: expected an int in \[0, "),
        ({"first_row": 2**32 - 1}, r"first_row: expected an int in \[0, "),
        ({"threads": 0}, "threads: expected a positive int; got 0"),
        ({"dtype": np.float16}, "dtype: expected float32 or float64; got float16"),
        ({"dtype": int}, "dtype: expected float32 or float64; got int64"),
    ],
)
def test_bad_arguments_are_refused(process: StepProcess, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        process(**{"parameters": np.ones((2, 2)), "initial": np.ones((2, 1)), "steps": 5, "key": 0, **change})
