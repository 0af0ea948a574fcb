"""A fresh critic finds the distance between normal laws, and sees that a copy of the training data is no model."""

import pytest
import torch

from implicit_infer.diagnose.independent_critic import independent_critic


def normal(n, seed, d=2):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 1.0, 4.0])
def test_the_distance_of_shifted_normal_laws_is_the_shift(shift):
    draws = normal(1000, 2) + torch.tensor([shift, 0.0])
    score = independent_critic(
        normal(1000, 0), normal(1000, 1), draws, steps=150, hidden=(64,), learning_rate=4e-3, seed=0
    )
    # a lower bound up to noise; at five seeds it came to 0.78 to 0.93 of the shift
    assert 0.75 * shift - 0.05 < score.distance < shift + 4 * score.standard_error
    assert float(score) == score.distance
    assert score.train is None
    assert score.overfit is None
    assert 0.02 < score.standard_error < 0.12


def test_units_of_the_data_are_kept():
    sets = normal(600, 0), normal(600, 1), normal(600, 2) + 1
    one, thousand = (
        independent_critic(*(factor * rows for rows in sets), steps=40, hidden=(32,), seed=0) for factor in (1, 1000)
    )
    assert thousand.distance == pytest.approx(1000 * one.distance, rel=1e-3)


def test_a_model_that_memorised_is_nearer_to_what_it_learned_from():
    train, d = normal(24, 0, 8), 8
    jitter = torch.Generator().manual_seed(5)
    chosen = train[torch.randint(24, (1200,), generator=jitter)]
    copies = chosen + 0.05 * torch.randn(1200, d, generator=jitter)
    how = {"train": train, "steps": 100, "hidden": (64,), "learning_rate": 4e-3, "seed": 0}
    score = independent_critic(normal(1000, 1, d), normal(1000, 2, d), copies, **how)
    honest = independent_critic(normal(1000, 1, d), normal(1000, 2, d), normal(1200, 3, d), **how)
    assert score.overfit > 0.3
    assert score.distance > honest.distance + 0.3
    assert score.learned >= score.distance - 4 * score.standard_error


def test_images_are_rows_and_a_seed_repeats():
    sets = normal(50, 0, 16).reshape(50, 1, 4, 4), normal(50, 1, 16).reshape(50, 1, 4, 4), normal(60, 2, 16)
    first, again = (independent_critic(*sets, steps=5, hidden=(8,), seed=7) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": 0}, "steps"),
        ({"test_share": 1.0}, "test_share"),
        ({"test": torch.zeros(5, 3)}, "test: expected 2 columns"),
        ({"draws": torch.zeros(1, 2)}, "draws: expected at least 2 rows"),
    ],
)
def test_what_is_wrong_is_named(change, match):
    given = {"validation": normal(5, 0), "test": normal(5, 1), "draws": normal(5, 2)} | change
    with pytest.raises(ValueError, match=match):
        independent_critic(**given)
