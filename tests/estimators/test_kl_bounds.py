"""Bounds on KL: tight at the true ratio, below it elsewhere, with errors that repeats confirm, and finite far out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from implicit_estimators.kl_bounds import KL_BOUNDS, kl_bound

P, Q = Normal(0.0, 1.0), Normal(0.5, 1.0)
KL = 0.125


def log_ratio(x: torch.Tensor) -> torch.Tensor:
    return P.log_prob(x) - Q.log_prob(x)


def draws(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=draw), 0.5 + torch.randn(n, generator=draw)


@pytest.mark.parametrize("name", KL_BOUNDS)
def test_the_true_ratio_gives_kl_and_the_error_is_that_of_repeats(name: str) -> None:
    found = [kl_bound(name, *map(log_ratio, draws(500, seed))) for seed in range(200)]
    values = torch.tensor(found)
    assert float(values.mean()) == pytest.approx(KL, abs=4 * float(values.std()) / math.sqrt(200) + 1 / 500)
    claimed = sum(estimate.standard_error for estimate in found) / 200
    assert claimed == pytest.approx(float(values.std()), rel=4 / math.sqrt(2 * 200))


def test_other_critics_give_less_and_constants_matter_to_one() -> None:
    p, q = draws(200_000, 0)
    for critic in (lambda x: 0.5 * log_ratio(x), lambda x: 1.5 * log_ratio(x), torch.sin):
        assert kl_bound("nwj", critic(p), critic(q)) <= kl_bound("donsker-varadhan", critic(p), critic(q)) < KL
    moved = {name: kl_bound(name, log_ratio(p) + 1, log_ratio(q) + 1) for name in KL_BOUNDS}
    assert moved["donsker-varadhan"] == pytest.approx(KL, abs=0.01)
    assert moved["smile"] == pytest.approx(KL, abs=0.01)
    assert moved["nwj"] == pytest.approx(KL + 2 - math.e, abs=0.02)


def test_clipping_matters_beyond_tau_only() -> None:
    p, q = torch.tensor([9.0]), torch.tensor([20.0, -20.0])
    assert kl_bound("smile", p, q, tau=30) == pytest.approx(float(kl_bound("donsker-varadhan", p, q)))
    assert kl_bound("smile", p, q, tau=1) == pytest.approx(9 - math.log(math.cosh(1)))


@pytest.mark.parametrize("name", KL_BOUNDS)
def test_80_nats_are_finite(name: str) -> None:
    critic = torch.tensor([80.0, -80.0, 80.0])
    assert math.isfinite(kl_bound(name, critic, critic))
    assert math.isfinite(kl_bound(name, critic, critic).standard_error)


def test_bad_arguments_are_named() -> None:
    one = torch.zeros(1)
    for arguments, settings, message in [
        (("mine", one, one), {}, "name: expected one of nwj, donsker-varadhan, smile; got 'mine'"),
        (("nwj", one[:0], one), {}, "critic_p: expected values of at least one sample"),
        (("smile", one, one), {"tau": 0}, "tau: expected a positive number; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            kl_bound(*arguments, **settings)
