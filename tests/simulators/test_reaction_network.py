"""Reaction networks: one description run four ways, against laws that are known and against one another."""

from __future__ import annotations

import json
import math

import cloudpickle
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import LogNormal, Uniform

from implicit_simulators.engines.mass_action import mass_action
from implicit_simulators.measurement import BinomialNoise, GaussianNoise, LogNormalNoise, PoissonNoise
from implicit_simulators.reaction_network import ReactionNetwork

TRIES = 1e-3

DIMERS = {
    "stoichiometry": [[-2, 1], [2, -1]],
    "reactants": [[2, 0], [0, 1]],
    "prior": ([0.0, 0.0], [0.01, 1.0]),
    "initial": [60, 10],
    "times": [0.0, 0.3, 1.0],
    "species": ["monomer", "dimer"],
    "parameter_names": ["join", "split"],
}
THETA = torch.tensor([[0.01, 0.5]], dtype=torch.float64)


def dimers(**settings) -> ReactionNetwork:
    return ReactionNetwork(**{**DIMERS, **settings})


def saturating(x, made, most, half):
    return made, most * x / (half + x)


def arrivals(**settings) -> ReactionNetwork:
    """Immigration at a saturating rate of leaving; the noise, and where it starts, are parameters too."""
    given = {
        "stoichiometry": [[1], [-1]],
        "propensities": saturating,
        "prior": [Uniform(5.0, 10.0), Uniform(15.0, 30.0), LogNormal(3.0, 0.1), Uniform(0.0, 50.0), Uniform(0.1, 0.4)],
        "initial": ["start"],
        "times": [0, 1, 2, 4],
        "parameter_names": ["made", "most", "half", "start", "sigma"],
        "noise": LogNormalNoise("sigma"),
    }
    return ReactionNetwork(**{**given, **settings})


@pytest.fixture(scope="module")
def master_equation() -> np.ndarray:
    """The law of the number of dimers at time 1: the matrix exponential of the network's generator."""
    monomers = 60 + 2 * 10
    join, split = THETA[0].tolist()
    size = monomers // 2 + 1
    generator = np.zeros((size, size))
    for dimer in range(size):
        free = monomers - 2 * dimer
        for to, rate in ((dimer + 1, join * free * (free - 1) / 2), (dimer - 1, split * dimer)):
            if rate:
                generator[dimer, to] += rate
                generator[dimer, dimer] -= rate
    return scipy.linalg.expm(generator)[10]


def test_the_jump_process_has_the_law_of_the_master_equation(master_equation: np.ndarray) -> None:
    n = 20_000
    x = dimers().simulate(THETA.expand(n, -1), seed=0)
    assert (x[:, 0] == torch.tensor([60.0, 10.0])).all()
    assert (x[:, :, 0] + 2 * x[:, :, 1] == 80).all()
    observed, expected = np.bincount(x[:, 2, 1].long(), minlength=41), n * master_equation
    usual = expected > 10
    observed, expected = (np.append(c[usual], c[~usual].sum()) for c in (observed, expected))
    assert scipy.stats.chisquare(observed, expected).pvalue > TRIES


@pytest.mark.parametrize(("dynamics", "bias"), [("tau", 0.02), ("sde", 0.02)])
def test_approximations_have_nearly_the_moments_of_the_master_equation(
    master_equation: np.ndarray, dynamics: str, bias: float
) -> None:
    """Five standard errors and a bias of ``bias`` in the mean, ten times that in the variance."""
    n = 5000
    x = dimers(dynamics=dynamics, epsilon=0.01).simulate(THETA.expand(n, -1), seed=0)[:, 2, 1]
    k = np.arange(41)
    mean = (master_equation * k).sum()
    variance = (master_equation * (k - mean) ** 2).sum()
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / n) + bias * mean
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(2 / n) + 10 * bias


def test_rate_equations_are_those_of_scipy() -> None:
    def field(_, z):
        join, split = THETA[0].tolist()
        flow = join * z[0] ** 2 / 2 - split * z[1]
        return [-2 * flow, flow]

    found = scipy.integrate.solve_ivp(field, (0, 1), [60.0, 10.0], t_eval=DIMERS["times"], rtol=1e-10, atol=1e-10)
    x = dimers(dynamics="ode").simulate(THETA, seed=0)
    torch.testing.assert_close(x[0], torch.tensor(found.y.T), rtol=1e-7, atol=0)


