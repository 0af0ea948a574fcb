"""Each task draws from the same distribution as the benchmark's own simulator, and has the same prior.

SIR and Lotka-Volterra run the benchmark's code for everything but the differential equation, which SciPy solves in
place of Julia.
"""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import ks_2samp
from torch import Tensor

from implicit_simulators import simulators
from implicit_simulators.benchmark import SIR, LotkaVolterra, published
from implicit_simulators.benchmark.publication import DIMENSIONS
from implicit_simulators.benchmark.slcp_distractors import mixture

THEIRS = {name: name.removeprefix("benchmark-").replace("-", "_") for name in DIMENSIONS}


class DiffEq:
    """What the benchmark calls to solve a differential equation, with SciPy behind it."""

    jl = types.SimpleNamespace(eval=lambda code: None)

    def __init__(self, f: str, saveat: float, debug: bool) -> None:
        self.field, self.saveat = (_epidemic if "S,I,R = u" in f else _populations), saveat
        self.solve = functools.lru_cache(self._solve)

    def __call__(self, initial: Tensor, span: Tensor, p: Tensor) -> Any:
        return self.solve(tuple(initial.tolist()), tuple(span.tolist()), tuple(p.tolist()))

    def _solve(self, initial: Any, span: Any, p: Any) -> Any:
        times = np.linspace(span[0], span[1], round(span[1] / self.saveat) + 1)
        solution = solve_ivp(self.field, span, initial, "DOP853", times, args=(p,), rtol=1e-10, atol=1e-10)
        return torch.from_numpy(solution.y), torch.from_numpy(solution.t)


def _epidemic(_: float, u: Any, p: Any) -> Any:
    infection = p[0] * u[0] * u[1] / 1e6
    return [-infection, infection - p[1] * u[1], p[1] * u[1]]


def _populations(_: float, u: Any, p: Any) -> Any:
    return [p[0] * u[0] - p[1] * u[0] * u[1], -p[2] * u[1] + p[3] * u[0] * u[1]]


@pytest.fixture
def sbibm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark's tasks by our names."""
    tasks = pytest.importorskip("sbibm.tasks", reason="pip install --no-deps sbibm==1.1.0")
    if "diffeqtorch" not in sys.modules:
        stand_in = types.ModuleType("diffeqtorch")
        stand_in.DiffEq = DiffEq  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "diffeqtorch", stand_in)
    # its mixture of distractors is a pickle, which torch no longer reads unasked
    monkeypatch.setattr(torch, "load", functools.partial(torch.load, weights_only=False))
    monkeypatch.setattr("gc.collect", lambda: 0)  # after every hundredth row, for Julia's sake
    # a task switches off validation for every distribution of the process
    validates = torch.distributions.Distribution._validate_args
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield lambda name: tasks.get_task(THEIRS[name])
    torch.distributions.Distribution.set_default_validate_args(validates)


def parameters(name: str) -> Tensor:
    """The true parameters of an observation, and a draw of the prior."""
    task: Any = simulators()[name]()
    return torch.cat((task.true_parameters("1")[None], task.sample_prior(1, seed=8)))


def p_values(a: Tensor, b: Tensor, directions: int = 10) -> list[float]:
    """Kolmogorov-Smirnov tests of every number, its distance from the median, and random mixtures of scaled numbers."""
    both = torch.cat((a, b))
    centre = both.median(0).values
    spread = (both - centre).abs().median(0).values
    scaled = (both - centre) / torch.where(spread > 0, spread, (both - centre).abs().mean(0).clamp_min(1e-6))
    generator = torch.Generator().manual_seed(0)
    mixed = scaled @ torch.randn(a.shape[1], directions, generator=generator)
    columns = torch.cat((both, (both - centre).abs(), mixed), 1).double().T.numpy()
    return [float(ks_2samp(column[: len(a)], column[len(a) :], method="asymp").pvalue) for column in columns]


@pytest.mark.parametrize("name", DIMENSIONS)
def test_same_distribution_as_the_benchmark(name: str, sbibm: Any) -> None:
    """No p-value is below what chance gives once in 100,000 runs of this test (Bonferroni)."""
    ours, theirs = simulators()[name](), sbibm(name).get_simulator()
    found: list[float] = []
    for i, theta in enumerate(parameters(name)):
        rows = theta.expand(2000, -1)
        x = ours.simulate(rows, seed=i)
        # in parts: for each row of distractors, it copies all twenty matrices
        y = torch.cat([theirs(part.clone()) for part in rows.split(250)])
        assert x.shape == y.shape
        found += p_values(x, y.float())
    assert min(found) > 1e-5 / len(found)


