"""One contract that every simulator keeps."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from implicit_simulators import (
    AlphaStable,
    Blowflies,
    CommandSimulator,
    CoxIngersollRoss,
    DoubleWell,
    Epidemic,
    FitzHughNagumo,
    FunctionSimulator,
    GAndK,
    GaussianNoise,
    Lorenz96,
    LotkaVolterra,
    MG1Queue,
    Missing,
    MovingAverage,
    OrnsteinUhlenbeck,
    PoissonSource,
    PredatorPrey,
    PyroSimulator,
    ReactionNetwork,
    Repeated,
    Ricker,
    Rosenbrock,
    Schlogl,
    SEIREpidemic,
    Simulator,
    SIREpidemic,
    StepSimulator,
    StochasticVolatility,
    Stream,
    ThreeHump,
    ToggleSwitch,
    Weinberg,
    simulators,
)
from implicit_simulators.benchmark import (
    SIR,
    SLCP,
    BernoulliGLM,
    BernoulliGLMRaw,
    GaussianLinear,
    GaussianLinearUniform,
    GaussianMixture,
    SLCPDistractors,
    TwoMoons,
)
from implicit_simulators.benchmark import LotkaVolterra as BenchmarkLotkaVolterra


def rows(theta: Any) -> Any:
    return np.random.normal(theta, size=(3, 2))  # noqa: NPY002 - as users write it


def wait() -> None:
    rate = pyro.sample("rate", dist.LogNormal(0.0, 0.5))
    with pyro.plate("visits", 3):
        pyro.sample("wait", dist.LogNormal(-rate.log(), 0.5))


PROGRAM = """
import json, random, sys
for line in sys.stdin:
    given = json.loads(line)
    random.seed(given["seed"])
    print([random.gauss(given["place"], given["spread"]) for _ in range(3)], flush=True)