@pytest.mark.parametrize("dynamics", ["sde", "ode"])
def test_gradients_are_those_of_the_path(dynamics: str) -> None:
    simulator = arrivals(dynamics=dynamics, substeps=5)
    theta = simulator.prior.mean.double()[None]
    jacobian = torch.autograd.functional.jacobian(lambda t: simulator.simulate(t, seed=1), theta)[0, ..., 0, :]
    for j in range(5):
        step = torch.zeros_like(theta)
        step[0, j] = 1e-6
        slope = (simulator.simulate(theta + step, seed=1) - simulator.simulate(theta - step, seed=1))[0] / 2e-6
        torch.testing.assert_close(jacobian[..., j], slope, rtol=1e-5, atol=1e-5)
        assert (slope != 0).any()


def test_langevin_noise_is_that_of_the_reactions() -> None:
    """Immigration at rate a and death at rate b x from the stationary mean: variance a / b (1 - exp(-2 b t))."""
    n, a, b, t = 4000, 400.0, 1.0, 1.0
    simulator = ReactionNetwork(
        [[1], [-1]],
        lambda x, a, b: (a, b * x),
        prior=([0.0, 0.0], [500.0, 2.0]),
        initial=[a / b],
        times=[0, t],
        dynamics="sde",
        substeps=100,
    )
    x = simulator.simulate(torch.tensor([[a, b]]).expand(n, -1), seed=0)[:, 1, 0]
    variance = a / b * (1 - math.exp(-2 * b * t))
    assert abs(x.mean() - a / b) < 5 * math.sqrt(variance / n)
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(2 / n) + 2 * b * t / 100  # the step's bias


def test_initial_counts_come_from_theta() -> None:
    simulator = arrivals(noise=GaussianNoise("sigma"))
    theta = torch.tensor([[0.0, 0.0, 20.0, 33.4, 0.0], [0.0, 0.0, 20.0, -3.0, 0.0]])
    x = simulator.simulate(theta, seed=0)[:, :, 0]
    assert (x[0] == 33).all()  # whole individuals
    assert torch.isnan(x[1]).all()
    x = arrivals(noise=GaussianNoise("sigma"), dynamics="ode").simulate(theta, seed=0)[:, :, 0]
    torch.testing.assert_close(x[0], torch.full((4,), 33.4))
    assert torch.isnan(x[1]).all()


@pytest.mark.parametrize("dynamics", ["jump", "tau", "sde", "ode"])
def test_negative_rates_are_failed_rows(dynamics: str) -> None:
    x = dimers(dynamics=dynamics).simulate([[0.005, -0.2], [0.005, 0.2]], seed=0)
    assert torch.isnan(x[0, 1:]).all()
    assert torch.isfinite(x[1]).all()


@pytest.mark.parametrize("dynamics", ["tau", "sde", "ode"])
def test_explosions_are_failed_rows(dynamics: str) -> None:
    """x' = x^2 from 50 reaches infinity at time 1/50."""
    given = {"stoichiometry": [[1]], "reactants": [[2]], "prior": ([1.0], [3.0]), "initial": [50], "times": [0, 1]}
    x = ReactionNetwork(**given, dynamics=dynamics, max_events=2000).simulate([[2.0]], seed=0)
    assert x[0, 0, 0] == 50
    assert torch.isnan(x[0, 1, 0])


def test_only_recorded_species_are_shown() -> None:
    both, one = dimers(), dimers(record=["dimer"])
    assert one.event_shape == (3, 1)
    assert one.event_labels == ("dimer",)
    assert torch.equal(one.simulate(THETA, seed=3), both.simulate(THETA, seed=3)[:, :, 1:])


N = 4000


@pytest.mark.parametrize(
    ("noise", "mean", "variance"),
    [
        (GaussianNoise([2.0, 0.5]), [60.0, 10.0], [4.0, 0.25]),
        (PoissonNoise(0.5), [30.0, 5.0], [30.0, 5.0]),
        (BinomialNoise([0.3, 1.0]), [18.0, 10.0], [60 * 0.3 * 0.7, 0.0]),
    ],
)
def test_noise_has_its_moments(noise, mean: list[float], variance: list[float]) -> None:
    """At the initial counts, which are known; 5 standard errors."""
    x = dimers(noise=noise).simulate(THETA.expand(N, -1), seed=0)[:, 0]
    m, v = torch.tensor(mean, dtype=x.dtype), torch.tensor(variance, dtype=x.dtype)
    assert ((x.mean(0) - m).abs() <= 5 * (v / N).sqrt()).all()
    assert ((x.var(0) - v).abs() <= 5 * v * (2 / N + 1 / (5 * N)) ** 0.5).all()  # and the excess of a Poisson number


