"""GATSBI: draws against a closed form, inside the prior, at any observation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_estimators.comparisons import COMPARISONS, Adversarial
from implicit_infer.diagnose import marginal_wasserstein
from implicit_infer.games import GAMES, Extragradient, Training
from implicit_infer.posteriors import GATSBI, Question
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.gatsbi_duel import energy_score
from implicit_infer.posteriors.gatsbi_networks import ConditionalGenerator, Sight, bounded
from implicit_infer.posteriors.gatsbi_paired import PairedRelativistic
from implicit_infer.posteriors.gatsbi_points import Given, PointMoments, moments
from implicit_simulators.benchmark import SLCP, GaussianLinear, TwoMoons


@pytest.fixture(scope="module")
def trained():
    simulator = GaussianLinear(dim=2)
    method = GATSBI(hidden=(64, 64), training=Training(1200, 5e-4, 1e-3))
    return simulator, method.infer(Question(simulator, torch.zeros(2), 5000, seed=0, progress=False))


@pytest.mark.parametrize("observed", [[0.0, 0.0], [0.5, -0.4]])
def test_gaussian_posterior_at_more_than_one_observation(trained, observed):
    """Amortised: mean within 0.15 and standard deviation within 15 % of the exact posterior's.

    The simulations alone allow sqrt((1 + |x'|^2) / n) = 0.03 and 0.01; the game adds its own wandering: at most 0.06
    in the mean and 0.09 in the standard deviation over seeds 100 to 102.
    An untrained generator misses the second observation by 0.5 to 1.8 standard deviations.
    """
    simulator, posterior = trained
    x = torch.tensor(observed)
    exact = simulator.posterior(x)
    draws = posterior.sample((4000,), x=x, seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.15).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.15).all()


def test_batched_draws_are_those_of_each_observation(trained):
    _, posterior = trained
    x = torch.tensor([[0.0, 0.0], [0.5, -0.4]])
    draws = posterior.sample_batched((500,), x, seed=2)
    assert draws.shape == (500, 2, 2)
    for i in range(2):
        alone = posterior.sample((500,), x=x[i], seed=3)
        assert (draws[:, i].mean(0) - alone.mean(0)).abs().max() < 5 * 0.22 * (2 / 500) ** 0.5


def test_it_has_no_density(trained):
    _, posterior = trained
    with pytest.raises(NotImplementedError, match="no normalised density"):
        posterior.log_prob(torch.zeros(1, 2))


@pytest.mark.slow
def test_two_moons_stays_inside_the_prior_and_beats_it():
    simulator = TwoMoons()
    method = GATSBI(hidden=(64, 64), training=Training(1500, 5e-4, 1e-3))
    posterior = method.infer(Question(simulator, torch.zeros(2), 4000, seed=0, progress=False))
    draws = posterior.sample((1000,), seed=1)
    assert simulator.prior.support.check(draws).all()
    distance = marginal_wasserstein(draws, simulator.posterior(torch.zeros(2)).sample((1000,)))
    assert distance.mean() < 0.6  # the prior is 1.28 away


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_comparison_can_be_descended(name):
    """Finite draws inside the prior after a few steps, and a generator that has moved."""
    simulator = TwoMoons()
    method = GATSBI(comparison=name, hidden=(16,), batch_size=32, training=Training(steps=4))
    posterior = method.infer(Question(simulator, torch.zeros(2), 200, seed=0, progress=False))
    assert simulator.prior.support.check(posterior.sample((20,), seed=0)).all()
    assert posterior.figures["generator_steps"] == 4
    assert posterior.figures["comparison"] == name
    untrained = ConditionalGenerator(posterior.coordinates, 4, 2, (16,), "leaky_relu", seed=0)
    moved = [(a - b).abs().max() for a, b in zip(posterior.generator.parameters(), untrained.parameters(), strict=True)]
    assert max(moved) > 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"comparison": Adversarial(ratio_loss="brier", generator_loss="kl", penalty="wgan-gp")},
        {"comparison": PairedRelativistic(penalty_weight=0)},
        *({"game": name} for name in GAMES),
        {"game": Extragradient(past=True)},
    ],
    ids=str,
)
def test_every_piece_can_be_chosen(settings):
    simulator = GaussianLinear(dim=2)
    method = GATSBI(hidden=(16,), training=Training(steps=20), **settings)
    posterior = method.infer(Question(simulator, torch.zeros(2), 200, seed=0, progress=False))
    assert torch.isfinite(posterior.sample((20,), seed=0)).all()
    assert posterior.figures["generator_steps"] == 20


@pytest.mark.parametrize("comparison", ["energy", "mmd", "sliced-wasserstein"])
def test_gaussian_posterior_where_nothing_is_trained(comparison):
    """Mean and standard deviation within a quarter of the exact ones; the prior is 1.4 times as wide."""
    simulator = GaussianLinear(dim=1)
    method = GATSBI(comparison=comparison, hidden=(32,), batch_size=128, training=Training(250, 3e-3))
    posterior = method.infer(Question(simulator, torch.zeros(1), 3000, seed=0, progress=False))
    x = torch.tensor([0.5])
    exact, draws = simulator.posterior(x), posterior.sample((4000,), x=x, seed=1)
    sd = exact.variance.sqrt()
    assert ((draws.mean(0) - exact.mean) / sd).abs() < 0.25
    assert (draws.std(0) / sd - 1).abs() < 0.25


def test_spectral_norm_clip_and_critic_steps_are_those_that_the_comparison_asks_for(monkeypatch):
    seen = {}
    monkeypatch.setattr("implicit_infer.posteriors.gatsbi.Play", spy(seen))
    question = Question(GaussianLinear(dim=2), torch.zeros(2), 100, seed=0, progress=False)
    for name, norms, clip, steps in (("wgan-sn", 2, None, 5), ("wgan-clip", 0, 0.01, 5), ("gan-r1", 0, None, 1)):
        with pytest.raises(StopIteration):
            GATSBI(comparison=name, hidden=(8,)).infer(question)
        assert seen["duel"].clip == clip
        assert seen["game"].critic_steps == steps
        assert sum("parametrizations" in key for key, _ in seen["duel"].critic.named_buffers()) >= norms
        assert (norms > 0) == any("parametrizations" in key for key in seen["duel"].critic.state_dict())


def spy(seen):
    def play(duel, game, training, **_):
        seen.update(duel=duel, game=game, training=training)
        raise StopIteration

    return play


@given(st.integers(1, 3), st.sampled_from([0.5, 1.0, 1.5]), st.integers(0, 2**31))
def test_the_energy_score_is_least_at_the_law_itself(d, beta, seed):
    """Proper: over 4,000 data from a normal, the score of the normal is below that of one shifted by a deviation.

    The scores differ by about 0.15 and more, with a standard error of about 1 / sqrt(4000) = 0.016.
    """
    random = torch.Generator().manual_seed(seed)
    real, first, second = torch.randn(3, 4000, d, generator=random)
    shifted = energy_score(real, first + 1, second + 1, beta)
    assert energy_score(real, first, second, beta) < shifted


def test_equal_draws_have_a_flat_energy_score():
    draws = torch.zeros(3, 2, requires_grad=True)
    energy_score(draws.detach(), draws, draws).backward()
    assert torch.equal(draws.grad, torch.zeros(3, 2))


def test_what_the_critic_sees_is_white_and_free_of_bounds():
    """Moments over the simulations that it was fitted to, so exact up to the ridge of 1e-4."""
    simulator = TwoMoons()
    theta = simulator.sample_prior(2000, seed=100)
    x = simulator.simulate(theta, seed=100)
    coordinates = Coordinates(simulator, theta, x)
    s = coordinates.summaries(x)
    v = coordinates.free(coordinates.transform.inv(theta), s)
    sight = Sight(coordinates, v, s)
    assert sight.bounded.all()
    w = sight(v, s)
    torch.testing.assert_close(w.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(w.T @ w / 2000, torch.eye(2), atol=1e-3, rtol=0)
    # at one x, w is linear in theta: equal steps in theta are equal steps in w
    line = torch.linspace(-0.9, 0.9, 7)[:, None].expand(-1, 2)
    same = s[:1].expand(7, -1)
    steps = sight(coordinates.free(coordinates.transform.inv(line), same), same).diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand(6, -1), atol=1e-3, rtol=1e-3)


def test_unbounded_parameters_are_seen_as_they_are():
    simulator = GaussianLinear(dim=2)
    theta = simulator.sample_prior(500, seed=100)
    coordinates = Coordinates(simulator, theta, simulator.simulate(theta, seed=100))
    assert not bounded(coordinates, theta).any()


def test_the_order_of_points_changes_nothing():
    """Moments to rounding; draws in law: a quarter of a standard deviation is 5 standard errors of 800 draws."""
    simulator = SLCP()
    theta = simulator.sample_prior(300, seed=100)
    x = simulator.simulate(theta, seed=100)
    turned = x.reshape(300, 4, 2).flip(1).reshape(300, 8)
    summaries = PointMoments(simulator).summarize
    torch.testing.assert_close(summaries(x), summaries(turned), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(summaries(x), summaries(x.flip(1)))
    method = GATSBI(hidden=(16,), training=Training(steps=20))
    posterior = method.infer(Question(simulator, x[0], 300, seed=0, progress=False))
    one, other = (posterior.sample((800,), x=one, seed=i) for i, one in enumerate((x[0], turned[0])))
    assert ((one.mean(0) - other.mean(0)) / one.std(0)).abs().max() < 0.25


def test_shuffled_points_stay_whole():
    simulator = SLCP()
    theta = simulator.sample_prior(300, seed=100)
    x = simulator.simulate(theta, seed=100)
    known = Given(simulator, Coordinates(PointMoments(simulator), theta, x), x)
    rows = known.rows(x)
    shuffled = known.shuffled(rows, torch.Generator().manual_seed(0))
    assert torch.equal(known.linear(rows), known.linear(shuffled))
    before, after = (part[:, -8:].reshape(300, 4, 2) for part in (rows, shuffled))
    assert not torch.equal(before, after)
    for i in range(4):  # each point is there, with both of its coordinates
        assert (before[:, i : i + 1] == after).all(2).any(1).all()


@pytest.mark.parametrize("points", [torch.zeros(2, 3, 2), torch.ones(2, 2, 2), torch.full((2, 4, 1), 1e6)], ids=str)
def test_moments_of_equal_points_are_finite(points):
    assert torch.isfinite(moments(points)).all()


def test_pairs_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"row i of both at the same x; got \(3,\), \(4,\)"):
        PairedRelativistic().critic_objective(torch.zeros(3), torch.zeros(4))


@given(st.floats(-50, 50), st.integers(0, 2**31))
def test_the_paired_game_ignores_what_depends_on_x_alone(shift, seed):
    at_data, at_model, of_x = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    game = PairedRelativistic()
    one = game.critic_objective(at_data, at_model)
    other = game.critic_objective(at_data + shift * of_x, at_model + shift * of_x)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(game.generator_objective(at_data, at_model), game.critic_objective(at_model, at_data))


def test_few_simulations_end_the_game_early():
    """200 simulations, 260 passes, batches of 256: 204 steps, however many the game would have."""
    method = GATSBI(hidden=(16,), training=Training(5000, 5e-4, 1e-3))
    posterior = method.infer(Question(GaussianLinear(dim=2), torch.zeros(2), 200, seed=0, progress=False))
    assert posterior.figures["generator_steps"] == 204


def test_same_seed_same_posterior():
    simulator = GaussianLinear(dim=2)
    question = Question(simulator, torch.zeros(2), 200, seed=3, progress=False)
    method = GATSBI(hidden=(16,), training=Training(steps=30))
    first, second = (method.infer(question).sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"comparison": "nope"}, "comparison: expected one of"),
        ({"game": "nope"}, "game"),
        ({"epochs": 0}, "epochs: expected a positive int; got 0"),
        ({"comparison": "mmd", "game": "consensus"}, "needs a critic; 'mmd' trains none"),
    ],
)
def test_unknown_pieces_are_refused_at_once(settings, match):
    with pytest.raises(ValueError, match=match):
        GATSBI(**settings)


@pytest.mark.parametrize("settings", [{"penalty_weight": -1.0}, {"critic_steps": 0}])
def test_a_paired_game_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PairedRelativistic(**settings)
