"""A Pyro model as a prior and a simulator: against closed forms, together and row by row, and what it refuses."""

from __future__ import annotations

import io
import json
import logging
import math
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from implicit_simulators import PyroSimulator, unconstrained

TIMES = torch.linspace(-1, 1, 4)
DESIGN = torch.linspace(-1, 1, 10).reshape(5, 2)
ERRORS = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
EFFECTS = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])


def conjugate(data: Tensor | None = None) -> None:
    """A mean with prior N(1, 2), seen five times with variance 0.25."""
    mean = pyro.sample("mean", dist.Normal(1.0, math.sqrt(2.0)))
    with pyro.plate("trials", 5):
        pyro.sample("x", dist.Normal(mean, 0.5), obs=data)


def schools(effects: Tensor | None = None) -> None:
    """Eight schools (Rubin, 1981), as Gelman et al. write it."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, ERRORS), obs=effects)


def regression() -> None:
    """A vector site, a bounded site, two plates, two observed sites and a deterministic one."""
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), torch.tensor([1.0, 2.0])).to_event(1))
    noise = pyro.sample("noise", dist.Uniform(0.5, 1.5))
    with pyro.plate("rows", 5, dim=-2):
        centre = (weights * DESIGN[:, None]).sum(-1)  # (5, 1), or (n, 5, 1) of rows run together
        with pyro.plate("columns", 3, dim=-1):
            table = pyro.sample("table", dist.Normal(centre, noise))
    pyro.deterministic("total", table.sum((-2, -1)))
    pyro.sample("count", dist.Normal(noise, 0.1))


def branching() -> None:
    rate = pyro.sample("rate", dist.Exponential(1.0))
    if rate > 1:
        pyro.sample("x", dist.Normal(rate, 1.0))
    else:
        pyro.sample("x", dist.Normal(-rate, 1.0))


def careless() -> None:
    """Runs with rows together, and mixes them."""
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(place.mean(), 1.0))


def indexing() -> None:
    """Picks its groups from the first dimension, which is that of rows when they run together."""
    with pyro.plate("groups", 2):
        place = pyro.sample("place", dist.Normal(0.0, 1.0))
    with pyro.plate("people", 5):
        pyro.sample("x", dist.Normal(place[torch.tensor([0, 0, 1, 1, 1])], 1.0))


def noisy() -> None:
    """Has noise that is no site: rows together would share it."""
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(place + torch.randn(()), 1.0))


def mixture() -> None:
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    kind = pyro.sample("kind", dist.Bernoulli(0.25))
    pyro.sample("x", dist.Normal(place + 10 * kind, 1.0))


def counts() -> None:
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("days", 3):
        pyro.sample("x", dist.Poisson(rate))


def outcome() -> None:
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    with pyro.plate("parts", 4):
        part = pyro.sample("part", dist.Normal(place, 1.0))
    pyro.deterministic("sums", torch.stack([part.sum(-1), (part**2).sum(-1)], -1), event_dim=1)


def nested() -> None:
    low = pyro.sample("low", dist.Normal(0.0, 1.0))
    high = pyro.sample("high", dist.Uniform(low, low + 2.0))
    pyro.sample("x", dist.Normal(high, 1.0))


MODELS: dict[str, Callable[[], PyroSimulator]] = {
    "conjugate": lambda: PyroSimulator(conjugate, observed=["x"]),
    "schools": lambda: PyroSimulator(schools, args=(EFFECTS,)),
    "regression": lambda: PyroSimulator(regression, observed=["table", "count"]),
    "mixture": lambda: PyroSimulator(mixture, observed=["x"], nuisance=["kind"]),
    "counts": lambda: PyroSimulator(counts, observed=["x"]),
    "outcome": lambda: PyroSimulator(outcome, observed=["sums"], nuisance=["part"]),
    "nested": lambda: PyroSimulator(nested, observed=["x"]),
}
MADE = {name: make() for name, make in MODELS.items()}


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("conjugate", ["mean"], (5,)),
        ("schools", ["mu", "tau", *(f"theta_{i}" for i in range(1, 9))], (8,)),
        ("regression", ["weights_1", "weights_2", "noise"], (16,)),
        ("mixture", ["place"], (1,)),
        ("counts", ["rate"], (3,)),
        ("outcome", ["place"], (2,)),
        ("nested", ["low", "high"], (1,)),
    ],
)
def test_names_and_shapes(name: str, parameters: list[str], shape: tuple[int, ...]) -> None:
    simulator = MADE[name]
    assert list(simulator.parameter_names) == parameters
    assert simulator.event_shape == shape
    assert simulator.vectorised
    theta = simulator.sample_prior(50, seed=0)
    x = simulator.simulate(theta, seed=0)
    assert x.shape == (50, *shape)
    assert torch.isfinite(x).all()
    assert torch.isfinite(simulator.prior.log_prob(theta)).all()
    assert torch.equal(simulator.prior.log_prob(theta[3]), simulator.prior.log_prob(theta)[3])
    assert simulator.failed == 0


def test_matrices_and_odd_names_become_identifiers() -> None:
    def model() -> None:
        pyro.sample("layer.weight", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2))
        pyro.sample("2nd", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(0.0, 1.0))

    names = [*(f"layer_weight_{i}_{j}" for i in (1, 2) for j in (1, 2)), "_2nd_1"]
    assert list(PyroSimulator(model, observed=["x"]).parameter_names) == names


# --- against closed forms


def test_the_conjugate_model_is_known() -> None:
    """Prior N(1, 2); x | mean ~ N(mean, 0.25); together x_i has mean 1, variance 2.25 and covariances 2."""
    simulator = MADE["conjugate"]
    theta = simulator.sample_prior(40_000, seed=0)
    exact = torch.distributions.Normal(1.0, math.sqrt(2.0))
    torch.testing.assert_close(simulator.prior.log_prob(theta), exact.log_prob(theta[:, 0]))
    assert simulator.prior.mean.tolist() == [1.0]
    assert abs(float(theta.mean()) - 1) < 5 * math.sqrt(2 / 40_000)  # five standard errors
    assert abs(float(theta.var()) / 2 - 1) < 5 * math.sqrt(2 / 40_000)
    x = simulator.simulate(theta, seed=1)
    covariance = torch.cov(x.T)
    expected = 2 * torch.ones(5, 5) + 0.25 * torch.eye(5)
    # the variance of a sample covariance is (s_ii s_jj + s_ij^2) / n
    error = ((2.25**2 + expected**2) / 40_000).sqrt()
    assert ((covariance - expected).abs() < 5 * error).all()
    assert ((x.mean(0) - 1).abs() < 5 * math.sqrt(2.25 / 40_000)).all()
    assert abs(float(((x - theta) / 0.5).var()) - 1) < 5 * math.sqrt(2 / 200_000)
    likelihood = torch.distributions.Normal(theta, 0.5).log_prob(x).sum(1)
    torch.testing.assert_close(simulator.log_likelihood(theta, x), likelihood, rtol=1e-4, atol=1e-4)
    one = simulator.log_likelihood(theta, x[0])
    torch.testing.assert_close(one, torch.distributions.Normal(theta, 0.5).log_prob(x[0]).sum(1), rtol=1e-4, atol=1e-3)


def test_later_sites_may_depend_on_earlier_ones() -> None:
    simulator = MADE["schools"]
    theta = simulator.sample_prior(2000, seed=0)
    mu, tau, effects = theta[:, 0], theta[:, 1], theta[:, 2:]
    expected = (
        torch.distributions.Normal(0.0, 5.0).log_prob(mu)
        + torch.distributions.HalfCauchy(5.0).log_prob(tau)
        + torch.distributions.Normal(mu[:, None], tau[:, None]).log_prob(effects).sum(1)
    )
    torch.testing.assert_close(simulator.prior.log_prob(theta), expected, rtol=1e-4, atol=1e-4)
    x = simulator.simulate(theta, seed=0)
    z = (x - effects) / ERRORS
    assert abs(float(z.mean())) < 5 / math.sqrt(z.numel())
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())
    z = (effects - mu[:, None]) / tau[:, None]
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())
    likelihood = torch.distributions.Normal(effects, ERRORS).log_prob(EFFECTS).sum(1)
    torch.testing.assert_close(simulator.log_likelihood(theta, EFFECTS), likelihood)
    assert simulator.observation("observed").tolist() == EFFECTS.tolist()


def test_several_sites_are_joined_and_taken_apart() -> None:
    simulator = MADE["regression"]
    theta = simulator.sample_prior(3000, seed=0)
    x = simulator.simulate(theta, seed=0)
    sites, data = simulator.parameters(theta), simulator.data(x)
    assert {name: value.shape[1:] for name, value in sites.items()} == {"weights": (2,), "noise": ()}
    assert {name: value.shape[1:] for name, value in data.items()} == {"table": (5, 3), "count": ()}
    assert torch.equal(torch.cat([data["table"].flatten(1), data["count"][:, None]], 1), x)
    z = (data["table"] - (sites["weights"] @ DESIGN.T)[:, :, None]) / sites["noise"][:, None, None]
    assert abs(float(z.mean())) < 5 / math.sqrt(z.numel())
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())
    z = (data["count"] - sites["noise"]) / 0.1
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())


def test_nuisance_is_drawn_anew_and_leaves_the_likelihood_unknown() -> None:
    simulator = MADE["mixture"]
    x = simulator.simulate(torch.zeros(4000, 1), seed=0)
    share = float((x > 5).float().mean())
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)
    assert not hasattr(simulator, "log_likelihood")
    assert not simulator.differentiable
    with pytest.raises(AttributeError, match="mixture: the likelihood is not known, since"):
        simulator.log_likelihood(torch.zeros(1, 1), x[:1])


def test_deterministic_sites_may_be_data() -> None:
    """The sum of four draws from N(place, 1) is N(4 place, 4)."""
    simulator = MADE["outcome"]
    x = simulator.simulate(torch.full((4000, 1), 0.5), seed=0)
    assert abs(float(x[:, 0].mean()) - 2) < 5 * 2 / math.sqrt(4000)
    assert abs(float(x[:, 1].mean()) - 5) < 5 * math.sqrt((8 + 4) / 4000)  # E = 4 (1 + 1/4); Var = 4 (2 + 4/4)
    assert not hasattr(simulator, "log_likelihood")
    assert simulator.differentiable


# --- together and row by row


@pytest.mark.parametrize("name", MODELS)
def test_rows_together_are_the_rows_by_themselves(name: str) -> None:
    """The same densities; and the same distribution of data, as its mean tells."""
    together = MADE[name]
    program = together._program
    alone = PyroSimulator(
        together.model,
        observed=program.observed,
        nuisance=program.nuisance,
        args=(EFFECTS,) if name == "schools" else (),
        vectorised=False,
    )
    assert not alone.vectorised
    theta = together.sample_prior(20, seed=0)
    torch.testing.assert_close(alone.prior.log_prob(theta), together.prior.log_prob(theta), rtol=1e-4, atol=1e-4)
    x = together.simulate(theta, seed=0)
    if hasattr(together, "log_likelihood"):
        a, b = (simulator.log_likelihood(theta, x) for simulator in (alone, together))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    n = 300
    a, b = (simulator.simulate(theta[:1].repeat(n, 1), seed=1) for simulator in (alone, together))
    error = ((a.var(0) + b.var(0)) / n).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()
    assert a.unique(dim=0).shape[0] > 3
    draws = alone.sample_prior(5, seed=3)
    assert torch.isfinite(alone.prior.log_prob(draws)).all()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (branching, "it raised RuntimeError"),
        (careless, "at 'x' a row is not"),
        (indexing, "it raised ValueError: Shape mismatch"),
        (noisy, "at 'x' a row is not"),
    ],
)
def test_models_that_cannot_run_rows_together_run_row_by_row_and_say_so(
    model: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        simulator = PyroSimulator(model, observed=["x"])
    assert not simulator.vectorised
    assert caplog.text.count("the model runs row by row, since it does not run rows at once") == 1
    assert reason in caplog.text
    caplog.clear()
    theta = torch.tensor([[0.5], [2.0]]).repeat(200, simulator.dim)
    x = simulator.simulate(theta, seed=0)
    expected = torch.where(theta[:, :1] > 1, theta[:, :1], -theta[:, :1]) if model is branching else theta[:, :1]
    variance = 2 if model is noisy else 1
    assert ((x - expected).mean(0).abs() < 5 * math.sqrt(variance / 400)).all()
    assert (((x - expected).var(0) / variance - 1).abs() < 5 * math.sqrt(2 / 400)).all()
    assert x.unique(dim=0).shape[0] > 390
    assert torch.equal(simulator.simulate(theta[:5], seed=0), x[:5])
    assert hasattr(simulator, "log_likelihood") == (model is not noisy)
    assert not caplog.records
    with pytest.raises(ValueError, match="vectorised: the model does not run rows at once"):
        PyroSimulator(model, observed=["x"], vectorised=True)


def test_what_others_set_on_validation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)

    def model() -> None:
        pyro.sample("x", dist.Normal(0.0, pyro.sample("scale", dist.Normal(1.0, 0.01))))

    x = PyroSimulator(model, observed=["x"]).simulate_block(torch.tensor([[1.0], [-1.0]]), 0, 0)
    assert torch.isnan(x[:, 0]).tolist() == [False, True]
    assert torch.distributions.Distribution._validate_args is False


def test_a_row_that_raises_is_lost_alone() -> None:
    def model() -> None:
        scale = pyro.sample("scale", dist.Normal(1.0, 0.01))
        pyro.sample("x", dist.Normal(0.0, scale))

    simulator = PyroSimulator(model, observed=["x"])
    x = simulator.simulate_block(torch.tensor([[1.0], [-1.0], [2.0]]), 0, 0)
    assert torch.isnan(x[:, 0]).tolist() == [False, True, False]
    reasons = simulator.take_failures()
    assert list(reasons) == [1]
    assert reasons[1].startswith("ValueError: Expected parameter scale")


# --- what inference asks of the prior


@pytest.mark.parametrize("name", [name for name in MODELS if name != "nested"])
def test_the_support_is_known_and_maps_to_all_reals(name: str) -> None:
    prior: Any = MADE[name].prior
    theta = MADE[name].sample_prior(500, seed=0)
    assert prior.support.check(theta).all()
    transform = unconstrained(prior)
    free = transform.inv(theta.double())
    torch.testing.assert_close(transform(free), theta.double(), rtol=1e-5, atol=1e-5)
    anywhere = 3 * torch.randn(500, prior.event_shape[0], generator=torch.Generator().manual_seed(0))
    assert prior.support.check(transform(anywhere)).all()
    assert torch.isfinite(prior.log_prob(transform(anywhere))).all()


def test_bounds_that_depend_on_other_sites_are_not_made_up() -> None:
    prior = MADE["nested"].prior
    with pytest.raises(TypeError, match="the bounds of 'high' depend on other sites"):
        unconstrained(prior)
    inside = torch.tensor([[0.0, 1.0], [0.0, 3.0], [1.5, 3.0]])
    density = prior.log_prob(inside)
    assert density[1].isneginf()
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(density[[0, 2]], normal.log_prob(inside[[0, 2], 0]) - math.log(2))
    error = math.sqrt(1 + 1 / 3) / 100  # high has mean 1 and variance 1 + 4/12
    assert (prior.mean - torch.tensor([0.0, 1.0])).abs().max() < 5 * error


@pytest.mark.parametrize("vectorised", [True, False])
def test_off_the_support_the_density_is_zero(vectorised: bool) -> None:
    simulator = PyroSimulator(schools, args=(EFFECTS,), vectorised=vectorised)
    theta = simulator.sample_prior(3, seed=0)
    theta[1, 1] = -1.0
    assert simulator.prior.log_prob(theta).isneginf().tolist() == [False, True, False]
    assert simulator.log_likelihood(theta, EFFECTS).isneginf().tolist() == [False, True, False]
    counted = PyroSimulator(counts, observed=["x"], vectorised=vectorised)
    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]])
    assert counted.log_likelihood(torch.ones(2, 1), x).isneginf().tolist() == [False, True]


@pytest.mark.parametrize("vectorised", [True, False])
def test_gradients_of_densities_are_exact(vectorised: bool) -> None:
    """(Without a half-Cauchy, whose density torch computes in the precision of its scale.)"""

    def model() -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.LogNormal(0.0, 1.0))
        with pyro.plate("places", 3):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, ERRORS[:3]))

    simulator = PyroSimulator(model, observed=["y"], vectorised=vectorised)
    theta = simulator.sample_prior(3, seed=0).double().requires_grad_()

    def joint(theta: Tensor) -> Tensor:
        return simulator.prior.log_prob(theta) + simulator.log_likelihood(theta, EFFECTS[:3])

    assert torch.autograd.gradcheck(joint, theta)


def test_gradients_flow_through_rows_run_alone() -> None:
    simulator = PyroSimulator(schools, args=(EFFECTS,), vectorised=False)
    assert simulator.differentiable
    theta = simulator.sample_prior(2, seed=0).requires_grad_()
    (gradient,) = torch.autograd.grad(simulator.simulate(theta, seed=0).sum(), theta)
    assert torch.equal(gradient, torch.tensor([[0.0, 0, *[1] * 8]] * 2))


# --- what is left alone, and what it is


def test_the_parameter_store_and_outer_handlers_are_left_alone() -> None:
    with pyro.get_param_store().scope():
        pyro.param("theirs", torch.ones(2))
        before = pyro.get_param_store().get_state()["params"].keys()
        with pyro.poutine.trace() as tracer:
            simulator = PyroSimulator(conjugate, observed=["x"])
            theta = simulator.sample_prior(4, seed=0)
            simulator.prior.log_prob(theta)
            x = simulator.simulate(theta, seed=0)
        assert pyro.get_param_store().get_state()["params"].keys() == before
        assert {"mean", "x"} & set(tracer.trace.nodes) == set()
    assert torch.equal(MADE["conjugate"].simulate(theta, seed=0), x)


def test_densities_draw_nothing_from_the_users_generator() -> None:
    simulator = MADE["schools"]
    theta = simulator.sample_prior(4, seed=0)
    state = torch.random.get_rng_state()
    simulator.prior.log_prob(theta)
    simulator.log_likelihood(theta, EFFECTS)
    PyroSimulator(conjugate, observed=["x"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_draws_follow_torchs_generator_as_its_own_distributions_do() -> None:
    prior = MADE["schools"].prior
    with torch.random.fork_rng():
        torch.manual_seed(3)
        a, b = prior.sample((4,)), prior.sample((2, 2))
        torch.manual_seed(3)
        assert torch.equal(prior.sample((4,)), a)
    assert b.shape == (2, 2, 10)
    assert not torch.equal(a, b.reshape(4, 10))
    assert prior.sample().shape == (10,)
    assert prior.sample((0,)).shape == (0, 10)


def test_models_written_in_single_precision_are_run_in_it() -> None:
    cholesky = torch.eye(2)

    def model() -> None:
        place = pyro.sample("place", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.MultivariateNormal(place @ torch.ones(2, 2), scale_tril=cholesky))

    simulator = PyroSimulator(model, observed=["x"])
    theta = simulator.sample_prior(3, seed=0)
    x = simulator.simulate(theta.double(), seed=0)
    assert x.dtype == torch.float64
    assert torch.equal(x.float(), simulator.simulate(theta, seed=0))
    assert simulator.prior.log_prob(theta.double()).dtype == torch.float64


def test_settings_tell_one_version_from_another() -> None:
    simulator = MADE["schools"]
    settings = simulator.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["model"] == f"{__name__}.schools"
    assert (settings["observed"], settings["nuisance"], settings["vectorised"]) == (["y"], [], True)
    assert MODELS["schools"]().settings() == settings
    assert PyroSimulator(schools, args=(EFFECTS + 1,)).settings() != settings
    assert PyroSimulator(schools, observed=["y"], vectorised=False).settings() != settings


def test_it_travels_to_other_processes() -> None:
    simulator = MADE["schools"]
    copy = pickle.load(io.BytesIO(cloudpickle.dumps(simulator)))
    theta = simulator.sample_prior(5, seed=0)
    assert torch.equal(copy.sample_prior(5, seed=0), theta)
    assert torch.equal(copy.simulate(theta, seed=4), simulator.simulate(theta, seed=4))


def test_data_and_summaries_are_the_users() -> None:
    simulator = PyroSimulator(conjugate, observed={"x": [1, 2, 3, 4, 5]}, summarize=lambda x: x.mean(1), name="mine")
    assert simulator.observation("observed").tolist() == [1, 2, 3, 4, 5]
    assert simulator.summarize(torch.ones(3, 5)).shape == (3, 1)
    assert simulator.name == "mine"
    several = PyroSimulator(regression, observed={"count": 2.0, "table": torch.ones(5, 3)})
    assert several.observation("observed").tolist() == [2.0, *[1.0] * 15]


# --- what is refused


def a_param() -> None:
    scale = pyro.param("scale", torch.ones(()))
    pyro.sample("x", dist.Normal(pyro.sample("a", dist.Normal(0.0, 1.0)), scale))


def a_factor() -> None:
    pyro.factor("penalty", -(pyro.sample("a", dist.Normal(0.0, 1.0)) ** 2))
    pyro.sample("x", dist.Normal(0.0, 1.0))


def a_subsample() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample_size=5):
        pyro.sample("x", dist.Normal(a, 1.0))


def some_of_a_plate() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample=torch.arange(5)):
        pyro.sample("x", dist.Normal(a, 1.0))


def a_scale() -> None:
    with pyro.poutine.scale(scale=0.5):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(a, 1.0))


def a_mask() -> None:
    with pyro.poutine.mask(mask=False):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(a, 1.0))


def a_simplex() -> None:
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    pyro.sample("x", dist.Normal(shares[..., 0], 1.0))


def changing_sites() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    for i in range(int(10 * abs(float(a.reshape(-1)[0])))):
        pyro.sample(f"b_{i}", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(a, 1.0))


def after_the_data() -> None:
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("a", dist.Normal(x, 1.0))


def after_a_coin() -> None:
    coin = pyro.sample("coin", dist.Bernoulli(0.5))
    a = pyro.sample("a", dist.Normal(coin, 1.0))
    pyro.sample("x", dist.Normal(a, 1.0))


def same_names() -> None:
    pyro.sample("a_1", dist.Normal(0.0, 1.0))
    pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(0.0, 1.0))


def broken() -> None:
    raise KeyError("no such file")


@pytest.mark.parametrize(
    ("model", "settings", "error", "message"),
    [
        (3, {}, TypeError, "model: expected a Pyro model; got int"),
        (a_param, {}, ValueError, "model: 'scale' is a pyro.param"),
        (a_factor, {}, ValueError, "model: 'penalty' is a pyro.factor"),
        (a_subsample, {}, ValueError, "model: plate 'data' takes a subsample"),
        (some_of_a_plate, {}, ValueError, "model: plate 'data' takes a subsample"),
        (a_scale, {}, ValueError, "model: the density of 'a' is scaled by 0.5"),
        (a_mask, {}, ValueError, "model: 'a' is masked"),
        (a_simplex, {}, ValueError, "model: the numbers of 'shares' are bound to each other"),
        (changing_sites, {}, ValueError, "model: its sites differ from run to run"),
        (after_the_data, {}, ValueError, "model: the distribution of 'a' depends on what is drawn"),
        (after_a_coin, {"nuisance": ["coin"]}, ValueError, "model: the distribution of 'a' depends on what is drawn"),
        (same_names, {}, ValueError, "model: two parameters would be named 'a_1'; rename a site"),
        (broken, {}, ValueError, r"model: it raised for 20 of 20 draws; first: KeyError\('no such file'\)"),
        (mixture, {}, ValueError, "model: 'kind' is discrete, which parameters are not; list it in nuisance="),
        (mixture, {"nuisance": ["kind", "place"]}, ValueError, "model: no latent site is left to be a parameter"),
        (mixture, {"nuisance": ["knd"]}, ValueError, "nuisance: expected latent sites of the model; got 'knd'"),
        (mixture, {"nuisance": "kind"}, TypeError, "nuisance: expected a list of names of sites; got 'kind'"),
        (conjugate, {"observed": None}, ValueError, "observed: the model observes nothing; name sites among mean, x"),
        (conjugate, {"observed": ["y"]}, ValueError, "observed: expected sites among mean, x; got 'y'"),
        (conjugate, {"observed": []}, ValueError, "observed: expected names of different sites"),
        (conjugate, {"observed": "x"}, TypeError, "observed: expected a list of names of sites; got 'x'"),
        (conjugate, {"observed": {"x": [1, 2]}}, ValueError, r"observed: 'x' has shape \(5,\); got \(2,\)"),
        (schools, {"args": (EFFECTS,), "observed": ["tau"]}, ValueError, "observed: the model observes 'y', too"),
        (conjugate, {"vectorised": "yes"}, TypeError, "vectorised: expected True, False or None; got 'yes'"),
        (conjugate, {"summarize": 3}, TypeError, "summarize: expected a callable or None; got int"),
    ],
)
def test_what_is_no_prior_and_simulator_is_refused(
    model: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PyroSimulator(model, **{"observed": ["x"], **settings})


def test_data_of_another_shape_has_no_likelihood() -> None:
    with pytest.raises(ValueError, match=r"x: expected shape \(5,\), or n of it; got \(4,\)"):
        MADE["conjugate"].log_likelihood(torch.ones(2, 1), torch.ones(4))
