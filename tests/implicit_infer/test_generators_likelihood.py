"""Maximum likelihood as a comparison: the entropy of a normal law, bits of discrete data, and the best weights kept."""

import math

import pytest
import torch

from implicit_infer.games import Alternating, Batch, Play, Training
from implicit_infer.generators.likelihood import (
    HeldOut,
    MaximumLikelihood,
    bits_per_dimension,
    dequantised,
    likelihood_duel,
    log_densities,
    negative_log_density,
)
from implicit_infer.generators.networks import FlowGenerator, MLPGenerator


def learned(data, flow, steps, how=None, watch=None, rate=5e-3):
    random = torch.Generator().manual_seed(0)

    def draw():
        return Batch(data[torch.randint(len(data), (256,), generator=random)])

    duel = likelihood_duel(flow, MaximumLikelihood() if how is None else how, draw, random)
    training = Training(steps=steps, learning_rate=rate, marks=10, average=0.95)
    play = Play(duel, Alternating(), training)
    play.run(progress=False, watch=watch)
    return play


def test_likelihood_of_a_flow_on_a_normal_law_reaches_the_entropy():
    random = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    rows = torch.randn(12_000, 2, generator=random) @ mixing.T + torch.tensor([3.0, -1.0])
    train, test = rows[:8000], rows[8000:]
    flow = FlowGenerator(2, transforms=2, hidden=(16,), seed=0)
    flow.fit_scale(train)
    play = learned(train, flow, 150, rate=1e-2)
    entropy = math.log(2 * math.pi * math.e) + math.log(abs(float(torch.linalg.det(mixing))))
    values = -log_densities(play.averaged, test)
    law = torch.distributions.MultivariateNormal(torch.tensor([3.0, -1.0]), mixing @ mixing.T)
    noise = values - (-law.log_prob(test).double())
    # paired with the truth, the sampling noise of the entropy itself drops out; five parameters cost 5 / (2 * 8000)
    assert float(noise.mean()) < 0.01 + 3 * float(noise.std()) / math.sqrt(len(test))
    assert float(noise.mean()) > -3 * float(noise.std()) / math.sqrt(len(test))
    assert abs(float(values.mean()) - entropy) < 0.01 + 3 * float(values.std()) / math.sqrt(len(test))
    # at the start it was the product of two normal laws, which knows nothing of the correlation of 0.95
    assert entropy + 1.0 < negative_log_density(flow_at_start(train), test)


def flow_at_start(train):
    flow = FlowGenerator(2, transforms=2, hidden=(16,), seed=0)
    flow.fit_scale(train)
    return flow


def test_the_objective_is_the_negative_mean_log_density():
    flow = FlowGenerator(2, 1, transforms=2, hidden=(4,), seed=0)
    batch = Batch(torch.tensor([[0.3, 1.0], [2.0, -1.0]]), condition=torch.tensor([[1.0], [2.0]]))
    expected = torch.distributions.Normal(0, 1).log_prob(batch.real).sum(1).mean()
    assert torch.allclose(MaximumLikelihood().density_objective(flow, batch), -expected)


def test_dequantised_data_fill_their_bins_and_keep_a_density_from_growing():
    data = torch.zeros(4000, 1)
    spread = dequantised(data, 0.5, seed=0)
    assert spread.min() >= 0
    assert spread.max() < 0.5
    assert abs(float(spread.mean()) - 0.25) < 4 * 0.5 / math.sqrt(12 * 4000)
    flow = FlowGenerator(1, transforms=2, hidden=(4,), bounds=(0.0, 1.0), seed=0)
    random = torch.Generator().manual_seed(1)
    how = MaximumLikelihood(0.5)
    values = [float(how.density_objective(flow, Batch(data), random).detach()) for _ in range(2)]
    assert values[0] != values[1]  # fresh noise
    other = -log_densities(flow, spread)  # of the same law: 4,000 draws each
    assert abs(values[0] - float(other.mean())) < 4 * float(other.std()) * math.sqrt(2 / 4000)


def test_bits_of_the_uniform_law_are_the_logarithm_of_its_levels():
    # 256 levels in [0, 256), and the same in [0, 1)
    assert float(bits_per_dimension(torch.tensor(-3 * math.log(256)), 3)) == pytest.approx(8)
    assert float(bits_per_dimension(torch.tensor(0.0), 3, 1 / 256)) == pytest.approx(8)


def test_held_out_data_say_where_to_stop():
    random = torch.Generator().manual_seed(0)
    train, held_out = torch.randn(40, 2, generator=random), torch.randn(2000, 2, generator=random)
    flow = FlowGenerator(2, transforms=3, hidden=(32,), seed=0)
    watch = HeldOut(held_out, train)
    play = learned(train, flow, 120, watch=watch, rate=2e-2)
    figures = play.history.figures
    assert figures["held_out"][-1] > watch.best + 0.05
    assert watch.best_step < 120
    assert figures["learned_from"][-1] < figures["learned_from"][0]  # overfitted, not diverged
    watch.put_back(flow)
    assert negative_log_density(flow, held_out) == pytest.approx(watch.best, abs=1e-6)


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match="bin_width: expected a positive"):
        MaximumLikelihood(0.0)
    with pytest.raises(ValueError, match="dimensions, bin_width"):
        bits_per_dimension(torch.zeros(1), 0)
    with pytest.raises(TypeError, match=r"generator: expected one with log_prob.*MLPGenerator"):
        MaximumLikelihood().density_objective(MLPGenerator(2, 2), Batch(torch.zeros(2, 2)))


def test_log_densities_are_in_double_precision_and_leave_the_network_as_it_is():
    flow = FlowGenerator(2, transforms=1, hidden=(4,), seed=0)
    assert log_densities(flow, torch.zeros(5, 2), batch_size=2).dtype == torch.float64
    assert flow.location.dtype == torch.float32
    assert flow.training
