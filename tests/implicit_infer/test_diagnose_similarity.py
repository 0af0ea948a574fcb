"""MS-SSIM: closed forms at constant images, invariances, and a collapse that it sees."""

import pytest
import torch

from implicit_infer.diagnose import diversity, ms_ssim


def images(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 2, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [3, 8, 28, 64, 176])
def test_identical_images_are_one_and_it_is_symmetric(size: int) -> None:
    x, y = images(2, size), images(2, size, 1)
    assert torch.allclose(ms_ssim(x, x, value_range=1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(ms_ssim(x, y, value_range=1), ms_ssim(y, x, value_range=1))
    assert (ms_ssim(x, y, value_range=1) < 0.9).all()


@pytest.mark.parametrize(("size", "weight"), [(8, 1.0), (176, 0.1333 / 1.0001)])
def test_constant_images_differ_by_luminance_alone(size: int, weight: float) -> None:
    """cs = 1 everywhere, and l = (2ab + c1) / (a^2 + b^2 + c1) to the power of the last scale's weight."""
    a, b, c1 = 0.2, 0.6, 1e-4
    x, y = (torch.full((1, 1, size, size), value) for value in (a, b))
    expected = ((2 * a * b + c1) / (a**2 + b**2 + c1)) ** weight
    assert float(ms_ssim(x, y, value_range=1)) == pytest.approx(expected, rel=1e-6)


def test_units_do_not_matter() -> None:
    x, y = images(3, 32), images(3, 32, 1)
    assert torch.allclose(ms_ssim(x, y, value_range=1), ms_ssim(255 * x, 255 * y, value_range=255))


def test_images_that_all_look_alike_are_told() -> None:
    base = images(1, 32)
    alike = base + 0.01 * images(20, 32, 1)
    assert diversity(alike, value_range=1, pairs=50) > 0.95
    assert diversity(images(20, 32, 2), value_range=1, pairs=50) < 0.3


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        ms_ssim(images(2, 8), images(2, 16), value_range=1)
    with pytest.raises(ValueError, match="value_range: expected a positive number"):
        ms_ssim(images(2, 8), images(2, 8), value_range=0)
    with pytest.raises(ValueError, match="finite"):
        ms_ssim(images(2, 8), images(2, 8) / 0, value_range=1)
    with pytest.raises(ValueError, match="at least 2"):
        diversity(images(1, 8), value_range=1)