"""


def walk(x: float, drift: float, spread: float, z: float) -> tuple[float, ...]:
    return (x + drift + spread * z,)


def batch(theta: Any, generator: torch.Generator) -> Any:
    return theta + torch.rand(len(theta), 1, generator=generator)


DIMERS: dict[str, Any] = {
    "stoichiometry": [[-2, 1], [2, -1]],
    "reactants": [[2, 0], [0, 1]],
    "prior": ([0.0, 0.0], [0.01, 1.0]),
    "times": [0.0, 0.3, 1.0],
}

SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "lotka-volterra, ode": LotkaVolterra,
    "lotka-volterra, sde": lambda: LotkaVolterra("sde", substeps=5),
    "lotka-volterra, jump": lambda: LotkaVolterra("jump", max_events=100_000),
    "lotka-volterra, tau": lambda: LotkaVolterra("tau", max_events=10_000),
    "epidemic": Epidemic,
    "predator-prey": PredatorPrey,
    "predator-prey, sde": lambda: PredatorPrey("sde", duration=1.0, substeps=5),
    "schlogl": lambda: Schlogl(duration=1.0),
    "sir": SIREpidemic,
    "sir, chain": lambda: SIREpidemic("chain-binomial"),
    "seir": SEIREpidemic,
    "reaction network": lambda: ReactionNetwork(initial=[60, 10], **DIMERS),
    "reaction network, sde": lambda: ReactionNetwork(
        initial=[60, 10], dynamics="sde", substeps=5, noise=GaussianNoise(0.1), **DIMERS
    ),
    "two-moons": TwoMoons,
    "gaussian-linear": GaussianLinear,
    "gaussian-linear-uniform": GaussianLinearUniform,
    "slcp": SLCP,
    "slcp-distractors": SLCPDistractors,
    "bernoulli-glm": BernoulliGLM,
    "bernoulli-glm-raw": BernoulliGLMRaw,
    "gaussian-mixture": GaussianMixture,
    "benchmark-sir": SIR,
    "benchmark-lotka-volterra": BenchmarkLotkaVolterra,
    "g-and-k": lambda: GAndK(n_obs=50),
    "alpha-stable": lambda: AlphaStable(n_obs=50),
    "moving-average": MovingAverage,
    "mg1-queue": MG1Queue,
    "stochastic-volatility": StochasticVolatility,
    "ornstein-uhlenbeck": OrnsteinUhlenbeck,
    "ornstein-uhlenbeck, euler": lambda: OrnsteinUhlenbeck(n_obs=10, initial=0.05, scheme="euler", substeps=3),
    "cox-ingersoll-ross": lambda: CoxIngersollRoss(n_obs=10),
    "cox-ingersoll-ross, exact": lambda: CoxIngersollRoss(n_obs=5, scheme="exact"),
    "ricker": Ricker,
    "rosenbrock": Rosenbrock,
    "three-hump": ThreeHump,
    "blowflies": lambda: Blowflies(steps=40, burn_in=10),
    "toggle-switch": lambda: ToggleSwitch(cells=20, steps=20),
    "lorenz-96": lambda: Lorenz96(duration=1.0),
    "double-well": lambda: DoubleWell(points=20),
    "weinberg": Weinberg,
    "poisson-source": PoissonSource,
    "fitzhugh-nagumo": lambda: FitzHughNagumo(duration=8.0),
    "pyro": lambda: PyroSimulator(wait, observed=["wait"]),
    "command": lambda: CommandSimulator(
        [sys.executable, "-c", PROGRAM],
        prior=([0.0, 1.0], [1.0, 4.0]),
        parameter_names=["place", "spread"],
        protocol="lines",
    ),
    "function": lambda: FunctionSimulator(batch, prior=([0.0, 1.0], [1.0, 4.0]), differentiable=True),
    "step": lambda: StepSimulator(walk, prior=([0.0, 0.5], [1.0, 4.0]), initial=[0.0], steps=8, differentiable=True),
    "repeated": lambda: Repeated(LotkaVolterra("sde", substeps=5), 3),
    "repeated at random": lambda: Repeated(GaussianLinear(3), 4, fewest=2),
    "missing": lambda: Missing(GaussianLinear(3), (0.1, 0.6)),
    "missing by pattern": lambda: Missing(LotkaVolterra(), [[[False, True]] + 20 * [[False, False]]], fill=1.0),
    "function of a row": lambda: FunctionSimulator(rows, prior=([0.0, 1.0], [1.0, 4.0]), batched=False, array="numpy"),
}
MADE = {name: make() for name, make in SIMULATORS.items()}

DIFFERENTIABLE = [name for name, simulator in MADE.items() if simulator.differentiable]
OBSERVED = [(name, observed) for name, simulator in MADE.items() for observed in simulator.observations]


@pytest.fixture(params=MADE)
def simulator(request: pytest.FixtureRequest) -> Simulator:
    return MADE[request.param]


def same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, failed rows too."""
    return torch.equal(a.nan_to_num(-1e30), b.nan_to_num(-1e30))


def test_the_catalogue_is_under_contract() -> None:
    assert {type(simulator) for simulator in MADE.values()} >= set(simulators().values())
    for name, kind in simulators().items():
        assert kind().name == kind.name == name


def test_names_and_shapes_agree(simulator: Simulator) -> None:
    assert simulator.prior.event_shape == (simulator.dim,)
    assert simulator.prior.batch_shape == ()
    assert isinstance(simulator.event_shape, torch.Size)
    assert len(set(simulator.parameter_names)) == simulator.dim
    assert all(name.isidentifier() for name in simulator.parameter_names)


def test_reference_parameters_are_inside_the_prior(simulator: Simulator) -> None:
    if simulator.reference_theta is not None:
        theta = torch.tensor(simulator.reference_theta)
        assert theta.shape == (simulator.dim,)
        assert torch.isfinite(simulator.prior.log_prob(theta))


def test_shape_and_dtype(simulator: Simulator) -> None:
    theta = simulator.sample_prior(7, seed=0)
    assert theta.dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        x = simulator.simulate(theta.to(dtype), seed=0)
        assert x.shape == (7, *simulator.event_shape)
        assert x.dtype == dtype
        assert x.device == theta.device
    assert simulator.simulate(theta[:0], seed=0).shape == (0, *simulator.event_shape)


def test_few_rows_of_the_prior_fail(simulator: Simulator) -> None:
    x = simulator.simulate(simulator.sample_prior(300, seed=0), seed=0).reshape(300, -1)
    assert torch.isfinite(x).all(1).float().mean() > 0.75


