"""Any classifier of scikit-learn as a ratio: close to the truth, calibrated, finite where probabilities are 0 and 1."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC

from implicit_estimators.ratio import ClassifierRatio
from implicit_estimators.ratio.classifiers.scikit import _Calibration


@pytest.mark.parametrize("calibration", ["beta", "sigmoid", "none"])
def test_a_family_that_holds_the_truth_finds_it(plane, calibration: str) -> None:
    """Logistic regression on products: .04/.04 at n = 10,000, so .08 here on average; three times that for one draw."""
    quadratic = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=1000))
    p, q = plane.samples(3000, 2500, 0)
    ratio = ClassifierRatio(quadratic, calibration=calibration).fit(p, q, seed=0)
    for side in plane.samples(5000, 5000, 1):
        assert float((ratio.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < 0.25
    assert not hasattr(quadratic[-1], "coef_")  # what was given is left as it was


def test_trees_by_default(plane) -> None:
    """One fit that stops early has .54/.43 at n = 1000 and .27/.17 at n = 10,000; this is between."""
    p, q = plane.samples(2000, 2000, 0)
    ratio = ClassifierRatio().fit(p, q, seed=0)
    for side, most in zip(plane.samples(5000, 5000, 1), (0.54, 0.43), strict=True):
        assert float((ratio.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < most


def test_what_has_learned_its_rows_by_heart_is_calibrated(plane) -> None:
    """A forest's shares of trees are no probabilities: out of fold, the label's log loss must fall by calibration."""
    p, q = plane.samples(600, 600, 0)
    forest = RandomForestClassifier(20)
    losses = {}
    for calibration in ("none", "beta"):
        ratio = ClassifierRatio(forest, calibration=calibration, folds=3).fit(p, q, seed=0)
        assert ratio.held_out_log_ratio is not None
        at_p, at_q = ratio.held_out_log_ratio
        losses[calibration] = float(
            torch.nn.functional.softplus(-at_p).mean() + torch.nn.functional.softplus(at_q).mean()
        )
        assert torch.isfinite(torch.cat([at_p, at_q])).all()
    assert losses["beta"] < losses["none"]
    assert losses["beta"] < 2 * math.log(2)


@pytest.mark.parametrize(
    "classifier", [LinearSVC(), GaussianNB(), make_pipeline(StandardScaler(), RandomForestClassifier(5))], ids=str
)
def test_margins_and_certainties_give_finite_ratios_of_the_right_sign(classifier) -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.randn(200, 2, generator=draw) + shift for shift in (-50.0, 50.0))
    ratio = ClassifierRatio(classifier).fit(p, q, seed=0)
    assert ratio.log_ratio(p).min() > 2
    assert ratio.log_ratio(q).max() < -2
    assert torch.isfinite(ratio.log_ratio(torch.cat([1e6 * p, 1e6 * q]))).all()
    assert ratio.check().verdict.startswith("uninformative")


def test_seeds_reach_the_classifier(plane) -> None:
    p, q = plane.samples(100, 100, 0)
    pipeline = make_pipeline(RandomForestClassifier(3))
    first, same, other = (ClassifierRatio(pipeline).fit(p, q, seed=seed).log_ratio(p) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["beta", "sigmoid"])
def test_the_calibration_undoes_what_a_line_did(kind: str, line) -> None:
    """Scores 3 log r - 2, 20,000 of each: within four standard errors of the two coefficients, at most 5 / sqrt(n)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p, q = (line.log_ratio(side.sample((20_000,))) for side in (line.p, line.q))
    found = _Calibration(3 * p - 2, 3 * q - 2, kind)
    inner = torch.linspace(-0.7, 0.7, 9, dtype=torch.float64)
    assert torch.allclose(found(3 * inner - 2), inner, atol=4 * 5 / math.sqrt(20_000))


def test_bad_settings_are_named() -> None:
    for settings, error, message in [
        ({"classifier": "forest"}, TypeError, "classifier: expected fit, and predict_proba or decision_function"),
        ({"classifier": LinearSVC(), "calibration": "none"}, TypeError, "LinearSVC needs predict_proba"),
        ({"calibration": "isotonic"}, ValueError, "calibration: expected one of beta, sigmoid, none; got 'isotonic'"),
        ({"folds": 1}, ValueError, "folds: expected at least 2; got 1"),
    ]:
        with pytest.raises(error, match=message):
            ClassifierRatio(**settings)
