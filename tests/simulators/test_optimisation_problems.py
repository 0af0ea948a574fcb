"""Three-hump and Rosenbrock: expected losses against the published values and against means over simulations."""

import pytest
import scipy.optimize
import torch

from implicit_simulators import Rosenbrock, ThreeHump


@pytest.mark.parametrize(
    ("theta", "value"), [((2.0, 0.0), -0.4993), ((0.0, 1.2323), -0.8582), ((0.0, -1.2323), -0.8582)]
)
def test_expected_losses_of_three_hump_are_the_known_ones(theta, value):
    assert float(ThreeHump().expected_loss(torch.tensor([theta]))) == pytest.approx(value, abs=5e-5)


def test_three_hump_is_least_where_it_says():
    problem = ThreeHump()
    found = scipy.optimize.minimize(
        lambda psi: float(problem.expected_loss(torch.as_tensor(psi)[None])), [0.3, 1.0], method="Nelder-Mead"
    )
    torch.testing.assert_close(
        torch.tensor(found.x), torch.tensor((0.0, 1.2323), dtype=torch.float64), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("problem", [ThreeHump(), Rosenbrock(4)], ids=lambda problem: problem.name)
def test_mean_losses_are_the_expected_ones(problem):
    """Within 4.5 standard errors of 20,000 draws, at five points of the prior and where the paper starts."""
    points = torch.cat((problem.sample_prior(5, seed=1), torch.tensor([problem.start])))
    for i, theta in enumerate(points):
        losses = problem.loss(problem.simulate(theta.expand(20_000, -1), seed=i)).double()
        error = losses.std() / len(losses) ** 0.5
        assert abs(losses.mean() - problem.expected_loss(theta[None])[0]) < 4.5 * error + 1e-6


def test_rosenbrock_is_45_at_the_start_and_0_at_the_optimum():
    problem = Rosenbrock()
    ends = torch.tensor([problem.start, problem.reference_theta])
    assert problem.expected_loss(ends).tolist() == [45.0, 0.0]


def test_equal_weights_where_both_parameters_are_zero():
    assert ThreeHump.weights(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]


def test_a_valley_needs_two_parameters():
    with pytest.raises(ValueError, match="dim: expected an int of 2 or more; got 1"):
        Rosenbrock(1)
