"""Stepwise models that numba refuses: NumPy gives the same paths, says why it had to, and fails rows as code does."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import pytest

from implicit_simulators.engines.steps import StepProcess, step_process


class Settings:
    """An object of the user's own, which numba cannot see into."""

    dt = 0.1
    floor = 0.0


SETTINGS = Settings()


def plain(x, speed, level, z):
    return (x + 0.1 * speed * (level - x) + 0.3 * z,)


def opaque(x, speed, level, z):
    return (x + SETTINGS.dt * speed * (level - x) + 0.3 * z,)


def conditional(x, speed, level, z):
    y = x + SETTINGS.dt * speed * (level - math.exp(x)) + 0.3 * z
    return (y if y > SETTINGS.floor else -y,)


def conditional_columns(x, speed, level, z):
    return (np.abs(x + SETTINGS.dt * speed * (level - np.exp(x)) + 0.3 * z),)


def observed(x, speed, level, u):
    return (level * x * x if u < SETTINGS.dt else x, u)


def uncompiled(step: Callable, **settings) -> StepProcess:
    """A process that need not try numba first, which takes a second."""
    process = step_process(step, states=1, **settings)
    process._refusal = "told so"
    return process


def some(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 2, (n, 2)), rng.normal(size=(n, 1))


@pytest.fixture
def process() -> StepProcess:
    return uncompiled(opaque)


def test_what_cannot_be_compiled_says_so_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def refused(x, speed, level, z):
        return opaque(x, speed, level, z)

    process = step_process(refused, states=1)
    with caplog.at_level(logging.WARNING):
        assert process.engine == "vectorised"
        process(*some(3), 2, key=0)
        process(*some(3), 2, key=0, dtype=np.float64)
    assert process.reason.startswith("step cannot be compiled: ")
    assert "\n" not in process.reason
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("NumPy runs ")
    assert message.endswith(process.reason)
    assert "refused instead of compiled code" in message


@pytest.mark.parametrize(("steps", "every", "skip"), [(1, 1, 0), (20, 1, 0), (20, 3, 4)])
def test_paths_are_those_of_compiled_code(process: StepProcess, steps: int, every: int, skip: int) -> None:
    settings = {"steps": steps, "key": 3, "every": every, "skip": skip, "first_row": 9, "dtype": np.float64}
    ours = process(*some(70), **settings)
    np.testing.assert_allclose(ours, step_process(plain, states=1)(*some(70), **settings), rtol=1e-12, atol=1e-12)


def test_conditions_and_math_are_run_row_by_row_or_by_what_is_given_for_columns() -> None:
    """Rows by themselves, the library's noise, and the user's other function: three ways to the same path."""
    n, steps, key = 40, 12, 5
    parameters, initial = some(n)
    by_rows = uncompiled(conditional)(parameters, initial, steps, key, dtype=np.float64)
    given = uncompiled(conditional, vectorised=conditional_columns)
    by_columns = given(parameters, initial, steps, key, dtype=np.float64)
    np.testing.assert_allclose(by_rows, by_columns, rtol=1e-12)
    noise = given.noise_of(n, steps, key)
    for row in (0, 17):
        x = float(initial[row, 0])
        for t in range(steps):
            (x,) = conditional(x, parameters[row, 0], parameters[row, 1], noise[row, t, 0])
            assert by_rows[row, t, 0] == pytest.approx(x, rel=1e-12)


def test_emissions_have_their_own_noise_row_by_row() -> None:
    process = step_process(plain, states=1, emit=observed, emission_noise="uniform")
    assert process.engine == "vectorised"
    assert process.reason.startswith("emit cannot be compiled: ")
    parameters, initial = some(50)
    records = process(parameters, initial, 6, key=1, every=2, dtype=np.float64)
    noise = process.noise_of(50, 3, key=1, emission=True)
    np.testing.assert_array_equal(records[:, :, 1], noise[:, :, 0])
    states = step_process(plain, states=1)(parameters, initial, 6, key=1, every=2, dtype=np.float64)[:, :, 0]
    seen = np.where(noise[:, :, 0] < 0.1, parameters[:, 1:] * states**2, states)
    np.testing.assert_allclose(records[:, :, 0], seen, rtol=1e-9, atol=1e-12)


def test_a_row_depends_on_no_other_and_on_no_split(process: StepProcess) -> None:
    parameters, initial = some(50)
    counted = uncompiled(opaque, emit=lambda x, speed, level: (SETTINGS.dt * x * x,), counts=True)
    for model in (process, counted):
        whole = model(parameters, initial, 5, key=2, first_row=10)
        np.testing.assert_array_equal(model(parameters[7:20], initial[7:20], 5, key=2, first_row=17), whole[7:20])
        np.testing.assert_array_equal(model(parameters, initial, 5, key=2, first_row=10, threads=3), whole)


def test_counts_have_the_mean_and_spread_of_their_law() -> None:
    process = step_process(
        opaque, states=1, emit=lambda x, speed, level: (level + 0.0 * SETTINGS.dt, 50.0), counts=True
    )
    n = 2000
    counts = process(np.full((n, 2), 3.0), np.zeros((n, 1)), 2, key=0)
    for i, mean in ((0, 3.0), (1, 50.0)):
        drawn = counts[:, :, i].ravel()
        assert (drawn == np.rint(drawn)).all()
        assert abs(drawn.mean() - mean) < 5 * math.sqrt(mean / drawn.size)
        assert abs(drawn.var() / mean - 1) < 5 * math.sqrt((2 + 1 / mean) / drawn.size)
    assert abs(np.corrcoef(counts[:, 0, 0], counts[:, 1, 0])[0, 1]) < 5 / math.sqrt(n)


def test_failures_stay_in_their_row_without_a_warning() -> None:
    """A logarithm of zero or less, an overflow, a count with a negative mean: NaN, as compiled code gives."""

    def fails(x, a, z):
        return (math.log(a) + 0.0 * SETTINGS.dt * math.exp(z),)

    def overflows(x, a, z):
        return (np.exp(1000.0 * a) * SETTINGS.dt - np.exp(1000.0 * a),)

    parameters = np.array([[1.0], [-1.0], [2.0], [0.0]])
    records = uncompiled(fails)(parameters, np.ones((4, 1)), 1, key=0)[:, 0, 0]
    assert np.isnan(records[[1, 3]]).all()
    np.testing.assert_allclose(records[[0, 2]], np.log([1, 2]), atol=1e-7)
    assert np.isnan(uncompiled(overflows)(parameters, np.ones((4, 1)), 1, key=0)[0, 0, 0])
    too_large = uncompiled(lambda x, a, z: (SETTINGS.dt * a * 1e300,))
    np.testing.assert_array_equal(too_large([[1.0]], [[0.0]], 1, key=0), np.inf)  # in single precision
    counted = uncompiled(lambda x, a, z: (a + 0.0 * SETTINGS.dt,), counts=True)
    counts = counted(np.array([[3.0], [-1.0], [np.nan], [1e30]]), np.ones((4, 1)), 1, key=0)[:, 0, 0]
    assert np.isnan(counts).tolist() == [False, True, True, True]
