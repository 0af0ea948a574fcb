"""Emulators: the exact moments and slopes of a linear Gaussian simulator, gradients, densities, checks and files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Uniform

import implicit_infer as ii
from implicit_infer.fitting.emulators import EMULATIONS, Emulator, FlowEmulator
from implicit_infer.fitting.emulators.check import check_pairs
from implicit_infer.fitting.emulators.frame import Frame
from implicit_infer.fitting.emulators.proposals import latin_hypercube
from implicit_infer.fitting.emulators.scored import energy_score
from implicit_infer.games import Training
from implicit_simulators import FunctionSimulator, PoissonSource, Simulator
from implicit_simulators.benchmark import GaussianLinear

SHORT = {
    "flow": ii.fitting.FlowEmulation(training=Training(15, 1e-3), transforms=1, hidden=(16,)),
    "gan": ii.fitting.AdversarialEmulation(training=Training(8, 1e-4), batch_size=32, hidden=(16,)),
    "energy": ii.fitting.ScoredEmulation(training=Training(60, 1e-3), hidden=(32,)),
}


@pytest.fixture(scope="module", params=SHORT)
def emulator(request: pytest.FixtureRequest) -> Emulator:
    return ii.emulate(GaussianLinear(2), 1500, SHORT[request.param], seed=3, progress=False)


def test_every_way_is_tested() -> None:
    assert set(SHORT) == set(EMULATIONS)


def test_it_has_the_face_of_its_parent(emulator: Emulator) -> None:
    parent = emulator.parent
    assert isinstance(emulator, Simulator)
    assert emulator.differentiable
    assert emulator.prior is parent.prior
    assert (emulator.parameter_names, emulator.event_shape) == (parent.parameter_names, parent.event_shape)
    assert emulator.simulations == 1500
    x = emulator.simulate(torch.zeros(3, 2), seed=0)
    torch.testing.assert_close(emulator.summarize(x), parent.summarize(x))


def test_linear_gaussian_mean_variance_and_slope_are_the_exact_ones(emulator: Emulator) -> None:
    """x = theta + sqrt(0.1) noise. 1,200 simulations leave the regression's mean an error of 0.1^0.5 / 1200^0.5 = 0.009
    at the middle, its slope one of 0.029, and its variance one of 0.1 (2 / 1200)^0.5 = 0.004; the draws, of noise that
    is drawn 20,000 times, 0.0022 and 0.001. Five of these, and as much again for a network that has moved."""
    theta = torch.zeros(20_000, 2).requires_grad_()
    x = emulator.simulate(theta, seed=1)
    assert (x.mean(0).abs() < 10 * 0.0095).all()
    assert ((x.var(0) - 0.1).abs() < 10 * 0.0042).all()
    for i in range(2):
        (slope,) = torch.autograd.grad(x[:, i].mean(), theta, retain_graph=True)
        expected = torch.zeros(2)
        expected[i] = 1
        assert ((slope.sum(0) - expected).abs() < 10 * 0.029).all()


def test_gradients_are_those_of_finite_differences(emulator: Emulator) -> None:
    theta = torch.tensor([[0.1, -0.2], [0.3, 0.05]], dtype=torch.float64)
    direction = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)
    x, slope = torch.autograd.functional.jvp(lambda t: emulator.simulate(t, seed=4), theta, direction)
    step = 1e-6
    ahead, behind = (emulator.simulate(theta + s * direction, seed=4) for s in (step, -step))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)
    assert x.dtype == torch.float64


def test_the_same_seed_gives_the_same_draws_and_the_same_emulator(emulator: Emulator) -> None:
    theta = emulator.sample_prior(30, seed=0)
    x = emulator.simulate(theta, seed=2)
    assert torch.equal(emulator.simulate(theta, seed=2), x)
    assert not torch.equal(emulator.simulate(theta, seed=5), x)
    again = ii.emulate(GaussianLinear(2), 1500, SHORT[emulator.method], seed=3, progress=False)
    assert torch.equal(again.simulate(theta, seed=2), x)


def test_saved_and_loaded_it_is_the_same(emulator: Emulator, tmp_path) -> None:
    emulator.save(tmp_path / "e.safetensors")
    loaded = Emulator.load(tmp_path / "e.safetensors", GaussianLinear(2))
    theta = emulator.sample_prior(10, seed=0)
    assert type(loaded) is type(emulator)
    assert torch.equal(loaded.simulate(theta, seed=1), emulator.simulate(theta, seed=1))
    assert (loaded.figures, loaded.warnings, loaded.settings()) == (
        emulator.figures,
        emulator.warnings,
        emulator.settings(),
    )
    with pytest.raises(ValueError, match="parent: the file is of a simulator with settings"):
        Emulator.load(tmp_path / "e.safetensors", GaussianLinear(2, noise_variance=0.2))


def test_only_a_flow_has_a_density_and_it_integrates_to_one() -> None:
    simulator = FunctionSimulator(
        _skewed, prior=Independent(Uniform(torch.tensor([-1.0]), torch.tensor([1.0])), 1), event_shape=(1,)
    )
    emulator = ii.emulate(simulator, 600, SHORT["flow"], seed=0, progress=False)
    assert isinstance(emulator, FlowEmulator)
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    theta = torch.full((len(grid), 1), 0.4, dtype=torch.float64)
    density = emulator.log_likelihood(theta, grid[:, None]).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=2e-3)
    assert not hasattr(ii.emulate(simulator, 100, SHORT["energy"], seed=0, progress=False), "log_likelihood")


def _skewed(theta: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Far enough out that simulations are squashed."""
    return theta + torch.exp(1.3 * torch.randn(len(theta), 1, generator=generator))


