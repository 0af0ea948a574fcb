"""Every comparison, whatever it is made of: finite, blind to the order of rows, and without force where p = q."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import COMPARISONS, Adversarial, Comparison, comparison
from implicit_estimators.divergences import Alpha
from implicit_estimators.generator_losses import GENERATOR_LOSSES, DivergenceLoss
from implicit_estimators.networks import MLP
from implicit_estimators.penalties import PENALTIES, WassersteinPenalty
from implicit_estimators.ratio_losses import CRITIC_LOSSES, RATIO_LOSSES, FDivergenceLoss

every = pytest.mark.parametrize("name", COMPARISONS)
ADVERSARIAL = [name for name, kind in COMPARISONS.items() if issubclass(kind, Adversarial)]
TRAINED = [name for name, kind in COMPARISONS.items() if kind.trained]
UP_TO_A_FACTOR = ("kliep", "donsker-varadhan", "relativistic", "r3gan")
"""Comparisons whose critic tells the ratio up to a factor."""
COLUMNS = 2
ROWS = 24
BATCHES = 60


def tiny_critic(chosen: Comparison, seed: int = 0) -> nn.Module:
    """Two layers, in float64, that give what the comparison asks of a critic: (n,) or (n, outputs)."""
    network = MLP(COLUMNS, chosen.outputs, (8,), activation="tanh", seed=seed, dtype=torch.float64)
    return nn.Sequential(network, nn.Flatten(0)) if chosen.outputs == 1 else network


def seen(chosen: Comparison, critic: nn.Module | None, samples: Tensor) -> Tensor:
    return samples if critic is None else critic(samples)


def critic_of(chosen: Comparison, seed: int = 0) -> nn.Module | None:
    return tiny_critic(chosen, seed) if chosen.trained else None


def pair(seed: int, shift: float = 0.0, n: int = ROWS) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(n, COLUMNS, generator=draw, dtype=torch.float64) for _ in range(2))
    return real, fake + shift


@every
def test_the_registry_holds_each_under_its_own_name(name: str) -> None:
    chosen = comparison(name)
    assert isinstance(chosen, COMPARISONS[name])
    assert chosen.name == name
    assert min(chosen.critic_steps, chosen.outputs) >= 1
    assert comparison(COMPARISONS[name]) == chosen


@every
def test_losses_and_gradients_are_finite_and_reach_both_players(name: str) -> None:
    chosen = comparison(name)
    critic = critic_of(chosen)
    real, fake = pair(0, shift=0.5)
    fake = fake.requires_grad_()
    value = chosen.generator_objective(seen(chosen, critic, real), seen(chosen, critic, fake))
    assert value.shape == ()
    assert torch.isfinite(value)
    (force,) = torch.autograd.grad(value, fake)
    assert torch.isfinite(force).all()
    assert force.abs().max() > 0
    if critic is not None:
        value = chosen.critic_objective(critic(real), critic(fake.detach()))
        assert value.shape == ()
        gradients = torch.autograd.grad(value, list(critic.parameters()), materialize_grads=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert max(float(gradient.abs().max()) for gradient in gradients) > 0


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_penalty_goes_with_every_comparison(name: str, penalty: str) -> None:
    """Their sum can be descended by the critic; a penalty is no part of what the model descends."""
    chosen = comparison(name, penalty=penalty, **({"one_sided": None} if name == "wgan-gp" else {}))
    critic = tiny_critic(chosen)
    real, fake = pair(1, shift=0.5)
    assert chosen.regulariser is not None
    charged = chosen.regulariser.penalty(critic, real, fake, torch.Generator().manual_seed(0))
    total = chosen.critic_objective(critic(real), critic(fake)) + charged
    gradients = torch.autograd.grad(total, list(critic.parameters()), materialize_grads=True)
    assert float(charged.detach()) > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("loss", [*RATIO_LOSSES, *CRITIC_LOSSES])
def test_every_critic_loss_goes_with_every_generator_loss(loss: str) -> None:
    """Also in float32 at outputs of +-80, where no gradient may be NaN and none but those of theory may vanish."""
    draw = torch.Generator().manual_seed(0)
    tame = torch.randn(2, 16, generator=draw)
    for generator_loss in GENERATOR_LOSSES:
        chosen = Adversarial(loss, generator_loss)
        assert chosen.needs_data == ("relativistic" in generator_loss)
        for outputs in (tame, 80 * tame.sign()):
            at_data, at_model = outputs.clone().requires_grad_().unbind()
            losses = chosen.critic_objective(at_data, at_model), chosen.generator_objective(at_data, at_model)
            for value in losses:
                slopes = torch.autograd.grad(value, (at_data, at_model), materialize_grads=True, retain_graph=True)
                assert torch.isfinite(value)
                assert all(torch.isfinite(slope).all() for slope in slopes)
            assert slopes[1].abs().max() > 0


@every
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    real, fake = pair(2, shift=0.3)
    order, other = (torch.randperm(ROWS, generator=torch.Generator().manual_seed(i)) for i in range(2))
    for player in ["generator", "critic"] if COMPARISONS[name].trained else ["generator"]:
        values = []
        for x, y in ((real, fake), (real[order], fake[other])):
            chosen = comparison(name)  # afresh, for some draw directions or remember what they saw
            critic = critic_of(chosen)
            values.append(getattr(chosen, f"{player}_objective")(seen(chosen, critic, x), seen(chosen, critic, y)))
        assert torch.allclose(values[0], values[1], rtol=1e-6, atol=1e-9)


@every
def test_empty_batches_are_refused(name: str) -> None:
    chosen = comparison(name)
    shape = (ROWS, chosen.outputs if chosen.trained else COLUMNS)
    some = torch.zeros(shape[:1] if chosen.trained and chosen.outputs == 1 else shape)
    objectives = [chosen.generator_objective] + ([chosen.critic_objective] if chosen.trained else [])
    for objective in objectives:
        with pytest.raises(ValueError, match=r"expected|got"):
            objective(some, some[:0])
        if objective == chosen.critic_objective or chosen.needs_data:
            with pytest.raises(ValueError, match=r"expected|needs"):
                objective(some[:0], some)


def balance(objective: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The constant output at which the loss of a critic that says the same everywhere is least, by bisection."""

    def slope(constant: float) -> float:
        outputs = [torch.full((1,), constant, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        return sum(float(g) for g in torch.autograd.grad(objective(*outputs), outputs))

    low, high = -4.0, 5.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        found = slope(middle)
        if found == 0:
            return middle
        low, high = (low, middle) if found > 0 else (middle, high)
    return 0.5 * (low + high)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_where_p_is_q_a_flat_critic_stays_flat_on_average(name: str) -> None:
    """Its weights' gradient over 60 batches of 24, in units of its standard error: below 4.5 in 6 directions.

    And flat means: it says that the ratio is 1, where it says anything of the ratio and not up to a factor.
    """
    constant = balance(lambda p, q: comparison(name).critic_objective(p, q))
    told = comparison(name).log_ratio(torch.tensor([constant], dtype=torch.float64))
    assert told is None or name in UP_TO_A_FACTOR or abs(float(told)) < 1e-9
    network = MLP(COLUMNS, 6, (), seed=0, dtype=torch.float64)
    forces = []
    for seed in range(BATCHES):
        real, fake = pair(seed)
        weights = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        at_data, at_model = (network(side).tanh().detach() @ weights + constant for side in (real, fake))
        # each batch meets a comparison that has seen none: what it remembers belongs to another test
        value = comparison(name).critic_objective(at_data, at_model)
        forces.append(torch.autograd.grad(value, weights)[0])
    stacked = torch.stack(forces)
    error = stacked.std(0) / math.sqrt(len(stacked))
    assert (error > 0).all()
    assert (stacked.mean(0).abs() < 4.5 * error).all()


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_flat_critic_does_not_move_the_model(name: str) -> None:
    chosen = comparison(name)
    _, fake = pair(0)
    fake.requires_grad_()
    flat = fake @ torch.zeros(COLUMNS, dtype=torch.float64) + 0.3
    (force,) = torch.autograd.grad(chosen.generator_objective(flat.detach(), flat), fake)
    assert (force == 0).all()


@pytest.mark.parametrize("name", [name for name in COMPARISONS if name not in ADVERSARIAL])
def test_where_p_is_q_a_distance_does_not_move_the_model_on_average(name: str) -> None:
    """The force on the location of the draws over 60 batches of 24: below 4.5 standard errors in both directions."""
    chosen = comparison(name)
    critic = critic_of(chosen)
    forces = []
    for seed in range(BATCHES):
        real, fake = pair(seed)
        shift = torch.zeros(COLUMNS, dtype=torch.float64, requires_grad=True)
        value = chosen.generator_objective(seen(chosen, critic, real), seen(chosen, critic, fake + shift))
        forces.append(torch.autograd.grad(value, shift)[0])
    stacked = torch.stack(forces)
    error = stacked.std(0) / math.sqrt(len(stacked))
    assert (error > 0).all()
    assert (stacked.mean(0).abs() < 4.5 * error).all()


@pytest.mark.parametrize("name", TRAINED)
def test_a_comparison_that_tells_a_ratio_tells_it_row_by_row(name: str) -> None:
    chosen = comparison(name)
    output = torch.linspace(-2, 2, 5 * chosen.outputs).reshape((5, chosen.outputs) if chosen.outputs > 1 else (5,))
    told = chosen.log_ratio(output)
    if told is not None:
        assert told.shape == (5,)
        assert (told.diff() > 0).all()


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_remembered_can_be_put_back(name: str) -> None:
    chosen, other = comparison(name), comparison(name)
    critic = tiny_critic(chosen)
    for seed in range(3):
        real, fake = pair(seed, shift=1.0)
        chosen.critic_objective(critic(real), critic(fake))
    other.load_state_dict(chosen.state_dict())
    assert chosen.state_dict().keys() == other.state_dict().keys()
    with torch.no_grad():
        values = [each.critic_objective(critic(real), critic(fake)) for each in (chosen, other)]
    assert torch.equal(*values)


def test_comparisons_of_one_kind_do_not_share_what_they_remember() -> None:
    one, two = comparison("fisher"), comparison("fisher")
    outputs = torch.full((4,), 3.0, requires_grad=True)
    one.critic_objective(outputs, outputs)
    assert one.state_dict()
    assert two.state_dict() == {}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_ratio_that_is_known_up_to_a_factor_is_normalised_by_fresh_outputs(name: str) -> None:
    """N(0, 1) against N(1, 1) with a constant on the true log-ratio; four standard errors, at most sqrt(8 / n)."""
    n, chosen, draw = 4000, comparison(name), torch.Generator().manual_seed(0)
    sides = [torch.randn(n, generator=draw, dtype=torch.float64) + mean for mean in (0.0, 1.0)]
    constant = 2.0 if name in UP_TO_A_FACTOR else 0.0
    outputs = [0.5 - x + constant for x in sides]
    if name == "kliep":
        outputs = [torch.expm1(output.exp()).log() for output in outputs]
    found = chosen.log_normaliser(*outputs)
    assert found == pytest.approx(constant, abs=4 * math.sqrt(8 / n) if constant else 0)


def test_settings_replace_the_comparisons_own() -> None:
    chosen = comparison("gan", penalty="r1", critic_steps=3)
    assert (chosen.regulariser, chosen.critic_steps) == (PENALTIES["r1"](), 3)
    assert comparison(chosen) == chosen
    assert comparison(chosen, critic_steps=2).critic_steps == 2
    assert comparison("wgan-gp", one_sided=True).regulariser == WassersteinPenalty(0.1, one_sided=True)
    assert comparison("wgan-gp").regulariser == WassersteinPenalty(0.1)
    third = comparison("alpha", alpha=0.7)
    assert isinstance(third, Adversarial)
    assert third.learns == FDivergenceLoss(divergence=Alpha(0.7))
    assert third.moves == DivergenceLoss(Alpha(0.7))


def test_bad_arguments_are_named() -> None:
    for wrong, message in [
        (lambda: comparison("wgan_gp2"), r"comparison: expected one of gan, .*\(did you mean 'wgan-gp'\?\)"),
        (lambda: comparison("gan", penality=1), r"setting of 'gan': expected one of .*\(did you mean 'penalty'\?\)"),
        (lambda: comparison("wgan-gp", one_sided=True, penalty="r1"), "one_sided: expected None with the penalty"),
        (lambda: comparison("alpha", alpha=1.5), r"alpha: expected a number inside \(0, 1\); got 1.5"),
        (lambda: Adversarial("logs"), "loss: expected one of log"),
        (lambda: Adversarial(clip=0.0), "clip: expected a positive number or None; got 0.0"),
        (lambda: Adversarial(critic_steps=0), "critic_steps: expected a positive int; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
    for thing in (3, int):
        with pytest.raises(TypeError, match=r"comparison: expected a name or a Comparison such as GAN\(...\); got int"):
            comparison(thing)
    for method in ("critic_objective", "generator_objective"):
        with pytest.raises(NotImplementedError, match=f"must write {method}"):
            getattr(Comparison(), method)(torch.zeros(1), torch.zeros(1))