def test_the_same_seed_gives_the_same_numbers_and_another_others(simulator: Simulator) -> None:
    theta = simulator.sample_prior(50, seed=0)
    x = simulator.simulate(theta, seed=3)
    assert same(simulator.simulate(theta, seed=3), x)
    assert same(simulator.simulate(theta, seed=torch.Generator().manual_seed(5)), _with_generator(simulator, theta))
    assert not same(simulator.simulate(theta, seed=4), x)
    assert not same(simulator.simulate(theta), simulator.simulate(theta))


def _with_generator(simulator: Simulator, theta: Tensor) -> Tensor:
    return simulator.simulate(theta, seed=torch.Generator().manual_seed(5))


def test_rows_with_the_same_parameters_differ(simulator: Simulator) -> None:
    theta = simulator.sample_prior(1, seed=1).repeat(20, 1)
    x = simulator.simulate(theta, seed=0).reshape(20, -1)
    assert x.unique(dim=0).shape[0] >= 5  # epidemics that die out at once are all alike


def test_a_row_does_not_depend_on_how_many_follow(simulator: Simulator) -> None:
    """The third block of 2500 rows is cut to 500; so is the second of 1500, in other places."""
    theta = simulator.sample_prior(1, seed=1).repeat(2500, 1)
    x = simulator.simulate(theta, seed=0)
    if simulator.name == "batch":
        theta, x = theta[:2000], x[:2000]  # a user's function fills its blocks as it likes
        assert same(simulator.simulate(theta[:1000], seed=0), x[:1000])
    else:
        assert same(simulator.simulate(theta[:1500], seed=0), x[:1500])
    second = slice(simulator.block, 2 * simulator.block)
    assert same(simulator.simulate_block(theta[second], 0, 1), x[second])


def test_a_row_does_not_depend_on_the_parameters_of_others(simulator: Simulator) -> None:
    theta = simulator.sample_prior(40, seed=1)
    other = torch.cat((simulator.sample_prior(39, seed=2), theta[39:]))
    x, y = simulator.simulate(theta, seed=0), simulator.simulate(other, seed=0)
    assert same(x[39:], y[39:])


def test_blocks_have_different_numbers(simulator: Simulator) -> None:
    theta = simulator.sample_prior(1, seed=1).repeat(20, 1)
    assert not same(simulator.simulate_block(theta, 0, 0), simulator.simulate_block(theta, 0, 1))


def test_prior_draws_are_inside_the_support(simulator: Simulator) -> None:
    theta = simulator.sample_prior(1000, seed=0)
    assert theta.shape == (1000, simulator.dim)
    assert simulator.prior.support.check(theta).all()  # type: ignore[union-attr]  # all of these have one
    assert torch.isfinite(simulator.prior.log_prob(theta)).all()
    assert theta.unique(dim=0).shape == theta.shape


def test_global_generators_are_left_alone(simulator: Simulator) -> None:
    def state() -> list[Any]:
        return [torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index]  # noqa: NPY002 - what must not change

    before = state()
    simulator.summarize(simulator.simulate(simulator.sample_prior(5, seed=0), seed=0))
    assert state() == before


def test_theta_is_left_alone(simulator: Simulator) -> None:
    theta = simulator.sample_prior(5, seed=0)
    before = theta.clone()
    simulator.simulate(theta, seed=0)
    assert torch.equal(theta, before)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_the_path(name: str) -> None:
    """In double precision, at the prior's middle, along one random direction."""
    simulator = MADE[name]
    theta = simulator.prior.mean.double()[None]
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(theta.shape, generator=generator, dtype=torch.float64) * theta.abs().clamp_min(0.1)
    x, slope = torch.autograd.functional.jvp(lambda t: simulator.simulate(t, seed=1), theta, direction)
    step = 1e-6
    ahead, behind = (simulator.simulate(theta + s * direction, seed=1) for s in (step, -step))
    assert (slope != 0).any()
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6 * float(x.abs().max()))


