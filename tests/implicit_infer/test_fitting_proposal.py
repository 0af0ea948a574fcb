"""The Gaussian proposal against closed forms: gradients, natural steps, entropy, draws, and what baselines change."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from implicit_infer.fitting.proposal import Gaussian, local_gradient, noise

KINDS = ("independent", "antithetic", "sobol")


def quadratic(seed: int, dim: int = 3) -> tuple[Gaussian, Tensor, Tensor]:
    """A proposal, and the Q and b of the loss v'Qv/2 + b'v, whose expectations are known."""
    random = torch.Generator().manual_seed(seed)
    root = torch.eye(dim, dtype=torch.float64) + 0.3 * torch.randn(dim, dim, generator=random, dtype=torch.float64)
    half = torch.randn(dim, dim, generator=random, dtype=torch.float64)
    mean, b = torch.randn(2, dim, generator=random, dtype=torch.float64)
    return Gaussian(mean, root), half + half.T, b


def expected(mean: Tensor, root: Tensor, q: Tensor, b: Tensor) -> Tensor:
    return 0.5 * mean @ q @ mean + 0.5 * torch.trace(q @ root @ root.T) + b @ mean


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_plain_gradients_are_those_of_the_expected_loss(seed: int) -> None:
    proposal, q, b = quadratic(seed)
    mean, root = (tensor.clone().requires_grad_() for tensor in (proposal.mean, proposal.root))
    expected(mean, root, q, b).backward()
    g, big = proposal.root.T @ (q @ proposal.mean + b), proposal.root.T @ q @ proposal.root
    for found, known in zip(proposal.gradient(g, big), (mean.grad, root.grad), strict=True):
        assert torch.allclose(found, known, rtol=1e-6, atol=1e-8)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_natural_step_is_the_inverse_fisher_information_times_the_gradient(seed: int) -> None:
    """For the mean Fisher is the inverse of the covariance S; for S it maps D to S^-1 D S^-1 / 2 (closed form)."""
    proposal, q, b = quadratic(seed)
    cov, rate = proposal.covariance, 1e-6
    g, big = proposal.root.T @ (q @ proposal.mean + b), proposal.root.T @ q @ proposal.root
    moved = proposal.natural_step(g, big, rate, rate)
    assert torch.allclose((moved.mean - proposal.mean) / rate, -cov @ (q @ proposal.mean + b), rtol=1e-4, atol=1e-5)
    step = (moved.covariance - cov) / rate
    fisher_of_step = torch.linalg.inv(cov) @ step @ torch.linalg.inv(cov) / 2
    assert torch.allclose(fisher_of_step, -q / 2, rtol=1e-3, atol=1e-4)  # the gradient of the expected loss in S


def test_steps_keep_the_covariance_positive_and_end_at_the_trusted_distance() -> None:
    proposal = Gaussian(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    g, big = torch.tensor([300.0, 0.0]).double(), torch.diag(torch.tensor([50.0, -50.0])).double()
    moved = proposal.natural_step(g, big, 1.0, 1.0, most=0.01)
    assert bool((torch.linalg.eigvalsh(moved.covariance) > 0).all())
    laws = [MultivariateNormal(one.mean, one.covariance) for one in (moved, proposal)]
    # the bound is the divergence to second order: exact to a few per cent at this size
    assert float(kl_divergence(*laws)) == pytest.approx(0.01, rel=0.05)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_entropy_and_its_gradient(seed: int) -> None:
    proposal, _, _ = quadratic(seed)
    assert torch.allclose(proposal.entropy, MultivariateNormal(proposal.mean, proposal.covariance).entropy())
    root = proposal.root.clone().requires_grad_()
    Gaussian(proposal.mean, root).entropy.backward()
    # adding gamma I to G of its own frame is the entropy's gradient, inverse of the transposed root
    _, found = proposal.gradient(torch.zeros(3).double(), torch.eye(3).double())
    assert torch.allclose(found, root.grad, rtol=1e-6, atol=1e-8)


def test_an_entropy_penalty_alone_shrinks_every_direction_alike() -> None:
    proposal, _, _ = quadratic(1)
    moved = proposal.natural_step(torch.zeros(3).double(), torch.eye(3).double(), 1.0, 0.5)
    assert torch.allclose(moved.covariance, proposal.covariance * math.exp(-0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_standard_normal_and_blocks_are_independent(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    batches = [noise(16, 2, kind, random) for _ in range(200)]
    z = torch.stack([draws for draws, _ in batches])
    n = z[..., 0].numel()
    # of independent draws; the others' means scatter less
    assert float(z.mean((0, 1)).abs().max()) < 4 / math.sqrt(n)
    assert float((z.square().mean((0, 1)) - 1).abs().max()) < 4 * math.sqrt(2 / n)
    blocks = batches[0][1]
    means = torch.stack([z[:, blocks == block].mean((1, 2)) for block in (0, 1)])
    assert abs(float(torch.corrcoef(means)[0, 1])) < 4 / math.sqrt(200) if kind != "antithetic" else True
    if kind == "antithetic":
        assert torch.equal(z[:, blocks == 0].sum(1), torch.zeros(200, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("baseline", ["leave-out", "optimal"])
def test_a_baseline_leaves_the_expectation_and_lowers_the_variance(kind: str, baseline: str) -> None:
    """The mean over 300 batches lies within 4.5 of its standard errors from the exact gradient, entry by entry."""
    random = torch.Generator().manual_seed(3)
    q, b = torch.tensor([[1.0, 0.5], [0.5, -1.0]]), torch.tensor([1.0, -2.0])
    found: dict[str, list[Tensor]] = {"none": [], baseline: []}
    for _ in range(300):
        z, blocks = noise(8, 2, kind, random)
        losses = 10 + 0.5 * ((z @ q) * z).sum(1) + z @ b
        for name, kept in found.items():
            g, big = local_gradient(losses, z, blocks, name)
            kept.append(torch.cat([g, big.flatten()]))
    exact = torch.cat([b, q.flatten()])
    spread = {}
    for name, kept in found.items():
        stacked = torch.stack(kept)
        spread[name] = stacked.var(0)
        error = (stacked.mean(0) - exact) / (spread[name] / len(kept)).sqrt().clamp_min(1e-6)
        assert float(error.abs().max()) < 4.5, name
    # a loss of 10 that all draws share is noise without a baseline; Sobol draws cancel most of it in g themselves
    assert float(spread[baseline][2:].sum()) < 0.5 * float(spread["none"][2:].sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise(7, 2, "sobol", torch.Generator()), "even number of sobol draws; got 7"),
        (lambda: noise(8, 2, "latin", torch.Generator()), "expected independent, antithetic or sobol; got 'latin'"),
        (
            lambda: local_gradient(torch.zeros(4), torch.zeros(4, 1), torch.zeros(4, dtype=torch.long), "leave-out"),
            "two blocks",
        ),
        (lambda: local_gradient(torch.zeros(4), torch.zeros(4, 1), torch.arange(4), "mean"), "got 'mean'"),
    ],
)
def test_what_cannot_be_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
