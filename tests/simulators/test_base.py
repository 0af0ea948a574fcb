"""The base of every simulator: blocks, checks and clear refusals."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.streams import Stream


class Doubling(Simulator):
    """Notes the streams it was given; x = (2 theta_1, 2 theta_2, uniform noise)."""

    name = "doubling"
    parameter_names = ("a", "b")
    event_shape = torch.Size([3])
    block = 4
    observations: ClassVar[tuple[str, ...]] = ("one",)

    def __init__(self) -> None:
        self.prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        self.keys: list[int] = []

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        self.keys.append(stream.key)
        noise = torch.rand(len(theta), 1, generator=stream.torch())
        return torch.cat((2 * theta, noise), 1)

    def settings(self) -> dict[str, Any]:
        return {"factor": 2}


def test_every_block_has_its_own_stream() -> None:
    simulator = Doubling()
    x = simulator.simulate(torch.ones(10, 2), seed=3)
    assert x.shape == (10, 3)
    assert simulator.keys == [Stream.of(3, i, "simulate").key for i in range(3)]
    assert x[:, 2].unique().numel() == 10


def test_a_block_alone_is_what_it_is_in_a_run() -> None:
    simulator, theta = Doubling(), torch.ones(10, 2)
    x = simulator.simulate(theta, seed=3)
    assert torch.equal(simulator.simulate_block(theta[4:8], 3, 1), x[4:8])


def test_no_rows_give_no_rows() -> None:
    assert Doubling().simulate(torch.ones(0, 2), seed=0).shape == (0, 3)


def test_prior_draws_are_repeatable_float32_and_differ_by_block() -> None:
    simulator = Doubling()
    first = simulator.sample_prior(6, seed=0)
    assert first.shape == (6, 2)
    assert first.dtype == torch.float32
    assert torch.equal(first, simulator.sample_prior(6, seed=0))
    assert not torch.equal(first, simulator.sample_prior(6, seed=0, block=1))


@pytest.mark.parametrize(
    "theta",
    [
        np.ones((3, 2)),
        np.ones((3, 2), dtype=int),
        pd.DataFrame({"a": [1, 1, 1], "b": [1.0, 1.0, 1.0]}),
        [[1, 1]] * 3,
        torch.ones(3, 2, dtype=torch.int64),
    ],
    ids=["array", "integers", "frame", "list", "integer tensor"],
)
def test_arrays_frames_and_lists_are_taken(theta: Any) -> None:
    simulator = Doubling()
    assert torch.equal(simulator.simulate(theta, seed=1), simulator.simulate(torch.ones(3, 2), seed=1))


def test_floating_tensors_keep_their_dtype() -> None:
    assert as_tensor(torch.ones(2, dtype=torch.float64), "x").dtype == torch.float64
    assert as_tensor(np.ones(2), "x").dtype == torch.float32


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (torch.ones(3), ValueError, r"theta: expected shape \(n, 2\) \(a, b\); got \(3,\)"),
        (torch.ones(3, 3), ValueError, r"got \(3, 3\)"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), ValueError, "1 of 2 rows hold NaN or infinity"),
        ("theta", TypeError, "theta: expected a tensor, an array or a frame; got str"),
        ([["a", "b"]], TypeError, "theta: expected numbers; got list"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_bad_theta_is_refused_before_anything_runs(theta: Any, error: type[Exception], message: str) -> None:
    simulator = Doubling()
    with pytest.raises(error, match=message):
        simulator.simulate(theta, seed=0)
    assert not simulator.keys


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(2), r"observed: doubling expects shape \(3,\); got \(2,\)"),
        (torch.ones(2, 3), r"got \(2, 3\)"),
        (torch.tensor([1.0, torch.nan, torch.inf]), "2 of 3 are NaN or infinite"),
    ],
)
def test_bad_observations_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Doubling().check_observation(x)


def test_an_observation_may_have_a_leading_axis_of_one() -> None:
    assert Doubling().check_observation(torch.ones(1, 3)).shape == (3,)


def test_a_wrong_shape_from_a_child_is_seen() -> None:
    simulator = Doubling()
    simulator.event_shape = torch.Size([5])
    with pytest.raises(ValueError, match=r"doubling: expected simulations of shape \(2, 5\); got \(2, 3\)"):
        simulator.simulate(torch.ones(2, 2), seed=0)


def test_unknown_observations_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="observation: doubling ships one; got 'two'"):
        Doubling().observation("two")
    with pytest.raises(NotImplementedError, match="_observation"):
        Doubling().observation("one")


def test_what_a_child_must_write_is_named() -> None:
    simulator = Simulator()
    simulator.parameter_names, simulator.event_shape = ("a",), torch.Size([1])
    with pytest.raises(NotImplementedError, match=r"Simulator must write _simulate\(theta, stream\)"):
        simulator.simulate(torch.ones(1, 1), seed=0)


def test_summaries_flatten_and_settings_show() -> None:
    assert Doubling().summarize(torch.ones(4, 3)).shape == (4, 3)
    assert repr(Doubling()) == "Doubling(factor=2)"
    assert Doubling().dim == 2