def test_a_box_is_filled_and_known() -> None:
    emulator = ii.emulate(
        GaussianLinear(2), 200, SHORT["energy"], region=([0.0, 1.0], [0.5, 2.0]), seed=0, progress=False
    )
    assert emulator.inside([[0.2, 1.5], [-0.2, 1.5]]).tolist() == [True, False]
    assert (emulator.region[0] >= torch.tensor([0.0, 1.0])).all()
    assert (emulator.region[1] <= torch.tensor([0.5, 2.0])).all()


def test_failures_and_whole_numbers_are_told() -> None:
    emulator = ii.emulate(PoissonSource(), 300, SHORT["energy"], seed=0, progress=False)
    assert emulator.warnings == [
        "1 of 1 entries of x are whole numbers; emulated ones are spread over the unit interval around them"
    ]

    def some(theta: torch.Tensor) -> torch.Tensor:
        return torch.where(theta > 0.5, torch.nan, theta)

    failing = FunctionSimulator(some, prior=([0.0], [1.0]), event_shape=(1,))
    found = ii.emulate(failing, 200, SHORT["energy"], seed=0, progress=False)
    assert any("simulations failed" in warning for warning in found.warnings)


def test_check_passes_an_exact_emulator_and_finds_out_a_wrong_one() -> None:
    """A p-value below 0.01 has a chance of 1 in 100 under equality; a shift of a standard deviation has a total
    variation of 0.38."""
    random = torch.Generator().manual_seed(0)
    c, real, made = (torch.randn(400, 1, generator=random) for _ in range(3))
    same = check_pairs(c, real, made, real, made, seed=0)
    assert same.p_value > 0.01
    assert not same.told_apart
    other = check_pairs(c, real, made + 1, real, made + 1, seed=0)
    assert other.told_apart
    assert "tells emulated from real" in str(other)
    assert abs(float(other.bias[0]) - 1) < 5 * float(other.bias_error[0])
    assert 0.1 < other.distance < 0.38 + 4 * other.standard_error
    with pytest.raises(ValueError, match="expected at least 40 that did not fail; got 10"):
        check_pairs(c[:10], real[:10], made[:10], real[:10], made[:10], seed=0)