def test_log_normal_noise_is_that_of_its_parameter() -> None:
    theta = torch.tensor([[7.0, 20.0, 20.0, 25.0, 0.2]]).expand(N, -1)
    z = arrivals().simulate(theta, seed=0)[:, 0, 0].log() - math.log(25)
    assert abs(z.mean()) < 5 * 0.2 / N**0.5
    assert abs(z.std() / 0.2 - 1) < 5 / (2 * N) ** 0.5


def test_noise_out_of_range_is_a_failed_row() -> None:
    theta = torch.tensor([[7.0, 20.0, 20.0, 25.0, -0.2], [7.0, 20.0, 20.0, 25.0, 0.2]])
    for noise in (LogNormalNoise("sigma"), GaussianNoise("sigma"), PoissonNoise("sigma"), BinomialNoise("sigma")):
        x = arrivals(noise=noise).simulate(theta, seed=0)
        assert torch.isnan(x[0]).all()
        assert torch.isfinite(x[1]).all()
    assert torch.isnan(arrivals(noise=BinomialNoise("sigma")).simulate(theta[1:] + 1, seed=0)).all()


def test_noise_leaves_the_populations_as_they_were() -> None:
    plain, noisy = (dimers(noise=noise).simulate(THETA, seed=5) for noise in (None, GaussianNoise(1e-9)))
    torch.testing.assert_close(plain, noisy, rtol=0, atol=1e-7)


def test_mass_action_counts_choices() -> None:
    """x, x y, x (x - 1) / 2, x (x - 1)(x - 2) / 6 and a constant; powers where counts are large."""
    reactants = ((1, 0), (1, 1), (2, 0), (3, 0), (0, 0), (1, 2))
    constants = (2.0, 3.0, 5.0, 7.0, 11.0, 13.0)
    for x, y in ((0, 0), (1, 1), (2, 1), (7, 4)):
        expected = [c * math.comb(x, a) * math.comb(y, b) for c, (a, b) in zip(constants, reactants, strict=True)]
        assert mass_action(reactants)(float(x), float(y), *constants) == pytest.approx(expected)
    powers = mass_action(reactants, continuous=True)(7.0, 4.0, *constants)
    assert powers == pytest.approx((14, 84, 5 * 49 / 2, 7 * 343 / 6, 11, 13 * 7 * 8))
    assert mass_action(reactants) is mass_action(reactants)


def test_data_summaries_and_reference_are_the_users() -> None:
    simulator = dimers(
        observed=np.array([[60, 10], [40, 20], [30, 25]]),
        summarize=lambda x: x.mean(1),
        reference_theta=[0.005, 0.2],
        name="pairs",
    )
    assert simulator.name == "pairs"
    assert simulator.observation("observed")[1].tolist() == [40, 20]
    assert simulator.summarize(simulator.observation("observed")[None]).shape == (1, 2)
    assert simulator.reference_theta == pytest.approx((0.005, 0.2))
    assert dimers().observations == ()
    with pytest.raises(ValueError, match="summarize: expected 1 rows of statistics"):
        dimers(summarize=lambda x: x[0]).summarize(torch.ones(1, 3, 2))


def test_settings_tell_networks_apart() -> None:
    def slower(x, made, most, half):
        return made, 0.5 * most * x / (half + x)

    made = [dimers(), dimers(dynamics="tau"), dimers(dynamics="ode"), dimers(initial=[60, 11]), dimers(times=[0, 1, 2])]
    made += [dimers(noise=GaussianNoise(1.0)), dimers(noise=GaussianNoise(2.0)), dimers(record=["dimer"])]
    made += [arrivals(), arrivals(propensities=slower)]
    settings = [json.dumps(simulator.settings()) for simulator in made]
    assert len(set(settings)) == len(made)
    assert [json.loads(s) for s in settings] == [simulator.settings() for simulator in made]


def test_a_network_travels_to_other_processes() -> None:
    simulator = dimers()
    again = cloudpickle.loads(cloudpickle.dumps(simulator))
    assert again._rates() is simulator._rates()  # not compiled once more
    assert torch.equal(again.simulate(THETA, seed=0), simulator.simulate(THETA, seed=0))


def branching(x, a, b):
    return (a if x > 5 else 0.0), b * x