def test_the_others_give_no_graph() -> None:
    for name in set(MADE) - set(DIFFERENTIABLE):
        theta = MADE[name].sample_prior(3, seed=0).requires_grad_()
        assert not MADE[name].simulate(theta, seed=0).requires_grad, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_it_runs_unchanged_on_an_accelerator(simulator: Simulator) -> None:
    """Where the parameters are, the data are, with the same law; compiled code and adapters go by way of the CPU."""
    theta = simulator.sample_prior(1, seed=0).repeat(200, 1)
    here, there = simulator.simulate(theta, seed=1), simulator.simulate(theta.cuda(), seed=1)
    assert there.device.type == "cuda"
    assert (there.dtype, there.shape) == (here.dtype, here.shape)
    assert same(simulator.simulate(theta.cuda(), seed=1), there)
    x, y = (part.reshape(200, -1)[:, 0].double().cpu() for part in (here, there))
    x, y = x[torch.isfinite(x)], y[torch.isfinite(y)]
    assert (x.mean() - y.mean()).abs() <= 6 * ((x.var() + y.var()) / 200).sqrt() + 1e-6 * x.abs().max()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda theta: theta[0], r"theta: expected shape \(n, "),
        (lambda theta: torch.cat((theta, theta), 1), r"theta: expected shape \(n, "),
        (lambda theta: theta * torch.nan, "theta: expected finite values; 3 of 3 rows"),
    ],
)
def test_bad_theta_is_refused(simulator: Simulator, spoil: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulator.simulate(spoil(simulator.sample_prior(3, seed=0)), seed=0)


def test_settings_can_be_written_down(simulator: Simulator) -> None:
    assert json.loads(json.dumps(simulator.settings())) == simulator.settings()
    assert type(simulator).__name__ in repr(simulator)


def test_summaries_are_rows_of_finite_numbers(simulator: Simulator) -> None:
    x = simulator.simulate(simulator.sample_prior(40, seed=0), seed=0)
    x = x[torch.isfinite(x).reshape(40, -1).all(1)]
    s = simulator.summarize(x)
    assert s.ndim == 2
    assert len(s) == len(x)
    assert torch.isfinite(s).all()


@pytest.mark.parametrize(("name", "observed"), OBSERVED)
def test_shipped_observations_fit(name: str, observed: str) -> None:
    x = MADE[name].observation(observed)
    assert x.shape == MADE[name].event_shape
    assert x.dtype == torch.float32
    assert MADE[name].check_observation(x) is x
    with pytest.raises(ValueError, match=f"observation: .* ships (.*, )?{observed}(, .*)?; got 'nothing'"):
        MADE[name].observation("nothing")


LIKELIHOODS = [
    "pyro",
    "lotka-volterra, ode",
    "two-moons",
    "gaussian-linear",
    "gaussian-linear-uniform",
    "slcp",
    "slcp-distractors",
    "bernoulli-glm",
    "bernoulli-glm-raw",
    "gaussian-mixture",
    "benchmark-sir",
    "benchmark-lotka-volterra",
    "g-and-k",
    "moving-average",
    "ornstein-uhlenbeck",
    "ornstein-uhlenbeck, euler",
    "cox-ingersoll-ross, exact",
    "weinberg",
    "poisson-source",
]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_known_likelihoods_prefer_their_own_parameters(name: str) -> None:
    r"""E[log p(x|theta) - log p(x|theta')] is a Kullback-Leibler divergence: positive, for any pair."""
    simulator: Any = MADE[name]
    theta = simulator.sample_prior(500, seed=0)
    x = simulator.simulate(theta, seed=1)
    gain = simulator.log_likelihood(theta, x) - simulator.log_likelihood(theta.roll(1, 0), x)
    gain = gain[torch.isfinite(gain)].clamp(-50, 50)  # bounded, and still of positive expectation
    assert len(gain) > 400
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize(
    "name", ["two-moons", "gaussian-linear", "gaussian-linear-uniform", "gaussian-mixture", "poisson-source"]
)
def test_known_posteriors_are_calibrated(name: str) -> None:
    """For theta, x from the joint distribution, theta's rank among posterior draws is uniform (Talts et al., 2018)."""
    simulator: Any = MADE[name]
    n, draws = 300, 49
    theta = simulator.sample_prior(n, seed=0)
    x = simulator.simulate(theta, seed=1)
    with Stream.of(2).forked():
        ranks = torch.stack([(simulator.posterior(x[i]).sample((draws,)) < theta[i]).sum(0) for i in range(n)])
    counts = torch.stack([torch.histc(column.float(), 10, 0, draws + 1) for column in ranks.T])
    statistic = ((counts - n / 10) ** 2 / (n / 10)).sum(1)
    assert (statistic < 33.7).all()  # chi-squared, 9 degrees of freedom: exceeded once in 10,000
