"""The Dirac-GAN: fields, trajectories and eigenvalues against those of Mescheder, Geiger and Nowozin (2018).

Their critic is high at the model's draws and ours at the data, so that our psi is minus theirs.
"""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from implicit_estimators.generator_losses import generator_loss
from implicit_estimators.penalties import R1, WassersteinPenalty
from implicit_estimators.ratio_losses import ratio_loss
from implicit_infer.games import (
    Alternating,
    Consensus,
    Duel,
    Extragradient,
    Optimisers,
    Optimistic,
    Simultaneous,
    eigenvalues,
    multipliers,
)
from implicit_simulators import Dirac, DiracGenerator

STEP = 0.2


class Slope(nn.Module):
    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi, dtype=torch.float64))

    def forward(self, x):
        return self.psi * x[:, 0]


def dirac(theta, psi, *, moves="saturating", means=False, penalty=None, clip=None, noise=()):
    """The duel; instance noise is a few numbers with its variance, which is all that counts at the equilibrium."""
    added = torch.tensor(noise or [0.0], dtype=torch.float64)[:, None]
    wants, moved = ratio_loss("log").loss, generator_loss(moves).loss

    def critic_loss(generator, critic, _):
        at_data, at_model = critic(added), critic(generator(added) + added)
        return at_model.mean() - at_data.mean() if means else wants(at_data, at_model)

    def model_loss(generator, critic, _):
        output = critic(generator(added) + added)
        return -output.mean() if means else moved(output)

    generator = DiracGenerator().double()
    nn.init.constant_(generator.theta, theta)
    return Duel(
        generator,
        Slope(psi),
        model_loss,
        critic_loss,
        lambda: None,
        None if penalty is None else lambda generator, critic, _: penalty.penalty(critic, added, added),
        clip=clip,
    )


def where(duel):
    """Theta and psi, in the convention of the paper."""
    return duel.generator_parameters()[0].item(), -duel.critic_parameters()[0].item()


def play(duel, game, steps):
    optimisers = Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=STEP), torch.optim.SGD(duel.critic_parameters(), lr=STEP)
    )
    for _ in range(steps):
        game.step(duel, optimisers)
    return where(duel)


def fp(x):
    return 1 / (1 + math.exp(x))


def fpp(x):
    return -fp(x) * fp(-x)


def consensus(t, p):
    """Speeds with the gradient of |v|^2 / 2 and weight 1; their code has half of the second terms."""
    f, g, square = fp(p * t), fpp(p * t), p * p + t * t
    return -p * f - t * f * f - p * square * f * g, t * f - p * f * f - t * square * f * g


def sign(x):
    return math.copysign(1.0, x)


CASES = {
    "gan": (lambda t, p: (-p * fp(p * t), t * fp(p * t)), {}, Simultaneous(), 3.1),
    "non-saturating": (
        lambda t, p: (-p * fp(-p * t), t * fp(p * t)),
        {"moves": "non-saturating"},
        Simultaneous(),
        0.64,
    ),
    "wgan clipped": (lambda t, p: (-p, t), {"means": True, "clip": 1.0}, Simultaneous(), 1.0),
    "wgan-gp": (
        lambda t, p: (-p, t - 0.7 * (abs(p) - 1) * sign(p)),
        {"means": True, "penalty": WassersteinPenalty(0.35)},
        Simultaneous(),
        1.8,
    ),
    "zero-centred": (
        lambda t, p: (-p * fp(p * t), t * fp(p * t) - 0.3 * p),
        {"penalty": R1(0.3)},
        Simultaneous(),
        2.6e-6,
    ),
    "critical": (
        lambda t, p: (-p * fp(p * t), t * fp(p * t) - p),
        {"penalty": R1(1.0)},
        Simultaneous(),
        1e-21,
    ),
    "consensus": (consensus, {}, Consensus(gamma=1.0), 2.6e-10),
}


@pytest.mark.parametrize("case", CASES)
def test_trajectories_and_where_they_end(case):
    """Sixty steps agree with the field by hand, which after 500 is where the published experiment ends."""
    field, chosen, game, published = CASES[case]
    t, p, path = 1.0, 1.0, []
    for _ in range(500):
        dt, dp = field(t, p)
        t, p = t + STEP * dt, p + STEP * dp
        if "clip" in chosen:
            p = min(max(p, -1.0), 1.0)
        path.append((t, p))
    assert math.hypot(t, p) == pytest.approx(published, rel=0.06)
    assert play(dirac(1.0, -1.0, **chosen), game, 60) == pytest.approx(path[59], rel=1e-8)