def test_a_function_with_conditions_is_compiled_but_not_traced() -> None:
    given = {"stoichiometry": [[1], [-1]], "prior": ([0.0, 0.0], [1.0, 1.0]), "initial": [9], "times": [0, 1]}
    with pytest.raises(ValueError, match=r"called with torch columns.*it raised RuntimeError.*torch.where"):
        ReactionNetwork(propensities=branching, dynamics="sde", **given)
    with pytest.raises(ValueError, match=r"called with torch columns.*it raised (TypeError|ValueError)"):
        ReactionNetwork(propensities=lambda x, a, b: (a, b * math.exp(-x)), dynamics="ode", **given)
    with pytest.raises(ValueError, match="it gave other rates than for its rows"):
        ReactionNetwork(propensities=lambda x, a, b: (a, b * x.sum()), dynamics="ode", **given)
    traced = ReactionNetwork(propensities=lambda x, a, b: (a, b * torch.exp(-x)), dynamics="ode", **given)
    assert torch.isfinite(traced.simulate([[0.5, 0.5]], seed=0)).all()


def test_a_function_that_numba_cannot_compile_is_refused() -> None:
    def foreign(x, a):
        return (a * x.__round__(),)

    simulator = ReactionNetwork([[-1]], foreign, prior=([0.0], [1.0]), initial=[3], times=[0, 1])
    with pytest.raises(TypeError, match="propensities: numba could not compile the function, which dynamics='jump'"):
        simulator.simulate([[0.5]], seed=0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"dynamics": "pde"}, ValueError, "dynamics: expected one of jump, tau, sde, ode; got 'pde'"),
        ({"reactants": None}, ValueError, "propensities: expected a function, or reactants"),
        ({"stoichiometry": [1, 2]}, ValueError, r"stoichiometry: expected shape \(R, k\)"),
        ({"stoichiometry": [[-0.5, 1], [2, -1]]}, ValueError, "stoichiometry: expected integers"),
        ({"reactants": [[2, 0]]}, ValueError, r"reactants: expected integers with shape \(2, 2\)"),
        ({"propensities": 3.0}, TypeError, "propensities: expected a Python function; got float"),
        ({"propensities": lambda *x: x}, TypeError, "propensities: expected positional arguments only"),
        ({"propensities": lambda x, y, a, b: (a, b, 0.0)}, ValueError, "propensities: expected a tuple of 2 rates"),
        ({"propensities": lambda x, y, a, b: (a,), "dynamics": "ode"}, ValueError, "expected a tuple of 2 rates"),
        ({"prior": ([0.0], [1.0]), "parameter_names": None}, ValueError, "prior: the rates take 2 parameters"),
        (
            {"prior": ([0.0] * 3, [1.0] * 3), "parameter_names": ["a", "b", "c"]},
            ValueError,
            "prior: the rates take the first 2 of 3 parameters; nothing uses c",
        ),
        ({"initial": [60]}, ValueError, "initial: expected 2 counts or names of parameters"),
        ({"initial": [60.5, 1]}, ValueError, "initial: expected a non-negative whole number of monomer; got 60.5"),
        ({"initial": [60, -1]}, ValueError, "initial: expected a non-negative whole number of dimer; got -1"),
        ({"initial": [60, "first"]}, ValueError, "initial: 'first' is not among parameter_names"),
        ({"noise": GaussianNoise("sigma")}, ValueError, "noise: 'sigma' is not among parameter_names"),
        ({"noise": GaussianNoise([1.0] * 3)}, ValueError, "sd: expected 1 or 2, one a species; got 3"),
        ({"noise": 1.0}, TypeError, "noise: expected a noise model"),
        ({"species": ["a"]}, ValueError, "species: expected 2 different names"),
        ({"parameter_names": "ab"}, TypeError, "parameter_names: expected 2 strings"),
        ({"record": ["trimer"]}, ValueError, "record: expected different names among species"),
        ({"record": []}, ValueError, "record: expected different names among species"),
        ({"times": [1, 0]}, ValueError, "times: expected finite, increasing numbers"),
        ({"substeps": 0}, ValueError, "substeps: expected a positive int; got 0"),
        ({"max_events": 0}, ValueError, "max_events: expected a positive int; got 0"),
        ({"dynamics": "tau", "epsilon": 2.0}, ValueError, "epsilon: expected a number in"),
        ({"summarize": 1}, TypeError, "summarize: expected a callable or None"),
        ({"observed": [[1.0]]}, ValueError, r"observed: reaction-network expects shape \(3, 2\)"),
        ({"reference_theta": [1.0]}, ValueError, "theta: expected shape"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dimers(**settings)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GaussianNoise(-1.0), ValueError, r"sd: expected a number in \[0, inf\]; got -1.0"),
        (lambda: BinomialNoise(1.5), ValueError, r"probability: expected a number in \[0, 1\]; got 1.5"),
        (lambda: PoissonNoise(math.nan), ValueError, "scale: expected a number"),
        (lambda: GaussianNoise([True]), TypeError, "sd: expected numbers or names of parameters; got True"),
    ],
)
def test_impossible_noise_is_refused(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
