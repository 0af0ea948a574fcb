"""The Wasserstein distance of marginals against SciPy's and against closed forms."""

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_infer.diagnose import marginal_wasserstein


@given(n=st.integers(2, 40), m=st.integers(2, 40), seed=st.integers(0, 2**31))
def test_it_is_scipys_over_the_references_spread(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(n, 2, generator=generator), 3 * torch.randn(m, 2, generator=generator) + 1
    expected = [
        scipy.stats.wasserstein_distance(p[:, j].numpy(), q[:, j].numpy()) / q[:, j].double().std().item()
        for j in range(2)
    ]
    torch.testing.assert_close(marginal_wasserstein(p, q), torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)


def test_a_shift_by_one_standard_deviation_is_one():
    q = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(marginal_wasserstein(q + q.std(0), q), torch.ones(3), rtol=1e-3, atol=0)


def test_equal_laws_differ_by_the_noise_it_names():
    """E W = 2 / sqrt(pi n) times the integral of sqrt(F (1 - F)): 1.82 / sqrt(n) for a normal, here within 15 %."""
    generator = torch.Generator().manual_seed(1)
    n = 1000
    p, q = torch.randn(n, 200, generator=generator), torch.randn(n, 200, generator=generator)
    assert abs(marginal_wasserstein(p, q).mean() * n**0.5 / 1.82 - 1) < 0.15


def test_order_and_repeats_do_not_matter():
    q = torch.randn(50, 2, generator=torch.Generator().manual_seed(2))
    p = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
    once = marginal_wasserstein(p, q)
    torch.testing.assert_close(marginal_wasserstein(p.flip(0).repeat(3, 1), q), once)


@pytest.mark.parametrize(("p", "q"), [((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5,), (5,))])
def test_bad_shapes_are_refused(p, q):
    with pytest.raises(ValueError, match="expected shapes"):
        marginal_wasserstein(torch.zeros(p), torch.zeros(q))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        marginal_wasserstein(torch.full((3, 1), float("nan")), torch.zeros(3, 1))
