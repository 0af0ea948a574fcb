"""What holds of every game: penalties, clipping, players that are missing, and gradients through gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from implicit_estimators.networks import MLP
from implicit_estimators.penalties import R1
from implicit_infer.games import (
    GAMES,
    Alternating,
    Consensus,
    Duel,
    Extragradient,
    Optimisers,
    Simultaneous,
    Unrolled,
    eigenvalues,
    game,
)
from implicit_infer.games.duel import Held, Substitute

every_game = pytest.mark.parametrize("name", GAMES)
RATE = 0.1


class Number(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self):
        return self.value


def descent(duel, rate=RATE):
    critic = duel.critic_parameters()
    return Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=rate), torch.optim.SGD(critic, lr=rate) if critic else None
    )


def numbers(**settings):
    """A critic that has nothing but a penalty of half its square, and a generator that is pulled by the critic."""
    return Duel(
        Number(1.0),
        Number(1.0),
        lambda g, c, _: g() * c(),
        lambda g, c, _: 0 * c(),
        lambda: None,
        lambda g, c, _: 0.5 * c().square(),
        **settings,
    )


FACTORS = {  # of psi in one step, by the penalty's gradient psi times its weight w
    "alternating": lambda w: 1 - RATE * w,
    "simultaneous": lambda w: 1 - RATE * w,
    "extragradient": lambda w: 1 - RATE * w * (1 - RATE * w),
    "unrolled": lambda w: 1 - RATE * w,
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_penalty_counts_when_it_is_due(name):
    duel = numbers(penalise_every=2)
    optimisers = descent(duel)
    values = [1.0]
    for _ in range(4):
        game(name).step(duel, optimisers)
        values.append(duel.critic().item())
    due = FACTORS[name](2)
    assert values == pytest.approx([1, due, due, due**2, due**2])


def test_a_penalty_counts_in_optimistic_steps():
    """Moves u = -0.2 psi when it is due and 0 when not: w + 2 u - u_last."""
    duel = numbers(penalise_every=2)
    optimisers = descent(duel)
    values = []
    for _ in range(3):
        game("optimistic").step(duel, optimisers)
        values.append(duel.critic().item())
    assert values == pytest.approx([0.8, 0.8 + 0.2, 1.0 - 0.4])


def test_a_penalty_counts_in_consensus():
    """v = (psi, w psi), so that (1 + w^2) psi is added to the critic's direction w psi."""
    duel = numbers(penalise_every=2)
    optimisers = descent(duel)
    values = [1.0]
    for _ in range(2):
        Consensus(gamma=1.0).step(duel, optimisers)
        values.append(duel.critic().item())
    first = 1 - RATE * (2 + 1 + 4)
    assert values == pytest.approx([1, first, first * (1 - RATE)])


@pytest.mark.parametrize(("every", "factor"), [(1, 0.9**3), (2, 0.8**2), (3, 0.7)])
def test_a_penalty_counts_in_unrolled_steps(every, factor):
    """Three steps of the critic ahead, of which those that are due shrink the psi that the generator meets."""
    duel = numbers(penalise_every=every)
    _, (direction,) = Unrolled(unrolled_steps=3).generator_direction(duel, None, descent(duel))
    assert direction.item() == pytest.approx(factor)


@every_game
def test_the_critic_stays_within_its_bounds(name):
    duel = Duel(
        Number(1.0), Number(0.0), lambda g, c, _: g() * c(), lambda g, c, _: -5 * c() * g(), lambda: None, clip=0.2
    )
    optimisers = descent(duel)
    for _ in range(3):
        game(name).step(duel, optimisers)
    assert duel.critic().item() == 0.2


def test_unrolled_and_extrapolated_weights_are_clipped():
    """Critic steps of 0.5 without bound would lead to 1.5, and 0.5 where the extrapolation ends."""
    met = []

    def generator_loss(g, c, _):
        met.append(c().item())
        return g() * c()

    for one in (Unrolled(unrolled_steps=3), Extragradient()):
        duel = Duel(Number(1.0), Number(0.0), generator_loss, lambda g, c, _: -5 * c(), lambda: None, clip=0.2)
        one.step(duel, descent(duel))
    assert met == [0.2, 0.0, 0.2]


@every_game
def test_critic_steps_are_made_and_counted(name):
    duel = numbers()
    game(name, critic_steps=3).step(duel, descent(duel))
    assert duel.critic_steps_made == 3


