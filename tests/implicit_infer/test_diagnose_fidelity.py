"""Precision, recall, density and coverage: the expectations that hold for every law, and what collapse does to each."""

import math

import pytest
import torch

from implicit_infer.diagnose import fidelity


def normal(n: int, seed: int, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_density_and_coverage_of_one_law_have_the_means_of_the_paper() -> None:
    """Over 40 pairs of sets; the standard errors are measured on them."""
    found = [fidelity(normal(60, 2 * seed), normal(50, 2 * seed + 1), k=3) for seed in range(40)]
    for values, mean in (
        ([f.density for f in found], 1.0),
        ([f.coverage for f in found], 1 - math.prod((50 - i) / (110 - i) for i in (1, 2, 3))),
    ):
        t = torch.tensor(values)
        assert abs(float(t.mean()) - mean) < 4 * float(t.std()) / math.sqrt(40)
    assert found[0].expected_coverage == pytest.approx(1 - 49 * 48 * 47 / (109 * 108 * 107))


def test_a_collapsed_model_is_precise_and_covers_little() -> None:
    data = normal(500, 0)
    found = fidelity(0.01 * normal(500, 1), data)
    assert found.precision > 0.95
    assert found.recall < 0.05
    assert found.coverage < 0.1


def test_a_model_that_strays_is_imprecise_and_recalls() -> None:
    found = fidelity(5 * normal(2000, 1), normal(500, 0))
    assert found.precision < 0.5
    assert found.recall > 0.9


def test_an_outlier_of_the_data_raises_precision_and_hardly_density() -> None:
    """The flaw of precision that density was made for: one far datum owns a ball that holds everything."""
    data = torch.cat([normal(200, 0), torch.full((1, 3), 100.0)])
    found = fidelity(10 + normal(200, 1), data)
    assert found.precision == 1
    assert found.density < 0.3


def test_exchange_swaps_precision_and_recall() -> None:
    x, y = normal(80, 0), 0.5 + normal(90, 1)
    one, other = fidelity(x, y), fidelity(y, x)
    assert (one.precision, one.recall) == (other.recall, other.precision)


def test_images_are_flattened_and_bad_input_is_refused() -> None:
    images = normal(40, 0, 12).reshape(40, 3, 2, 2)
    assert fidelity(images, images).coverage == 1
    with pytest.raises(ValueError, match=r"draws: expected samples of shape .* n >= 6"):
        fidelity(normal(5, 0), normal(10, 1))
    with pytest.raises(ValueError, match="draws, data: expected one width"):
        fidelity(normal(10, 0, 2), normal(10, 1, 3))
    with pytest.raises(ValueError, match="data: expected finite values"):
        fidelity(normal(10, 0), normal(10, 1) / 0)
    with pytest.raises(ValueError, match="k: expected a positive int"):
        fidelity(normal(10, 0), normal(10, 1), k=0)
