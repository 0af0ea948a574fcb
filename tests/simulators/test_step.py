"""A user's scalar step as a simulator: shapes, starts, what runs it, gradients, other processes, what is refused."""

import cloudpickle
import numpy as np
import pytest
import torch

from implicit_simulators import Simulator, StepSimulator

PRIOR = ([0.1, -1.0], [2.0, 1.0])


def reversion(x, speed, level, z):
    return (x + 0.1 * speed * (level - x) + 0.3 * z,)


def pair(x, y, speed, level, z):
    return x + 0.1 * speed * (level - x) + 0.3 * z, y + 0.1 * x


def make(step=reversion, **settings):
    return StepSimulator(step, **({"prior": PRIOR, "initial": [0.0], "steps": 40, "every": 10} | settings))


def test_moments_are_those_of_the_autoregression():
    """Mean and variance after t steps of x' = a x + b + s z, within 5 standard errors."""
    n, theta = 20_000, torch.tensor([[0.8, 0.5]])
    x = make().simulate(theta.expand(n, 2), seed=0).double()
    a = 1 - 0.08
    for column, t in zip(x.T, (10, 20, 30, 40), strict=True):
        variance = 0.09 * (1 - a ** (2 * t)) / (1 - a**2)
        assert abs(column.mean() - 0.5 * (1 - a**t)) < 5 * (variance / n) ** 0.5
        assert abs(column.var() / variance - 1) < 5 * (2 / n) ** 0.5


def test_shapes_and_names():
    assert make().event_shape == (4,)
    assert make().parameter_names == ("speed", "level")
    assert make(parameter_names=["a", "b"]).parameter_names == ("a", "b")
    both = make(pair, initial=[0.0, 1.0])
    assert both.event_shape == (4, 2)
    assert make(pair, initial=[0.0, 1.0], record=[1]).event_shape == (4,)
    assert make(skip=15).event_shape == (2,)


def test_steps_may_start_where_theta_says():
    started = make(initial=lambda theta: theta[:, 1:], steps=1, every=1)
    theta = torch.tensor([[0.0, 5.0]]).expand(1000, 2)
    x = started.simulate(theta, seed=0)
    assert abs(x.mean() - 5) < 5 * 0.3 / 1000**0.5
    with pytest.raises(ValueError, match=r"initial: expected states of shape \(n, k\)"):
        make(initial=lambda theta: theta[:, 1])


def test_what_burns_in_is_not_seen():
    whole, late = make(every=5), make(every=5, skip=20)
    theta = whole.sample_prior(10, seed=0)
    assert torch.equal(whole.simulate(theta, seed=1)[:, 4:], late.simulate(theta, seed=1))


def test_gradients_follow_the_path_of_the_compiled_code():
    model = make(differentiable=True)
    theta = model.sample_prior(6, seed=0).double()
    plain = model.simulate(theta, seed=1)
    graph = model.simulate(theta.clone().requires_grad_(), seed=1)
    torch.testing.assert_close(graph.detach(), plain, rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(model.simulate(theta.requires_grad_(), seed=1).sum(), theta)
    step = torch.zeros_like(theta)
    step[:, 0] = 1e-6
    with torch.no_grad():
        ahead, behind = (model.simulate(theta + sign * step, seed=1).sum(1) for sign in (1, -1))
    torch.testing.assert_close(slope[:, 0], (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


def test_it_travels_and_tells_its_code():
    model = make()
    copy = cloudpickle.loads(cloudpickle.dumps(model))
    theta = model.sample_prior(5, seed=0)
    assert torch.equal(copy.simulate(theta, seed=2), model.simulate(theta, seed=2))
    assert copy.settings() == model.settings()
    assert make(lambda x, speed, level, z: (x + z,)).settings()["code"] != model.settings()["code"]
    assert make(steps=50).settings() != model.settings()


def test_it_says_what_runs_it():
    assert (make().engine, make().reason) == ("lanes", "")
    assert isinstance(make(), Simulator)
    assert make().releases_gil
    assert make().prepare() >= 0


def test_data_and_statistics_are_the_users():
    model = make(observed=np.arange(4.0), summarize=lambda x: x.mean(1, keepdim=True))
    assert model.observation("observed").tolist() == [0, 1, 2, 3]
    assert model.summarize(torch.ones(3, 4)).shape == (3, 1)
    with pytest.raises(ValueError, match="summarize: expected 3 rows"):
        make(summarize=lambda x: x.mean()).summarize(torch.ones(3, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: expected a positive int; got 0"),
        ({"every": 50}, "steps: expected at least skip"),
        ({"skip": -1}, "skip: expected an int of at least 0; got -1"),
        ({"threads": 0}, "threads: expected a positive int"),
        ({"differentiable": True, "counts": True}, "differentiable: a Poisson count has no gradient"),
        ({"prior": ([0.0], [1.0])}, "step: expected 1 states, 1 parameters"),
        ({"parameter_names": ["a"]}, "parameter_names: expected 2 different names"),
        ({"noise": ["gamma"]}, "noise: expected kinds among normal, uniform, exponential; got 'gamma'"),
        ({"observed": [1.0]}, "observed: reversion expects shape"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
