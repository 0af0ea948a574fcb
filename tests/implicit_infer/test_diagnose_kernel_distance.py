"""KID: zero on average for one law, and the value that moments give for two."""

import pytest
import torch

from implicit_infer.diagnose import kernel_distance


def normal(n: int, seed: int, d: int = 1) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_it_is_what_the_moments_give() -> None:
    r"""In one dimension k = 1 + 3ab + 3a^2 b^2 + a^3 b^3: squared differences of moments, times 3, 3, 1.

    N(1, 1) against N(0, 1): moments 1, 2, 4 against 0, 1, 0, so 3 + 3 + 16.
    """
    found = kernel_distance(1 + normal(20_000, 0), normal(20_000, 1), subsets=40, rows=500)
    assert abs(found - 22) < 4 * found.standard_error + 0.9  # the subsets overlap: 20,000 draws know it to about 0.3


def test_one_law_is_at_zero() -> None:
    found = kernel_distance(normal(10_000, 0, 5), normal(10_000, 1, 5), subsets=50, rows=200)
    assert abs(found) < 4 * found.standard_error


def test_features_are_what_is_compared() -> None:
    x, y = normal(500, 0, 2), normal(500, 1, 2) + torch.tensor([0.0, 9.0])
    blind = kernel_distance(x, y, features=lambda z: z[:, :1], subsets=10, rows=200)
    assert abs(blind) < 5 * blind.standard_error
    assert kernel_distance(x, y, subsets=10, rows=200) > 100


def test_seeds_repeat_and_bad_input_is_refused() -> None:
    x, y = normal(50, 0), normal(50, 1)
    assert kernel_distance(x, y, subsets=3, rows=20, seed=4) == kernel_distance(x, y, subsets=3, rows=20, seed=4)
    with pytest.raises(ValueError, match="subsets, rows: expected at least 2"):
        kernel_distance(x, y, subsets=1)
    with pytest.raises(ValueError, match="draws, data: expected one width"):
        kernel_distance(x, torch.zeros(5, 3))