@every_game
def test_losses_are_those_of_the_players(name):
    """The critic's without its penalty, both without a graph; all batches are the same here."""
    duel = Duel(
        Number(2.0), Number(3.0), lambda g, c, _: g() * c(), lambda g, c, _: 0 * g() - c() * 0 + 7, lambda: None
    )
    critic, generator = game(name).step(duel, descent(duel))
    assert critic.item() == 7
    assert generator.item() == pytest.approx(6, rel=0.2)
    assert not critic.requires_grad
    assert not generator.requires_grad


@pytest.mark.parametrize("name", ["alternating", "simultaneous", "extragradient", "optimistic"])
def test_one_player_descends_alone(name):
    duel = Duel(Number(1.0), None, lambda g, c, _: 0.5 * g().square(), None, lambda: None)
    optimisers = descent(duel)
    for _ in range(50):
        critic, _ = game(name).step(duel, optimisers)
    assert critic.item() == 0
    assert 0 < duel.generator().item() < 0.02
    assert eigenvalues(duel).tolist() == [-1]


@pytest.mark.parametrize("name", ["consensus", "unrolled"])
def test_games_that_need_a_critic_say_so(name):
    duel = Duel(Number(1.0), None, lambda g, c, _: 0.5 * g().square(), None, lambda: None)
    with pytest.raises(ValueError, match=f"game: '{name}' needs a trained critic"):
        game(name).step(duel, descent(duel))


def networks(penalty=True, dtype=torch.float64, spectral=False):
    """A small GAN in the plane with fixed batches."""
    random = torch.Generator().manual_seed(101)
    real, z = torch.randn(2, 8, 2, generator=random, dtype=dtype)
    critic = MLP(2, 1, (5,), activation="tanh", seed=2, dtype=dtype)
    if spectral:
        nn.utils.parametrizations.spectral_norm(critic.layers[0][0])
        critic.layers[-1].bias.requires_grad_(False)

    def critic_loss(g, c, _):
        return nn.functional.softplus(-c(real)).mean() + nn.functional.softplus(c(g(z))).mean()

    return Duel(
        MLP(2, 2, (4,), activation="tanh", seed=1, dtype=dtype),
        critic,
        lambda g, c, _: nn.functional.softplus(-c(g(z))).mean(),
        critic_loss,
        lambda: None,
        (lambda g, c, _: R1(0.7).penalty(lambda x: c(x)[:, 0], real, real)) if penalty else None,
    )


def slope(value, parameter, at, width=1e-5):
    """The derivative of a function in one entry of a parameter, by central differences."""
    found = []
    for sign in (1, -1):
        entries = parameter.detach().view(-1)
        kept = entries[at].item()
        entries[at] += sign * width
        found.append(value())
        entries[at] = kept
    return (found[0] - found[1]) / (2 * width)


@pytest.mark.parametrize("penalty", [False, True])
def test_consensus_descends_the_square_of_the_field(penalty):
    """Against differences, in every parameter of both players, with third derivatives where there is a penalty."""
    duel = networks(penalty)

    def square():
        field = [*duel.critic_gradient(None)[1], *duel.generator_gradient(None)[1]]
        return 0.5 * sum(part.square().sum().item() for part in field)

    plain, with_square = (Consensus(gamma=gamma).directions(duel, None, descent(duel)) for gamma in (0.0, 1.0))
    for player, (one, two) in enumerate(zip(plain, with_square, strict=True)):
        parameters = [duel.critic_parameters(), duel.generator_parameters()][player]
        for before, after, parameter in zip(one[1], two[1], parameters, strict=True):
            shared = (after - before).flatten()
            for at in range(0, len(shared), 3):
                assert shared[at].item() == pytest.approx(slope(square, parameter, at), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_unrolled_steps_are_differentiated_through(optimiser):
    """Against differences: the critic's optimiser really makes K steps from each displaced generator."""
    duel = networks()
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.5),
        "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.5, 0.9)),
    }
    optimisers = Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=0.1), kinds[optimiser](duel.critic_parameters())
    )
    Alternating(2).step(duel, optimisers)  # Adam's moments are no longer 0
    critic, moments = copy.deepcopy(duel.critic.state_dict()), copy.deepcopy(optimisers.critic.state_dict())

    def answered():
        for _ in range(3):
            for parameter, gradient in zip(duel.critic_parameters(), duel.critic_gradient(None)[1], strict=True):
                parameter.grad = gradient
            optimisers.critic.step()
        loss = duel.generator_gradient(None)[0].item()
        duel.critic.load_state_dict(critic)
        optimisers.critic.load_state_dict(copy.deepcopy(moments))  # it keeps what it is given
        return loss

    loss, direction = Unrolled(unrolled_steps=3).generator_direction(duel, None, optimisers)
    assert loss.item() == pytest.approx(answered(), rel=1e-6)
    _, plain = Unrolled(unrolled_steps=0).generator_direction(duel, None, optimisers)
    assert all(torch.equal(one, two) for one, two in zip(plain, duel.generator_gradient(None)[1], strict=True))
    for parameter, gradient in zip(duel.generator_parameters(), direction, strict=True):
        for at in range(0, parameter.numel(), 3):
            assert gradient.flatten()[at].item() == pytest.approx(slope(answered, parameter, at), rel=2e-4, abs=1e-7)


