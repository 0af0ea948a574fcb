"""Several draws as one x: the simulator's own draws, any number of them, summaries without an order, and failures."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from implicit_simulators import FunctionSimulator, Repeated, Simulator, Stream
from implicit_simulators.benchmark import SLCP, GaussianLinear
from implicit_simulators.failures import one_row, watching


def test_draws_of_one_theta_are_independent_and_of_its_law() -> None:
    simulator = Repeated(GaussianLinear(2), 5)
    x = simulator.simulate(torch.tensor([[0.5, -1.0]]).repeat(2000, 1), seed=0)
    assert simulator.points == 5
    # four standard errors of a mean of 2000 normals of variance .1, and of their correlation
    assert ((x.mean(0) - torch.tensor([0.5, -1.0])).abs() < 4 * (0.1 / 2000) ** 0.5).all()
    correlation = torch.corrcoef(x.flatten(1).T) - torch.eye(10)
    assert correlation.abs().max() < 4 / 2000**0.5


def test_all_numbers_of_draws_are_alike_in_chance() -> None:
    simulator = Repeated(GaussianLinear(2), 4, fewest=2)
    x = simulator.simulate(simulator.sample_prior(3000, seed=0), seed=0)
    draws, there = simulator.draws(x)
    counts = there.sum(1).bincount(minlength=5)
    assert counts[:2].sum() == 0
    # five standard deviations of a binomial count with p = 1/3
    assert ((counts[2:] - 1000).abs() < 5 * (3000 * 2 / 9) ** 0.5).all()
    assert (draws[~there] == 0).all()
    assert simulator.points == 1


def test_an_observation_is_the_draws_that_there_are() -> None:
    simulator = Repeated(GaussianLinear(2), 4, fewest=1)
    given = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    x = simulator.check_observation(given)
    assert x.shape == simulator.event_shape == (4, 3)
    draws, there = simulator.draws(x[None])
    assert there.tolist() == [[True, True, False, False]]
    torch.testing.assert_close(draws[there], given)
    torch.testing.assert_close(simulator.check_observation(x), x)
    fixed = Repeated(GaussianLinear(2), 2)
    torch.testing.assert_close(fixed.check_observation(given), given)


@pytest.mark.parametrize("simulator", [Repeated(GaussianLinear(2), 4), Repeated(GaussianLinear(2), 4, fewest=2)])
def test_summaries_have_no_order_and_are_moments_of_what_is_there(simulator: Repeated) -> None:
    x = simulator.simulate(simulator.sample_prior(20, seed=0), seed=0)
    s = simulator.summarize(x)
    torch.testing.assert_close(simulator.summarize(x[:, [2, 0, 3, 1]]), s)
    draws, there = simulator.draws(x)
    for row in range(20):
        seen = draws[row][there[row]]
        torch.testing.assert_close(s[row, :2], seen.mean(0))
        torch.testing.assert_close(s[row, 2:4], seen.std(0, correction=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fewest", [3, 1])
def test_the_log_likelihood_is_the_sum_over_the_draws(fewest: int) -> None:
    inner = SLCP()
    simulator: Any = Repeated(inner, 3, fewest=fewest)
    theta = simulator.sample_prior(6, seed=0)
    x = simulator.simulate(theta, seed=0)
    draws, there = simulator.draws(x)
    expected = torch.stack([inner.log_likelihood(theta, draws[:, i]) * there[:, i] for i in range(3)]).sum(0)
    torch.testing.assert_close(simulator.log_likelihood(theta, x), expected)
    alone = torch.stack([inner.log_likelihood(theta, draws[0, i]) * there[0, i] for i in range(3)]).sum(0)
    torch.testing.assert_close(simulator.log_likelihood(theta, x[0]), alone)


def test_a_likelihood_is_offered_only_where_there_is_one() -> None:
    unknown = FunctionSimulator(lambda theta: theta, ([0.0], [1.0]), event_shape=(1,), array="torch")
    assert not hasattr(Repeated(unknown, 2), "log_likelihood")


class Failing(Simulator):
    """Fails in the rows that a list names, counted over all calls."""

    name = "failing"
    parameter_names = ("a",)
    event_shape = torch.Size([1])
    prior = GaussianLinear(1).prior

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        x = theta.clone()
        for row in range(len(theta)):
            try:
                with one_row(row):
                    if row == 4:
                        raise RuntimeError("row 4")
            except RuntimeError:
                x[row] = torch.nan
        return x


def test_a_draw_that_fails_fails_its_simulation_and_is_told_of_under_its_number() -> None:
    told = []

    class Listening:
        def row(self, row: int) -> Any:
            told.append(row)
            return contextlib.nullcontext()

    with watching(Listening()):
        x = Repeated(Failing(), 3).simulate_block(torch.zeros(2, 1), 0, 0)
    assert told == [0, 0, 0, 1, 1, 1]
    assert torch.isfinite(x).flatten(1).all(1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "simulator: expected a Simulator", lambda: Repeated(3, 2)),
        (TypeError, "most: expected an int", lambda: Repeated(GaussianLinear(2), 2.0)),
        (ValueError, "1 <= fewest <= most; got 2, 3", lambda: Repeated(GaussianLinear(2), 2, fewest=3)),
        (ValueError, "expected 2 to 3 draws", lambda: Repeated(GaussianLinear(2), 3, fewest=2).encode([[0.0, 1.0]])),
        (ValueError, "expects shape", lambda: Repeated(GaussianLinear(2), 3).check_observation([[0.0, 1.0]])),
        (
            ValueError,
            r"2 independent observations of one theta: Repeated\(simulator, 2\)",
            lambda: GaussianLinear(3).check_observation([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]),
        ),
    ],
)
def test_what_cannot_be_is_refused(error: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(error, match=message):
        call()
