"""A stepwise model in torch against the compiled one, and its gradients against finite differences."""

from __future__ import annotations

import math
from math import sqrt

import numpy as np
import pytest
import torch
from numba import njit

from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.engines.torch_steps import in_torch, run_in_torch, step_noise


def softened(x):
    return max(x, 0.1 * x)


def step(x, v, speed, level, z, u, dt=0.1):
    w = v * math.exp(-dt) + sqrt(dt) * 0.3 * z
    return x + dt * speed * (level - softened(x)) + w * math.tanh(x), min(w + 0.1 * np.log(u), 2.0)


def emit(x, v, speed, level, e):
    return x + 0.1 * e, math.log1p(math.exp(v))


def states_only(x, level, z):
    return (0.9 * x + level * z,)


@pytest.fixture(scope="module")
def process() -> StepProcess:
    return step_process(step, states=2, noise=("normal", "uniform"), emit=emit, emission_noise=("exponential",))


def some(n: int, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.tensor(rng.uniform(0.2, 2, (n, 2)), dtype=dtype), torch.tensor(rng.normal(size=(n, 2)), dtype=dtype)


@pytest.mark.parametrize(("steps", "every", "skip"), [(1, 1, 0), (30, 1, 0), (30, 4, 5)])
def test_paths_are_those_of_compiled_code(process: StepProcess, steps: int, every: int, skip: int) -> None:
    parameters, initial = some(70)
    ours = run_in_torch(process, parameters, initial, steps, 9, every, skip)
    compiled = process(parameters, initial, steps, 9, every, skip, dtype=np.float64)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), compiled, rtol=1e-12, atol=1e-12)


def test_single_precision_stays_single(process: StepProcess) -> None:
    parameters, initial = some(10, torch.float32)
    ours = run_in_torch(process, parameters, initial, 10, 9)
    assert ours.dtype == torch.float32
    compiled = process(parameters, initial, 10, 9, dtype=np.float64)
    np.testing.assert_allclose(ours.numpy(), compiled, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_finite_differences(process: StepProcess) -> None:
    """Of what the compiled code gives; and by torch's own check, in parameters and initial states."""
    parameters, initial = some(3)
    inputs = parameters.clone().requires_grad_(), initial.clone().requires_grad_()
    weights = torch.randn(3, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (run_in_torch(process, *inputs, 6, 4) * weights).sum().backward()
    h = 1e-6

    def total(parameters: torch.Tensor, initial: torch.Tensor) -> float:
        return float((process(parameters, initial, 6, 4, dtype=np.float64) * weights.numpy()).sum())

    for place, value in enumerate(inputs):
        for i, j in np.ndindex(*value.shape):
            moved = []
            for sign in (1, -1):
                arguments = [parameters.clone(), initial.clone()]
                arguments[place][i, j] += sign * h
                moved.append(total(arguments[0], arguments[1]))
            difference = (moved[0] - moved[1]) / (2 * h)
            assert value.grad is not None
            assert float(value.grad[i, j]) == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_gradients_pass_torchs_own_check(process: StepProcess) -> None:
    parameters, initial = (value.requires_grad_() for value in some(2))
    assert torch.autograd.gradcheck(lambda p, i: run_in_torch(process, p, i, 4, 1), (parameters, initial))


def test_states_are_recorded_without_an_emission() -> None:
    process = step_process(states_only, states=1)
    parameters, initial = torch.ones(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    ours = run_in_torch(process, parameters, initial, 5, 2)
    noise = step_noise(("normal",), 4, 5, 2, parameters)[..., 0]
    x = torch.zeros(4, dtype=torch.float64)
    for t in range(5):
        x = 0.9 * x + noise[:, t]
        torch.testing.assert_close(ours[:, t, 0], x)
    assert run_in_torch(process, parameters, initial, 0, 2).shape == (4, 0, 1)


def test_constant_states_are_columns() -> None:
    """A step may give a number where a column is expected."""
    process = step_process(lambda x, y, a, z: (1.0, y + a), states=2)
    ours = run_in_torch(process, torch.ones(3, 1), torch.zeros(3, 2), 2, 0)
    torch.testing.assert_close(ours, torch.tensor([[1.0, 1.0], [1.0, 2.0]]).expand(3, 2, 2))


def test_conditions_on_states_are_refused() -> None:
    process = step_process(lambda x, a, z: (x if x > a else z,), states=1)
    with pytest.raises(TypeError, match="step: a condition on a state cannot be differentiated; use max, min or abs"):
        run_in_torch(process, torch.ones(3, 1), torch.ones(3, 1), 2, 0)


def test_counts_are_refused() -> None:
    process = step_process(lambda x, a, z: (x * a,), states=1, counts=True)
    with pytest.raises(ValueError, match="counts: a Poisson count has no gradient"):
        run_in_torch(process, torch.ones(3, 1), torch.ones(3, 1), 2, 0)


NAMES = ["exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tan", "tanh", "log2", "log10", "floor", "ceil", "sinh"]
NAMES += ["cosh", "atan", "asin", "acos", "asinh", "atanh", "lgamma", "erf", "fabs"]


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_math_are_those_of_torch_on_tensors_and_of_math_on_numbers(name: str) -> None:
    called = in_torch(lambda x: getattr(math, name)(x))
    x = torch.tensor([0.3, 0.7], dtype=torch.float64)
    expected = [getattr(math, name)(v) for v in x.tolist()]
    np.testing.assert_allclose(called(x).numpy(), expected, rtol=1e-12)
    assert called(0.3) == expected[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.exp(x) + np.sqrt(x) + np.sign(x) + np.square(x) + np.arctan(x),
        lambda x: np.maximum(x, 0.5) - np.minimum(x, 0.4) + np.abs(x) + np.power(x, 1.5),
        lambda x: np.where(x > 0.5, x, 0.0) + math.pow(x, 2.0) + math.atan2(x, 0.3) + math.hypot(0.4, x),
        lambda x: max(x, 0.5, 0.6) - min(0.4, x) + abs(x) + math.copysign(2.0, x) + max(1, 2) + math.pi,
        lambda x: sum(math.exp(y) for y in (x, 2.0)) + (lambda y: math.log(y))(x),
    ],
    ids=["numpy", "pairs", "mixed", "builtin", "nested"],
)
def test_what_users_write_for_numbers_works_on_columns(function) -> None:
    x = torch.tensor([0.3, 0.7], dtype=torch.float64)
    np.testing.assert_allclose(in_torch(function)(x).numpy(), [float(function(v)) for v in x.tolist()], rtol=1e-12)


def minimum(x):
    return min(x, 0.5)


def powers(n, x):
    return x * powers(n - 1, x) if n else 1.0


def test_helpers_closures_recursion_and_compiled_helpers_are_followed() -> None:
    scale, compiled = 3.0, njit(minimum)

    def function(x):
        return scale * compiled(x) + powers(3, x)

    x = torch.tensor([0.3, 0.7], dtype=torch.float64)
    expected = [3 * min(v, 0.5) + v**3 for v in x.tolist()]
    np.testing.assert_allclose(in_torch(function)(x).numpy(), expected, rtol=1e-12)


def test_a_users_own_maximum_is_left_to_them() -> None:
    namespace: dict = {"max": lambda x, y: x + y}
    exec("def function(x):\n    return max(x, 1.0)", namespace)
    assert in_torch(namespace["function"])(torch.ones(1)).item() == 2
