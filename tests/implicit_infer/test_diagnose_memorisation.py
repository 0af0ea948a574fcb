"""Planted copies are flagged, fresh draws are not."""

import pytest
import torch

from implicit_infer.diagnose import memorisation


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def test_fresh_draws_of_the_law_are_no_copies() -> None:
    """P-values of 60 tests are spread over (0, 1): their mean is within 4 standard errors of a half."""
    p = torch.tensor(
        [memorisation(normal(60, 3 * s), normal(50, 3 * s + 1), normal(60, 3 * s + 2)).p_value for s in range(60)]
    )
    assert abs(float(p.mean()) - 0.5) < 4 * (1 / 12) ** 0.5 / 60**0.5


def test_planted_copies_are_found() -> None:
    training = normal(200, 0)
    draws = torch.cat([normal(150, 1), training[10:60] + 1e-6])
    found = memorisation(draws, training, normal(400, 2))
    assert found.p_value < 1e-3
    assert found.copies == pytest.approx(0.25, abs=0.02)
    assert found.nearest[150:].tolist() == list(range(10, 60))
    assert found.statistic > 0.55


def test_a_model_that_strays_is_below_a_half() -> None:
    found = memorisation(10 + normal(100, 0), normal(100, 1), normal(100, 2))
    assert found.statistic == 0
    assert found.p_value > 0.99


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="held_out, training: expected one width"):
        memorisation(normal(5, 0), normal(5, 1), torch.zeros(5, 3))
