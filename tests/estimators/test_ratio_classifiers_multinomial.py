"""Many classes: log-ratios of 50 and 200 nats between sets that share no sample, and the plain case as well."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from implicit_estimators.ratio import MultinomialRatio

P, Q = Normal(-1.0, 0.1), Normal(1.0, 0.2)
"""The one-dimensional example of Srivastava et al."""


def log_ratio(x: torch.Tensor) -> torch.Tensor:
    return (P.log_prob(x) - Q.log_prob(x))[:, 0]


def far_apart(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    p, q = (law.loc + law.scale * torch.randn(n, 1, generator=draw) for law in (P, Q))
    return p, q


def test_a_quadratic_map_and_a_cauchy_class_reach_far_apart_sets() -> None:
    """Relative error of log r, about 50 at p and -200 at q: measured .025 at n = 4000; a tenth is asked for."""
    ratio = MultinomialRatio(hidden=(), quadratic=True, auxiliary="cauchy").fit(*far_apart(3000, 0), seed=0)
    for side in far_apart(2000, 1):
        truth = log_ratio(side)
        assert float((ratio.log_ratio(side) - truth).abs().mean()) < 0.1 * float(truth.abs().mean())


def test_without_auxiliaries_in_between_the_ratio_is_not_known_and_networks_stay_finite() -> None:
    """A network is right in sign and in order of magnitude at p, and far too timid at q: it is no quadratic."""
    ratio = MultinomialRatio(auxiliary="both", epochs=20, learning_rate=1e-2).fit(*far_apart(1000, 0), seed=0)
    at_p, at_q = (ratio.log_ratio(side) for side in far_apart(500, 1))
    assert at_p.min() > 10
    assert at_q.max() < -10


@pytest.mark.parametrize("auxiliary", ["mixing", "cauchy", "both"])
def test_near_sets_and_sets_of_different_size(plane, auxiliary: str) -> None:
    """Classes weigh the same: no prior to correct. As loosely as of the binary classifier at n = 2000 (.25)."""
    p, q = plane.samples(2000, 1000, 0)
    ratio = MultinomialRatio(auxiliary=auxiliary, learning_rate=1e-2, epochs=20).fit(p, q, seed=0)
    for side in plane.samples(5000, 5000, 1):
        assert float((ratio.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < 0.35


def test_the_solved_map_is_exact_for_gaussians(plane, tmp_path) -> None:
    """Logistic regression on products has .04/.04 at n = 10,000, so .08 here on average; three times that for one."""
    heard = []
    ratio = MultinomialRatio(hidden=(), quadratic=True, classes=2)
    ratio.fit(*plane.samples(3000, 3000, 0), seed=0, progress=lambda epoch, figures: heard.append(figures))
    for side in plane.samples(5000, 5000, 1):
        assert float((ratio.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < 0.25
    assert [set(figures) for figures in heard] == [{"loss"}]
    ratio.save(tmp_path / "ratio")
    x = plane.samples(9, 1, 2)[0]
    assert torch.equal(MultinomialRatio.load(tmp_path / "ratio").log_ratio(x), ratio.log_ratio(x))


@pytest.mark.parametrize("n", [2, 50])
def test_the_solved_map_stays_finite_on_separable_sets(n: int) -> None:
    draw = torch.Generator().manual_seed(0)
    for p, q in [
        (torch.randn(n, 2, generator=draw) - 1e3, torch.randn(n, 2, generator=draw) + 1e3),
        (torch.zeros(n, 1), torch.ones(n, 1)),
        (torch.full((n, 1), 7.0), torch.full((n, 1), 7.0)),
    ]:
        ratio = MultinomialRatio(hidden=(), quadratic=True).fit(p, q, seed=0)
        for side in (p, q, torch.full_like(p, 3e38)):
            assert torch.isfinite(ratio.log_ratio(side)).all()


def test_bad_settings_are_named() -> None:
    for settings, message in [
        ({"auxiliary": "normal"}, "auxiliary: expected one of mixing, cauchy, both; got 'normal'"),
        ({"classes": 0}, "classes: expected a positive int; got 0"),
        ({"standardise": "z"}, "standardise: expected one of moments, robust, ranks"),
        ({"validation": 1.0}, r"validation: expected a share inside \(0, 1\)"),
        ({"activation": "swish"}, "activation: expected one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            MultinomialRatio(**settings)