def test_the_comparison_sees_a_small_difference(sbibm: Any) -> None:
    """Noise that is a quarter too large, or a rate that is one per cent too small."""
    task, theirs = LotkaVolterra(), sbibm("benchmark-lotka-volterra").get_simulator()
    theta = task.true_parameters("1").expand(2000, -1)
    y = theirs(theta.clone())
    middle = task.log_populations(theta).float()
    louder = (middle + 1.25 * (task.simulate(theta, seed=0).log() - middle)).exp()
    slower = task.simulate(theta * torch.tensor([0.99, 1.0, 1.0, 1.0]), seed=0)
    for x in (louder, slower):
        found = p_values(x, y)
        assert min(found) < 1e-5 / len(found)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_same_prior_as_the_benchmark(name: str, sbibm: Any) -> None:
    ours, theirs = simulators()[name]().prior, sbibm(name).get_prior_dist()
    theta = theirs.sample((200,))
    torch.testing.assert_close(ours.log_prob(theta), theirs.log_prob(theta), rtol=1e-5, atol=1e-5)
    outside = 20 * theta
    inside = torch.isfinite(theirs.log_prob(outside))
    torch.testing.assert_close(torch.isfinite(ours.log_prob(outside)), inside)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_same_observations_as_the_benchmark(name: str, sbibm: Any) -> None:
    task: Any = simulators()[name]()
    theirs = sbibm(name)
    for i in range(1, 11):
        assert torch.equal(task.observation(str(i)), theirs.get_observation(i)[0])
        assert torch.equal(task.true_parameters(str(i)), theirs.get_true_parameters(i)[0])
    reference = published(name, 3).reference_samples
    assert reference.shape == (10_000, task.dim)
    assert torch.equal(reference, theirs.get_reference_posterior_samples(3))


def test_the_distractors_are_those_of_the_benchmark(sbibm: Any) -> None:
    path = sbibm("slcp").path / "files"
    theirs = torch.load(path / "gmm.torch")._component_distribution.base_dist
    torch.testing.assert_close(mixture().loc, theirs.loc, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(mixture().scale_tril, theirs.scale_tril, rtol=1e-14, atol=1e-14)
    assert torch.equal(mixture().permutation, torch.load(path / "permutation_idx.torch"))
    assert (theirs.df == 2).all()


def test_the_stimulus_is_that_of_the_benchmark(sbibm: Any) -> None:
    from implicit_simulators.benchmark.bernoulli_glm import design

    assert torch.equal(design(), torch.load(sbibm("bernoulli-glm").path / "files" / "design_matrix.pt"))


def in_logs(field: Any, initial: list[float], times: Any, theta: Tensor) -> np.ndarray:
    """The solution in logs for each row by SciPy, with shape (n, k, T)."""

    def logs(t: float, z: Any, p: Any) -> Any:
        u = np.exp(z)
        return np.array(field(t, u, p)) / u

    span = (times[0], times[-1])
    start = np.log(initial)
    rows = theta.double().numpy()
    return np.stack([solve_ivp(logs, span, start, "DOP853", times, args=(p,), rtol=1e-10, atol=1e-10).y for p in rows])


def test_populations_are_solved_to_the_stated_tolerance() -> None:
    """Over the prior; 1e-6 is what the solver estimates of itself, and five times that is granted."""
    task = LotkaVolterra()
    theta = task.sample_prior(40, seed=0)
    expected = in_logs(_populations, [30.0, 1.0], 2.1 * np.arange(10), theta)
    found = task.log_populations(theta).unflatten(1, (2, 10)).numpy()
    expected = np.clip(expected, math.log(1e-10), math.log(1e4))
    assert np.abs(found - expected).max() < 5e-6


def test_epidemics_are_solved_to_the_stated_tolerance() -> None:
    task = SIR()
    theta = task.sample_prior(40, seed=0)

    def field(t: float, u: Any, p: Any) -> Any:
        return _epidemic(t, u, p)[:2]

    expected = in_logs(field, [1e6 - 1, 1.0], 17.0 * np.arange(10), theta)[:, 1] - math.log(1e6)
    assert np.abs(task.log_infectious(theta).numpy() - expected).max() < 5e-6


@pytest.mark.parametrize("name", ["benchmark-sir", "benchmark-lotka-volterra"])
def test_no_draw_of_the_prior_fails(name: str) -> None:
    task = simulators()[name]()
    x = task.simulate(task.sample_prior(3000, seed=3), seed=0)
    assert torch.isfinite(x).all()
    assert (x >= 0).all()
