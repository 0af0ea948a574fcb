"""A Laplacian pyramid is learned level by level, each by a critic that sees the blurred image beside it."""

import pytest
import torch

from implicit_estimators.penalties import R1
from implicit_infer.generators.networks import PyramidGenerator
from implicit_infer.generators.pyramid import LevelCritic, learn_pyramid

QUICK = {"batch_size": 32, "progress": False, "average": 0.9}


def blobs(n, seed=0):
    """Spots in one of two corners, and the corner."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.randint(2, (n,), generator=random)
    images = 0.1 * torch.randn(n, 1, 4, 4, generator=random)
    images[corner == 0, :, :2, :2] += 1
    images[corner == 1, :, 2:, 2:] += 1
    return images, corner


@pytest.mark.parametrize("how", ["gan", "mmd"])
def test_levels_are_learned_one_by_one_and_draw_together(how):
    images, corner = blobs(400)
    pyramid = PyramidGenerator((1, 4, 4), 3, 1, levels=2, width=8, hidden=(32,), classes=2, seed=0)
    start = {name: tensor.clone() for name, tensor in pyramid.state_dict().items()}
    steps = 60 if how == "mmd" else 3
    levels = learn_pyramid(pyramid, images, how, condition=corner, steps=steps, learning_rate=1e-2, seed=0, **QUICK)
    assert [tuple(learned.event_shape) for learned in levels] == [(1, 4, 4), (1, 2, 2)]
    assert all(not torch.equal(start[n], p) for n, p in pyramid.named_parameters() if n.endswith("weight"))
    draws = pyramid.sample(200, torch.arange(200) % 2, seed=1)
    assert draws.shape == (200, 1, 4, 4)
    if how == "mmd":  # the spot is in the corner that is asked for, by half its height at least
        first, second = draws[0::2].mean((0, 1)), draws[1::2].mean((0, 1))
        assert first[:2, :2].mean() - second[:2, :2].mean() > 0.5
        assert second[2:, 2:].mean() - first[2:, 2:].mean() > 0.5


def test_the_critic_of_a_level_has_slopes_of_its_own_for_each_sample():
    critic = LevelCritic((2, 4, 4), True, 1, 4, seed=0)
    random = torch.Generator().manual_seed(0)
    details, given = torch.randn(5, 2, 4, 4, generator=random), torch.randn(5, 33, generator=random)
    critic.fit_blurred(given)
    whole = critic(details, given)
    assert whole.shape == (5,)
    assert torch.allclose(critic(details[:2], given[:2]), whole[:2], atol=1e-6)
    assert not torch.allclose(critic(details, given + 1), whole)
    loss = R1().penalty(critic, details, details, condition=given)
    loss.backward()
    assert critic.layers[0].weight.grad.abs().sum() > 0
    assert LevelCritic((1, 2, 2), False, outputs=3, spectral_norm=True, seed=0)(torch.zeros(2, 1, 2, 2)).shape == (2, 3)


def test_images_of_another_shape_are_refused():
    pyramid = PyramidGenerator((1, 4, 4), 3, levels=2, width=4, hidden=(4,), seed=0)
    with pytest.raises(ValueError, match="images: expected shape"):
        learn_pyramid(pyramid, torch.zeros(5, 1, 8, 8))
