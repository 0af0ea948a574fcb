"""A user's function as a simulator: randomness of any kind repeats, failures cost their own rows only."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import logging
import pickle
import random
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    Uniform,
)

from implicit_simulators import FunctionSimulator, Product
from implicit_simulators.adapters import as_prior
from implicit_simulators.code import fingerprint
from implicit_simulators.failures import watching

PRIOR = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


def of_torch(theta):
    return theta[:, :1] + torch.randn(len(theta), 3)


def of_numpy(theta):
    return np.random.normal(theta.mean(axis=1, keepdims=True), size=(len(theta), 3))  # noqa: NPY002 - as users write it


def of_python(theta):
    return [float(theta[0]) + random.gauss(0, 1), random.random(), 0.0]


def of_seed(theta, seed):
    return np.asarray(theta)[:, :1] + np.random.default_rng(seed).normal(size=(len(theta), 3))


def of_generator(theta, *, generator):
    return theta[:, :1] + torch.randn(len(theta), 3, generator=generator)


def of_rng(theta, rng=None):
    return np.asarray(theta)[:, :1] + rng.normal(size=(len(theta), 3))


KINDS: dict[str, dict[str, Any]] = {
    "global torch": {"function": of_torch},
    "global NumPy": {"function": of_numpy, "array": "numpy"},
    "global random, row by row": {"function": of_python, "batched": False},
    "seed": {"function": of_seed},
    "generator": {"function": of_generator},
    "rng": {"function": of_rng},
}


@pytest.mark.parametrize("kind", KINDS)
def test_randomness_of_every_kind_repeats(kind: str) -> None:
    simulator = FunctionSimulator(prior=PRIOR, **KINDS[kind])
    theta = simulator.sample_prior(30, seed=0)
    x = simulator.simulate(theta, seed=1)
    assert x.shape == (30, 3)
    assert x.dtype == torch.float32
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - what a user's program might do in between
    random.seed(99)
    assert torch.equal(simulator.simulate(theta, seed=1), x)
    assert not torch.equal(simulator.simulate(theta, seed=2), x)
    noise = x[:, 1] if kind == "global random, row by row" else x[:, 0] - x[:, 1]
    assert noise.unique().numel() == 30


@pytest.mark.parametrize("kind", KINDS)
def test_global_generators_are_left_alone(kind: str) -> None:
    def state() -> list[Any]:
        return [torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index]  # noqa: NPY002 - what must not change

    before = state()
    FunctionSimulator(prior=PRIOR, **KINDS[kind]).simulate(torch.ones(5, 2), seed=1)
    assert state() == before


def picky(theta):
    """Raises for any row whose first parameter is negative, and gives NaN where it is above two."""
    if (theta[:, 0] < 0).any():
        raise ArithmeticError(f"negative rate {theta[:, 0].min():.1f}")
    x = torch.stack((theta.sum(1), torch.rand(len(theta))), 1)
    x[theta[:, 0] > 2] = torch.nan
    return x


THETA = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [-3.0, 1.0], [2.5, 0.0]])


@pytest.mark.parametrize("batched", [True, False])
def test_rows_that_raise_are_lost_alone(batched: bool, caplog: pytest.LogCaptureFixture) -> None:
    function = picky if batched else (lambda row: picky(row[None])[0])
    simulator = FunctionSimulator(function, PRIOR, batched=batched, name="picky")
    with caplog.at_level(logging.WARNING):
        x = simulator.simulate(THETA, seed=0)
    assert torch.isnan(x).all(1).tolist() == [False, True, False, True, True]
    assert x[[0, 2], 0].tolist() == [1, 3]
    assert x[0, 1] != x[2, 1]
    assert simulator.failed == 2
    assert [failure.theta.tolist() for failure in simulator.failures] == [[-1, 0], [-3, 1]]
    assert [failure.message for failure in simulator.failures] == [
        "ArithmeticError: negative rate -1.0",
        "ArithmeticError: negative rate -3.0",
    ]
    assert "picky: 2 of 5 rows failed; first: ArithmeticError: negative rate -1.0" in caplog.text
    assert torch.equal(simulator.simulate(THETA, seed=0)[[0, 2]], x[[0, 2]])


def test_failures_kept_are_bounded_and_all_are_counted() -> None:
    simulator = FunctionSimulator(picky, PRIOR)
    simulator.simulate(-torch.ones(1500, 2), seed=0)
    assert len(simulator.failures) == 1000
    assert simulator.failed == 1500


def test_the_reasons_of_the_last_block_can_be_taken_once() -> None:
    simulator = FunctionSimulator(picky, PRIOR)
    assert simulator.take_failures() == {}
    simulator.simulate_block(THETA, 0, 0)
    reasons = {1: "ArithmeticError: negative rate -1.0", 3: "ArithmeticError: negative rate -3.0"}
    assert simulator.take_failures() == reasons
    assert simulator.take_failures() == {}
    simulator.simulate_block(THETA, 0, 0)
    simulator.simulate_block(THETA[:1], 0, 1)
    assert simulator.take_failures() == {}


def test_each_thread_takes_the_reasons_of_its_own_blocks() -> None:
    simulator = FunctionSimulator(picky, PRIOR)
    simulator.simulate_block(THETA, 0, 0)
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        assert other.submit(simulator.take_failures).result() == {}
    assert simulator.take_failures().keys() == {1, 3}


def test_a_copy_in_another_process_starts_without_failures() -> None:
    simulator = FunctionSimulator(picky, PRIOR)
    before = cloudpickle.dumps(simulator)
    simulator.simulate(THETA, seed=0)
    assert simulator.failed == 2
    assert cloudpickle.dumps(simulator) == before
    assert pickle.load(io.BytesIO(before)).failed == 0


def test_whoever_watches_learns_of_each_row_that_is_simulated_alone() -> None:
    class Rows:
        raised: dict[int, str] = {}  # noqa: RUF012 - one instance

        @contextlib.contextmanager
        def row(self, row):
            try:
                yield
            except Exception as error:
                self.raised[row] = str(error)
                raise

    rows = Rows()
    with watching(rows):
        FunctionSimulator(picky, PRIOR).simulate_block(THETA, 0, 0)
    assert rows.raised == {1: "negative rate -1.0", 3: "negative rate -3.0"}


def test_double_precision_is_kept() -> None:
    theta = torch.ones(3, 2, dtype=torch.float64) / 3
    x = FunctionSimulator(lambda theta: theta * np.pi, PRIOR, array="numpy").simulate(theta, seed=0)
    assert (x == np.pi * theta).all()


def test_an_interruption_is_no_failure() -> None:
    def stopped(theta):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FunctionSimulator(stopped, PRIOR, event_shape=2, array="torch").simulate(THETA, seed=0)


def test_a_wrong_shape_is_a_mistake_and_no_failure() -> None:
    simulator = FunctionSimulator(lambda theta: torch.ones(len(theta), 2), PRIOR, event_shape=3, array="torch")
    with pytest.raises(ValueError, match=r"function: <lambda> should give shape \(5, 3\); it gave \(5, 2\)"):
        simulator.simulate(THETA, seed=0)


def test_a_function_of_one_row_is_told_to_say_so() -> None:
    with pytest.raises(ValueError, match="one row at a time needs batched=False"):
        FunctionSimulator(lambda row: torch.ones(7), PRIOR, event_shape=7)


def test_the_trial_run_looks_for_a_draw_that_works() -> None:
    assert FunctionSimulator(picky, PRIOR).event_shape == (2,)


def test_a_function_that_never_works_is_refused_with_what_it_said() -> None:
    def broken(theta):
        raise KeyError("no such file")

    with pytest.raises(ValueError, match=r"broken raised for each of 20 draws .*given torch, KeyError: 'no such file'"):
        FunctionSimulator(broken, PRIOR)


@pytest.mark.parametrize(
    ("function", "settings", "expected"),
    [
        (lambda theta: theta.sum(1), {}, (1,)),
        (lambda theta: theta[:, :, None] * torch.ones(4), {}, (2, 4)),
        (lambda row: 3, {"batched": False}, (1,)),
        (lambda row: True, {"batched": False}, (1,)),
        (lambda row: np.float32(0.5), {"batched": False}, (1,)),
        (lambda row: np.int64(2), {"batched": False}, (1,)),
        (lambda row: row.sum(), {"batched": False, "array": "torch"}, (1,)),
        (lambda row: [[1, 2, 3]], {"batched": False}, (1, 3)),
        (lambda row: [row.sum(), row.prod()], {"batched": False, "array": "torch"}, (2,)),
        (lambda theta: theta[:, 0].tolist(), {}, (1,)),
        (lambda theta: [row.sum() for row in theta], {}, (1,)),
        (lambda theta: theta > 0, {}, (2,)),
        (lambda theta: np.ones((len(theta), 2), dtype=int), {}, (2,)),
        (lambda theta: theta, {"event_shape": 2}, (2,)),
        (lambda theta: theta.sum(1), {"event_shape": ()}, (1,)),
    ],
)
def test_shapes_are_found(function: Any, settings: dict[str, Any], expected: tuple[int, ...]) -> None:
    simulator = FunctionSimulator(function, PRIOR, **settings)
    assert simulator.event_shape == expected
    assert simulator.simulate(THETA, seed=0).shape == (5, *expected)
    assert simulator.simulate(THETA[:0], seed=0).shape == (0, *expected)


def test_arrays_of_the_kind_that_works_are_given() -> None:
    def only_numpy(theta):
        return theta.astype(float)

    assert FunctionSimulator(only_numpy, PRIOR).array == "numpy"
    assert FunctionSimulator(lambda theta: theta.relu(), PRIOR).array == "torch"


def test_what_the_function_writes_into_its_argument_stays_there() -> None:
    def careless(theta):
        theta *= 0
        return theta

    for array in ("torch", "numpy"):
        theta = torch.ones(3, 2)
        FunctionSimulator(careless, PRIOR, array=array).simulate(theta, seed=0)
        assert (theta == 1).all()


def test_gradients_flow_if_asked_for() -> None:
    theta = torch.ones(4, 2, requires_grad=True)
    x = FunctionSimulator(lambda t: t.square(), PRIOR, differentiable=True).simulate(theta, seed=0)
    (gradient,) = torch.autograd.grad(x.sum(), theta)
    assert (gradient == 2).all()
    assert not FunctionSimulator(lambda t: t.square(), PRIOR).simulate(theta, seed=0).requires_grad


def test_observations_summaries_names_and_settings_are_the_users() -> None:
    simulator = FunctionSimulator(
        of_seed,
        PRIOR,
        parameter_names=["mean", "unused"],
        observed=[1, 2, 3],
        summarize=lambda x: x.mean(1),
        name="mine",
    )
    assert simulator.observations == ("observed",)
    assert simulator.observation("observed").tolist() == [1, 2, 3]
    assert simulator.summarize(torch.ones(5, 3)).shape == (5, 1)
    assert simulator.parameter_names == ("mean", "unused")
    called = {"name": "mine", "batched": True, "array": "torch"}
    settings = {"function": f"{__name__}.of_seed", "code": fingerprint(of_seed), **called}
    assert json.loads(json.dumps(simulator.settings())) == settings
    assert FunctionSimulator(of_seed, PRIOR).parameter_names == ("theta_1", "theta_2")
    assert FunctionSimulator(of_seed, PRIOR).name == "of_seed"
    assert FunctionSimulator(of_seed, PRIOR).observations == ()


def test_summaries_of_the_wrong_length_are_refused() -> None:
    simulator = FunctionSimulator(of_seed, PRIOR, summarize=lambda x: x.mean())
    with pytest.raises(ValueError, match=r"summarize: expected 5 rows of statistics; got shape \(\)"):
        simulator.summarize(torch.ones(5, 3))


def test_closures_travel_to_other_processes() -> None:
    factor = 3.0
    simulator = FunctionSimulator(lambda theta: factor * theta + torch.rand(2), PRIOR)
    copy = pickle.load(io.BytesIO(cloudpickle.dumps(simulator)))
    assert torch.equal(copy.simulate(THETA, seed=4), simulator.simulate(THETA, seed=4))


class NoDistribution:
    """Knows its density and cannot draw."""

    def log_prob(self, theta):
        return theta.sum(-1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"function": 3}, TypeError, "function: expected a callable theta -> x; got int"),
        ({"summarize": 3}, TypeError, "summarize: expected a callable or None; got int"),
        ({"array": "jax"}, ValueError, "array: expected one of auto, torch, numpy; got 'jax'"),
        ({"array": "numpy", "differentiable": True}, ValueError, 'differentiable: needs array="torch"'),
        ({"parameter_names": ["a"]}, ValueError, r"parameter_names: expected 2 different names.*got \['a'\]"),
        ({"parameter_names": ["a", "a"]}, ValueError, "parameter_names: expected 2 different names"),
        ({"parameter_names": "ab"}, TypeError, "parameter_names: expected 2 strings; got 'ab'"),
        ({"observed": [1, 2]}, ValueError, r"observed: of_seed expects shape \(3,\); got \(2,\)"),
        ({"event_shape": (2,)}, ValueError, r"should give shape \(2, 2\); it gave \(2, 3\)"),
        ({"prior": NoDistribution()}, TypeError, "prior: .*got NoDistribution, which has no `sample`"),
        ({"prior": None}, TypeError, "prior: .*got NoneType, which has no `sample`"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FunctionSimulator(**{"function": of_seed, "prior": PRIOR, **change})


@pytest.mark.parametrize(
    ("prior", "d"),
    [
        (PRIOR, 2),
        (MultivariateNormal(torch.zeros(3), torch.eye(3)), 3),
        (Normal(torch.zeros(4), torch.ones(4)), 4),
        (Exponential(1.0), 1),
        ([Beta(1.0, 2.0), Gamma(2.0, 1.0), Uniform(0.0, 1.0)], 3),
        ((Normal(0.0, 1.0), Normal(0.0, 1.0)), 2),
        (Product([Beta(1.0, 2.0)]), 1),
        (([0, -1, 2], [1, 1, 3]), 3),
        ((np.zeros(2), np.ones(2)), 2),
        ([torch.zeros(2), torch.ones(2)], 2),
        ((-1.0, 1.0), 1),
    ],
)
def test_priors_of_many_kinds_are_taken(prior: Any, d: int) -> None:
    made = as_prior(prior)
    assert isinstance(made, Distribution)
    assert made.batch_shape == ()
    assert made.event_shape == (d,)
    draws = made.sample((20,))
    assert draws.shape == (20, d)
    assert torch.isfinite(made.log_prob(draws)).all()
    assert made.support.check(draws).all()  # type: ignore[union-attr]  # all of these have one


def test_a_box_is_uniform_between_its_corners() -> None:
    prior = as_prior(([0.0, -1.0], [2.0, 3.0]))
    assert prior.log_prob(torch.tensor([1.0, 0.0])).exp().item() == pytest.approx(1 / 8)
    assert prior.log_prob(torch.tensor([1.0, 4.0])).isneginf()


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (Normal(torch.zeros(2, 2), 1.0), ValueError, r"prior: expected event shape \(d,\) or batch shape \(d,\)"),
        (([0.0, 0.0], [1.0]), ValueError, r"prior: expected \(low, high\) of one shape"),
        (([0.0, 2.0], [1.0, 1.0]), ValueError, "prior: expected finite low < high"),
        (([0.0], [np.inf]), ValueError, "prior: expected finite low < high"),
        ([], TypeError, "prior: .*got list, which has no `sample`"),
        ([1.0, 2.0, 3.0], TypeError, "prior: .*got list"),
        ([Normal(0.0, 1.0), 3.0], TypeError, "prior: .*got list"),
        (random.Random(0), TypeError, "prior: expected a torch.distributions.Distribution; got Random"),
    ],
)
def test_what_is_no_prior_is_refused(prior: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_prior(prior)


def test_a_tensor_given_back_keeps_no_graph_of_the_users() -> None:
    weight = torch.ones(2, requires_grad=True)

    def with_graph(theta: Tensor) -> Tensor:
        return theta * weight

    simulator = FunctionSimulator(with_graph, PRIOR)
    assert not simulator.simulate(THETA, seed=0).requires_grad
