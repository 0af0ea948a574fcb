"""What every density-ratio estimator owes: one face, finite numbers from finite samples, seeds and files."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from implicit_estimators.ratio import RATIO_ESTIMATORS
from implicit_estimators.ratio.base import RatioEstimator

QUICK: dict[str, dict] = {
    "auto": {
        "candidates": ["gaussian", ["ensemble", {"networks": 2, "hidden": [8], "epochs": 5, "batch_size": 128}]],
    },
    "logistic": {"hidden": (16,), "epochs": 15, "batch_size": 64, "learning_rate": 1e-2},
    "brier": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "exponential": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "f-divergence": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "nwj": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "donsker-varadhan": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "smile": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "lsif": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "relative": {"hidden": (16,), "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "multinomial": {"hidden": (16,), "classes": 2, "epochs": 12, "batch_size": 256, "learning_rate": 5e-2},
    "classifier": {"folds": 2},
    "ensemble": {"networks": 2, "hidden": (16,), "epochs": 15, "batch_size": 64, "learning_rate": 1e-2},
    "kernel-logistic": {"centres": 20, "bandwidths": (1.0, 4.0), "ridges": (1e-2, 1e-4), "folds": 2},
    "ulsif": {"centres": 100, "bandwidths": (1.0, 2.0), "ridges": (1e-2, 1e-1), "folds": 2},
    "rulsif": {"centres": 100, "bandwidths": (1.0, 2.0), "ridges": (1e-2, 1e-1), "folds": 2},
    "kliep": {"centres": 20, "bandwidths": (0.5, 1.0), "rows": 100, "folds": 2},
    "gaussian": {},
    "quadratic": {"spreads": (1.0,)},
    "mixture": {"most": 2},
    "flow": {"transforms": 1, "hidden": (16,), "epochs": 4, "batch_size": 128},
    "featurised": {"base": "gaussian", "transforms": 1, "hidden": (16,), "epochs": 4, "batch_size": 256},
    "telescoping": {"bridges": 2, "hidden": (16,), "epochs": 15, "batch_size": 64, "learning_rate": 1e-2, "pilot": 5},
    "dre-infinity": {"hidden": (16,), "steps": 15, "batch_size": 256, "learning_rate": 5e-2},
    "conditional-path": {"hidden": (16,), "steps": 15, "batch_size": 256, "learning_rate": 5e-2},
}
"""Settings under which each is fitted in a fraction of a second."""
NOT_SAVED: set[str] = {"classifier"}
"""Estimators that cannot be written to a file without pickle."""
NO_GRADIENT: set[str] = {"classifier"}
"""Estimators whose log-ratio is not differentiable in the points."""

TRICKY = {
    "constant column": lambda n: (torch.cat([torch.randn(n, 1), torch.full((n, 1), 3.0)], 1),) * 2,
    "constant but different": lambda n: (torch.zeros(n, 1), torch.ones(n, 1)),
    "all the same": lambda n: (torch.full((n, 2), 7.0), torch.full((n, 2), 7.0)),
    "identical sets": lambda n: (torch.arange(n, dtype=torch.float32)[:, None],) * 2,
    "separable": lambda n: (torch.randn(n, 2) - 1e3, torch.randn(n, 2) + 1e3),
    "huge": lambda n: (1e30 * torch.randn(n, 1), 2e30 * torch.randn(n, 1)),
    "tiny": lambda n: (1e-30 * torch.randn(n, 1), 2e-30 * torch.randn(n, 1)),
    "cauchy": lambda n: (torch.randn(n, 1) / torch.randn(n, 1), torch.randn(n, 1)),
    "far away": lambda n: (1.7e9 + torch.randn(n, 1).double(), 1.7e9 + 1 + torch.randn(n, 1).double()),
    "peaked": lambda n: (1e-6 * torch.randn(n, 1), torch.randn(n, 1)),
    "wide": lambda n: (torch.randn(n, 60), torch.randn(n, 60)),
    "same column twice": lambda n: tuple(x.expand(n, 2) for x in (torch.randn(n, 1), torch.randn(n, 1) + 1)),
    "integers": lambda n: (torch.randint(0, 5, (n, 2)), torch.randint(2, 7, (n, 2))),
    "booleans": lambda n: (torch.rand(n, 2) < 0.2, torch.rand(n, 2) < 0.7),
    "uneven": lambda n: (torch.randn(n, 2), 1 + torch.randn(5 * n, 2)),
}


def pair(n: int = 300, m: int = 200, d: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=draw), 1 + torch.randn(m, d, generator=draw)


def quick(name: str) -> RatioEstimator:
    return RATIO_ESTIMATORS[name](**QUICK[name])


@pytest.fixture(scope="module", params=list(RATIO_ESTIMATORS))
def fitted(request: pytest.FixtureRequest) -> RatioEstimator:
    """Each estimator once, fitted to two shifted normals."""
    return quick(request.param).fit(*pair(), seed=0)


def test_the_face(fitted) -> None:
    p, q = pair()
    for x in (p, q, p[:1], p[:0]):
        values = fitted.log_ratio(x)
        assert values.shape == (len(x),)
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert fitted.log_ratio(p.double()).shape == (len(p),)
    assert torch.allclose(fitted.log_ratio(p.numpy()), fitted.log_ratio(p))
    assert float(fitted.log_ratio(p).mean()) > float(fitted.log_ratio(q).mean())
    assert fitted.divergence("js") == pytest.approx(0.2, abs=0.2)
    assert not math.isnan(fitted.check().mean_ratio)
    for side, all_rows in zip(fitted.held_out, pair(), strict=True):
        assert {tuple(row) for row in side.tolist()} <= {tuple(row) for row in all_rows.tolist()}
    assert type(fitted).__name__ in repr(fitted)


def test_the_sign_is_that_of_p_over_q(fitted) -> None:
    """P lies at 0 and q at 1: log r = d / 2 - sum x falls from one to the other."""
    near_p, near_q = fitted.log_ratio([[-0.5, -0.5], [1.5, 1.5]])
    assert near_p > near_q


def test_exchanged_sets_give_the_reciprocal(fitted) -> None:
    p, q = pair()
    other = quick(fitted.name).fit(q, p, seed=0)
    x = torch.cat([p[:200], q[:200]])
    both = torch.stack([fitted.log_ratio(x), -other.log_ratio(x)])
    assert torch.corrcoef(both)[0, 1] > 0.5


def test_seeds_repeat_and_the_global_state_is_untouched(fitted) -> None:
    p, q = pair()
    before = torch.get_rng_state()
    same = quick(fitted.name).fit(p, q, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(fitted.log_ratio(p), same.log_ratio(p))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


HARDEST = ("constant but different", "separable", "huge", "cauchy", "integers")
"""Kinds of samples that every estimator meets in the fast run; one of each way to estimate meets them all.

