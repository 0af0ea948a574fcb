"""Values that are not seen: which ones, what stands in for them, and that a failed simulation stays one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from implicit_simulators import FunctionSimulator, Missing
from implicit_simulators.benchmark import GaussianLinear

NAN = float("nan")


def seen_of(simulator: Missing, n: int) -> torch.Tensor:
    theta = simulator.sample_prior(n, seed=0)
    x = simulator.simulate(theta, seed=0)
    whole = simulator.simulator.simulate(theta, seed=0)
    seen = x[..., 1] > 0.5
    # what is seen is the simulator's own x, and the rest is the filling
    torch.testing.assert_close(x[..., 0], torch.where(seen, whole, simulator.fill), rtol=0, atol=0)
    return seen


def test_a_share_of_the_values_is_missing_each_by_itself() -> None:
    seen = seen_of(Missing(GaussianLinear(3), 0.25), 4000).float()
    # four standard errors of a share of 4000, and of a correlation
    assert ((seen.mean(0) - 0.75).abs() < 4 * (0.25 * 0.75 / 4000) ** 0.5).all()
    assert (torch.corrcoef(seen.T) - torch.eye(3)).abs().max() < 4 / 4000**0.5


def test_the_share_may_differ_from_simulation_to_simulation() -> None:
    share = 1 - seen_of(Missing(GaussianLinear(200), (0.2, 0.8)), 500).float().mean(1)
    # uniform on (.2, .8), with the binomial noise of 200 values: variance .03 + .2 / 200, the standard error of the
    # mean of 500 is .008, and that of the deviation some 2 %
    assert abs(float(share.mean()) - 0.5) < 0.032
    assert abs(float(share.std()) - (0.03 + (0.25 - 0.03) / 200) ** 0.5) < 0.02


def test_patterns_are_chosen_alike_in_chance() -> None:
    patterns = torch.tensor([[True, False, False], [False, True, True]])
    hidden = ~seen_of(Missing(GaussianLinear(3), patterns), 2000)
    first = (hidden == patterns[0]).all(1)
    assert ((hidden == patterns[1]).all(1) ^ first).all()
    assert abs(int(first.sum()) - 1000) < 5 * 500**0.5
    only = Missing(GaussianLinear(3), torch.isnan(torch.tensor([0.0, NAN, 1.0])))
    assert (seen_of(only, 10) == torch.tensor([True, False, True])).all()


def test_whether_a_value_is_missing_may_depend_on_it() -> None:
    simulator = Missing(GaussianLinear(3), lambda x, generator: x > 0.5)
    x = simulator.simulate(simulator.sample_prior(500, seed=0), seed=0)
    seen = x[..., 1] > 0.5
    assert not seen.all()
    assert x[..., 0][seen].max() <= 0.5


def test_the_filling_is_the_middle_of_the_simulations() -> None:
    inner = FunctionSimulator(lambda theta: 1000 + theta, ([0.0], [1.0]), event_shape=(1,), array="torch")
    # the median of 200 draws of U(0, 1) has a standard deviation of .035
    assert abs(float(Missing(inner).fill) - 1000.5) < 0.15
    assert Missing(inner, fill=3.0).fill.tolist() == [3.0]


def test_nan_in_an_observation_is_a_value_that_is_missing_and_in_a_simulation_a_failure() -> None:
    simulator = Missing(GaussianLinear(3), 0.5, fill=[7.0, 8.0, 9.0])
    x = simulator.check_observation([0.1, NAN, 0.3])
    torch.testing.assert_close(x, torch.tensor([[0.1, 1.0], [8.0, 0.0], [0.3, 1.0]]))
    torch.testing.assert_close(simulator.check_observation(x), x)
    torch.testing.assert_close(simulator.encode([[0.1, NAN, 0.3]]), x)
    broken = FunctionSimulator(
        lambda theta: torch.where(theta > 0.5, torch.nan, theta), ([0.0], [1.0]), event_shape=(1,), array="torch"
    )
    theta = torch.tensor([[0.2], [0.9]])
    failed = ~Missing(broken, 0.9, fill=0.0).simulate(theta.repeat(50, 1), seed=0).flatten(1).isfinite().all(1)
    assert failed.tolist() == [False, True] * 50


def test_summaries_are_those_of_the_filled_values_and_the_mask() -> None:
    simulator = Missing(GaussianLinear(2), 0.5, fill=9.0)
    x = simulator.encode([0.5, NAN])[None]
    assert simulator.summarize(x).tolist() == [[0.5, 9.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "simulator: expected a Simulator", lambda: Missing(3)),
        (ValueError, "missing: expected probabilities", lambda: Missing(GaussianLinear(2), 1.5)),
        (ValueError, "missing: expected probabilities", lambda: Missing(GaussianLinear(2), (0.5, 0.1))),
        (ValueError, "missing: expected patterns", lambda: Missing(GaussianLinear(2), [True, False, True])),
        (ValueError, "fill: expected a finite number", lambda: Missing(GaussianLinear(2), 0.1, fill=[1.0, 2.0, 3.0])),
        (ValueError, "observed: expected shape", lambda: Missing(GaussianLinear(2), 0.1).encode([1.0])),
        (ValueError, "with infinity", lambda: Missing(GaussianLinear(2), 0.1).encode([1.0, float("inf")])),
        (
            ValueError,
            r"1 of 2 are NaN or infinite; for values that are missing: Missing\(simulator\)",
            lambda: GaussianLinear(2).check_observation([1.0, NAN]),
        ),
        (
            ValueError,
            "missing: expected patterns of shape",
            lambda: Missing(GaussianLinear(2), lambda x, generator: x[:, 0] > 0).simulate([[0.0, 0.0]], seed=0),
        ),
    ],
)
def test_what_cannot_be_is_refused(error: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(error, match=message):
        call()