@pytest.mark.parametrize("game", [Extragradient(), Optimistic()], ids=["extragradient", "optimistic"])
def test_extrapolation_pulls_an_unpenalised_gan_in(game):
    """After 300 steps; simultaneous descent is at 2.7 then, alternating at 1.5."""
    assert math.hypot(*play(dirac(1.0, -1.0), game, 300)) < 0.5


def test_alternating_descent_neither_converges_nor_diverges():
    assert 1.2 < math.hypot(*play(dirac(1.0, -1.0), Alternating(), 200)) < 1.7


@settings(max_examples=25)
@given(theta=st.floats(-3, 3), psi=st.floats(-3, 3), penalty=st.floats(0, 2))
def test_fields_are_the_flow_of_the_target(theta, psi, penalty):
    duel = dirac(theta, -psi, penalty=R1(penalty))
    speed = Dirac().flow(*torch.tensor([theta, psi], dtype=torch.float64), penalty)
    (of_theta,), (of_psi,) = duel.generator_gradient(None)[1], duel.critic_gradient(None)[1]
    torch.testing.assert_close(torch.stack([-of_theta, of_psi]), torch.stack(speed), rtol=1e-10, atol=1e-12)


def in_order(values):
    return sorted(values, key=lambda value: (round(value.real, 6), round(value.imag, 6)))


@settings(max_examples=25)
@given(gamma=st.floats(0, 3))
def test_eigenvalues_with_a_zero_centred_penalty(gamma):
    root = cmath.sqrt(gamma**2 / 4 - 1 / 4)
    expected = in_order([-gamma / 2 + root, -gamma / 2 - root])
    found = in_order(eigenvalues(dirac(0.0, 0.0, penalty=R1(gamma))).tolist())
    # at the critical weight 1 both coincide, and rounding moves them by its square root
    assert found == pytest.approx(expected, abs=1e-7)


@settings(max_examples=25)
@given(variance=st.floats(0, 5))
def test_eigenvalues_with_instance_noise(variance):
    """A variance s^2 acts like a penalty of weight s^2 / 2: oscillation ends at s^2 = 2."""
    root = cmath.sqrt(variance**2 / 16 - 1 / 4)
    expected = in_order([-variance / 4 + root, -variance / 4 - root])
    noise = [variance**0.5, -(variance**0.5)]
    assert in_order(eigenvalues(dirac(0.0, 0.0, noise=noise)).tolist()) == pytest.approx(expected, abs=1e-7)


def test_critical_instance_noise():
    below, at, above = (
        eigenvalues(dirac(0.0, 0.0, noise=[v**0.5, -(v**0.5)])).imag.abs().max().item() for v in (1.9, 2.0, 2.1)
    )
    assert below > 0.1
    assert at < 1e-7
    assert above == 0


def test_a_seldom_penalty_counts_with_its_mean_weight():
    duel = dirac(0.0, 0.0, penalty=R1(0.6))
    expected = in_order(eigenvalues(duel).tolist())
    duel.penalise_every, duel.critic_steps_made = 4, 1
    assert in_order(eigenvalues(duel).tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.3, 0.8])
def test_multipliers_of_simultaneous_steps_are_those_of_the_flow(gamma):
    duel = dirac(0.0, 0.0, penalty=R1(gamma))
    expected = in_order([1 + STEP * value for value in eigenvalues(duel).tolist()])
    assert in_order(multipliers(duel, Simultaneous(), STEP).tolist()) == pytest.approx(expected, abs=1e-6)


def test_multipliers_of_two_time_scales():
    """The critic's step size multiplies its row of the flow."""
    duel = dirac(0.0, 0.0, penalty=R1(0.5))
    step = torch.tensor([[1.0, 0.1 * 0.5], [-0.3 * 0.5, 1 - 0.3 * 0.5]], dtype=torch.float64)
    expected = in_order(torch.linalg.eigvals(step).tolist())
    assert in_order(multipliers(duel, Simultaneous(), 0.1, 0.3).tolist()) == pytest.approx(expected, abs=1e-7)