def test_the_check_uses_what_was_set_aside(emulator: Emulator) -> None:
    assert emulator.held_out is not None
    assert len(emulator.held_out[0]) == 150
    found = emulator.check(seed=0)
    assert found.pairs == 75
    assert found.p_value > 0.001


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4))
def test_the_frame_goes_both_ways_and_knows_its_volume(seed: int, d: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    simulator = FunctionSimulator(
        lambda theta: theta.sum(1, keepdim=True).expand(-1, k),
        prior=Independent(Uniform(-torch.ones(d), torch.ones(d)), 1),
        event_shape=(k,),
    )
    theta = 2 * torch.rand(200, d, generator=random, dtype=torch.float64) - 1
    x = torch.randn(200, k, generator=random, dtype=torch.float64) + theta.sum(1, keepdim=True)
    x[0] *= 1e3  # far out, so that there is a squash
    frame = Frame.fit(simulator, theta, x)
    assert frame.squash
    c = frame.conditions(theta)
    torch.testing.assert_close(frame.place(frame.free(x, c), c), x, rtol=1e-6, atol=1e-8)
    jacobian = torch.autograd.functional.jacobian(lambda row: frame.free(row[None], c[1:2])[0], x[1])
    torch.testing.assert_close(frame.log_det(x[1:2])[0], torch.linalg.slogdet(jacobian).logabsdet)


def test_one_bound_means_a_logarithm() -> None:
    simulator = PoissonSource()
    theta = simulator.sample_prior(200, seed=0)
    frame = Frame.fit(simulator, theta, theta)
    one, two, four = frame.conditions(torch.tensor([[1.0], [2.0], [4.0]]))[:, 0].tolist()
    assert four - two == pytest.approx(two - one, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 4))
def test_a_latin_hypercube_has_one_point_in_each_slice(seed: int, n: int, d: int) -> None:
    points = latin_hypercube(n, d, torch.Generator().manual_seed(seed))
    for column in points.T:
        assert sorted((column * n).long().clamp(max=n - 1).tolist()) == list(range(n))


def test_the_energy_score_is_least_for_the_true_law() -> None:
    """The expectation of the difference is half the energy distance; tested at 4 standard errors of 20,000 rows."""
    random = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(20_000, 2, generator=random) for _ in range(3))
    gain = energy_score(x, y + 0.5, z + 0.5) - energy_score(x, y, z)
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
    wide = energy_score(x, 1.5 * y, 1.5 * z) - energy_score(x, y, z)
    assert wide.mean() > 4 * wide.std() / len(wide) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "flows"}, r"method: expected one of flow, gan, energy; got 'flows' \(did you mean 'flow'"),
        ({"held_out": 0.5}, "held_out: expected a share between 0 and 0.4; got 0.5"),
        ({"region": ([1.0, 1.0], [0.0, 2.0])}, "region: expected low < high"),
        ({"budget": 10}, "budget: expected at least 20 simulations that did not fail; got 10 of 10"),
        ({"budget": 0}, "budget: expected an int of at least 1; got 0"),
    ],
)
def test_what_cannot_be_emulated_is_refused(arguments, message) -> None:
    given_ = {"budget": 50, "method": SHORT["energy"], "progress": False} | arguments
    with pytest.raises(ValueError, match=message):
        ii.emulate(GaussianLinear(2), **given_)


def test_a_box_outside_of_the_prior_is_refused() -> None:
    low, high = np.full(3, 0.5), np.full(3, 100.0)
    with pytest.raises(ValueError, match="region: expected parameters inside the prior's support"):
        ii.emulate(
            FunctionSimulator(lambda theta: theta, prior=([0.0] * 3, [1.0] * 3), event_shape=(3,)),
            50,
            region=(low, high),
            progress=False,
        )


def test_a_game_needs_a_critic() -> None:
    with pytest.raises(ValueError, match="comparison: expected one that trains a critic; 'mmd' trains none"):
        ii.fitting.AdversarialEmulation(comparison="mmd")