Kinds that are drawn in two sizes are met in one of them, in turn.
"""
ONE_OF_EACH = ("logistic", "ulsif", "quadratic", "mixture", "telescoping", "conditional-path", "ensemble")
SMALL = ("constant but different", "all the same", "separable", "huge", "integers", "uneven")
"""Kinds that are drawn with two rows as well."""


def is_fast(name: str, kind: str, n: int) -> bool:
    if kind not in HARDEST and name not in ONE_OF_EACH:
        return False
    if kind not in SMALL:
        return True
    return (n == 2) == bool((list(RATIO_ESTIMATORS).index(name) + SMALL.index(kind)) % 2)


@pytest.mark.parametrize(
    ("name", "kind", "n"),
    [
        pytest.param(name, kind, n, marks=[] if is_fast(name, kind, n) else [pytest.mark.slow])
        for name in RATIO_ESTIMATORS
        for kind, n in [(kind, 90) for kind in TRICKY] + [(kind, 2) for kind in SMALL]
    ],
)
def test_finite_samples_never_give_nan(name: str, kind: str, n: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(n)
        p, q = TRICKY[kind](n)
    ratio = quick(name).fit(p, q, seed=0)
    for side in (p, q, 1e6 * p.double(), torch.full(p.shape, 3e38)):
        assert torch.isfinite(ratio.log_ratio(side)).all()
    assert not any(math.isnan(ratio.divergence(divergence)) for divergence in ("kl", "js"))
    assert min(map(len, ratio.held_out)) >= 1


def test_identical_sets_have_ratio_one_on_average(fitted) -> None:
    """Whatever was fitted to noise must be small beside what a shift of one gives."""
    x = pair(600, 600)[0]
    ratio = quick(fitted.name).fit(x, x.flip(0), seed=0)
    assert float(ratio.log_ratio(x).abs().mean()) < 0.7


def test_files(fitted, tmp_path) -> None:
    path, p = tmp_path / "ratio.safetensors", pair()[0]
    if fitted.name in NOT_SAVED:
        with pytest.raises(TypeError, match="cannot be saved"):
            fitted.save(path)
        return
    fitted.save(path)
    again = type(fitted).load(path)
    assert torch.equal(again.log_ratio(p), fitted.log_ratio(p))
    assert again.divergence("js") == fitted.divergence("js")
    assert repr(again.settings()) == repr(fitted.settings()) or again.settings().keys() == fitted.settings().keys()


def test_gradients_reach_the_points(fitted) -> None:
    if fitted.name in NO_GRADIENT:
        assert not fitted.log_ratio(torch.tensor([[0.3, 0.6]], requires_grad=True)).requires_grad
        return
    x = torch.tensor([[0.3, 0.6]], requires_grad=True)
    (slope,) = torch.autograd.grad(fitted.log_ratio(x).sum(), x)
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("name", RATIO_ESTIMATORS)
def test_settings_make_the_same_estimator(name: str) -> None:
    kind = RATIO_ESTIMATORS[name]
    assert kind.name == name
    assert set(kind().settings()) == set(inspect.signature(kind).parameters)
    assert kind(**kind().settings()).settings() == kind().settings()
    assert "not fitted" in repr(kind())
    with pytest.raises(RuntimeError, match=r"call fit\(p, q\) first"):
        kind().log_ratio(torch.zeros(1, 1))


@pytest.mark.parametrize("name", RATIO_ESTIMATORS)
def test_bad_samples_are_refused_in_a_sentence(name: str) -> None:
    p, q = pair()
    hole = p.clone()
    hole[3, 1] = math.nan
    for bad_p, bad_q, error, message in [
        (p, q[:, :1], ValueError, "p, q: expected as many columns in both; got 2 and 1"),
        (p[:1], q, ValueError, "p: expected at least 2 rows; got 1"),
        (hole, q, ValueError, "p: expected finite values; 1 of 300 rows"),
        (p, "q", TypeError, "q: expected a tensor, an array or a frame; got str"),
    ]:
        with pytest.raises(error, match=message):
            quick(name).fit(bad_p, bad_q, seed=0)