def test_optimisers_that_cannot_be_unrolled_are_refused():
    duel = networks()
    optimisers = Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=0.1),
        torch.optim.SGD(duel.critic_parameters(), lr=0.1, momentum=0.9),
    )
    with pytest.raises(ValueError, match=r"optimisers.critic: expected SGD without momentum or Adam"):
        Unrolled().step(duel, optimisers)
    Unrolled(learning_rate=0.1).step(duel, optimisers)


@every_game
def test_networks_with_buffers_and_untrained_parameters(name):
    """A spectrally normalised critic, one of whose biases is not trained; float32 and Adam, as in use."""
    duel = networks(dtype=torch.float32, spectral=True)
    before = copy.deepcopy(duel.critic.state_dict())
    optimisers = Optimisers(
        torch.optim.Adam(duel.generator_parameters(), lr=1e-3), torch.optim.Adam(duel.critic_parameters(), lr=1e-3)
    )
    start = [parameter.detach().clone() for parameter in duel.generator_parameters()]
    for _ in range(3):
        losses = game(name).step(duel, optimisers)
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(not torch.equal(one, two) for one, two in zip(start, duel.generator_parameters(), strict=True))
    after = duel.critic.state_dict()
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {next(key for key, value in duel.critic.named_parameters() if not value.requires_grad)}
    assert all(parameter.grad is None for parameter in [*duel.generator_parameters(), *duel.critic_parameters()])


def test_the_generator_is_a_constant_of_the_critics_loss_unless_a_graph_is_asked_for():
    seen = []

    def critic_loss(g, c, _):
        made = g()
        seen.append(made.requires_grad)
        return made * c()

    duel = Duel(Number(1.0), Number(1.0), lambda g, c, _: g() * c(), critic_loss, lambda: None)
    duel.critic_gradient(None)
    _, (gradient,) = duel.critic_gradient(None, graph=True)
    assert seen == [False, True]
    assert torch.autograd.grad(gradient, duel.generator.value)[0].item() == 1


def test_stand_ins():
    module = MLP(2, 1, (3,), seed=0)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert not Held(module)(x).requires_grad
    torch.testing.assert_close(Held(module)(x), module(x))
    zeros = [torch.zeros_like(parameter) for parameter in module.parameters()]
    assert Substitute(module, zeros)(x).abs().max() == 0
    assert module(x).abs().max() > 0


def test_games_by_name():
    assert game("alternating", critic_steps=5) == Alternating(5)
    assert game(Unrolled, unrolled_steps=2) == Unrolled(unrolled_steps=2)
    assert game(Extragradient(past=True)) == Extragradient(past=True)
    assert game(Extragradient(past=True), critic_steps=2) == Extragradient(2, past=True)
    assert game(Simultaneous()) != game("alternating")
    for name, kind in GAMES.items():
        assert kind.name == name


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: game("alternate"), ValueError, r"game: expected one of .*did you mean 'alternating'"),
        (lambda: game("alternating", gamma=1), ValueError, "setting of 'alternating'"),
        (lambda: game(3), TypeError, "game: expected a name or a Game"),
        (lambda: Alternating(0), ValueError, "critic_steps: expected a positive int; got 0"),
        (lambda: Consensus(gamma=-1), ValueError, "gamma: expected a number not below 0; got -1"),
        (lambda: Unrolled(unrolled_steps=-1), ValueError, "unrolled_steps: expected an int not below 0"),
        (lambda: Unrolled(learning_rate=0.0), ValueError, "learning_rate: expected a positive number or None"),
        (lambda: numbers(penalise_every=0), ValueError, "penalise_every: expected a positive int; got 0"),
        (lambda: numbers(clip=0.0), ValueError, "clip: expected a positive number or None"),
        (lambda: Duel(Number(1.0), None, None, lambda *_: None, None), ValueError, "expected both or neither"),
    ],
)
def test_bad_arguments_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()
