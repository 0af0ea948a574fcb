"""The check of a ratio: trusts the truth, finds what is wrong, and says when samples cannot tell."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.estimate import Estimate
from implicit_estimators.ratio import RatioCheck, check_ratio
from implicit_estimators.ratio.check import calibration_line, effective_number, tail_index


def check(plane, wrong, seed: int = 0, rows: int = 2000) -> RatioCheck:
    p, q = plane.samples(rows, rows, seed)
    return check_ratio(wrong(plane.log_ratio(p)), wrong(plane.log_ratio(q)), p, q, seed=seed)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_the_true_ratio_is_trusted(plane, seed: int) -> None:
    """Although E_q r^2 is infinite here, so that means of r over q come out too small with too small an error."""
    found = check(plane, lambda s: s, seed)
    assert found.trusted, str(found)
    assert abs(found.weighted_auc - 0.5) < 4 * found.weighted_auc.standard_error
    excess = found.calibration_error - found.calibration_noise
    assert abs(excess) < 4 * found.calibration_error.standard_error


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda s: 0 * s, "after weighting p and q are still told apart"),  # r = 1 passes every other check
        (lambda s: s + 0.5, "the mean of r over q is"),  # a factor passes the classifier
        (lambda s: s - 0.5, "the mean of 1/r over p is"),
        (lambda s: 1.3 * s, "the calibration slope is"),
        (lambda s: 0.75 * s, "the calibration slope is"),
        (lambda s: s + 0.2, "the calibration intercept is -0.2"),
        (lambda s: -s, "the log loss"),
        (lambda s: s.sign() * 2, "calibration error"),
    ],
    ids=["one", "factor", "fraction", "steep", "flat", "shifted", "exchanged", "step"],
)
def test_wrong_ratios_are_off(plane, wrong, reason: str) -> None:
    found = check(plane, wrong, rows=2000 if "slope" in reason else 1000)  # a slope takes more rows to tell
    assert found.verdict.startswith("off: ")
    assert reason in found.verdict
    assert not found.trusted


@pytest.mark.parametrize("stretch", [2, 4, 10])
def test_being_too_sure_is_no_excuse(plane, stretch: float) -> None:
    """A stretched ratio leaves few samples undecided, but p and q do overlap, as its recalibration shows."""
    found = check(plane, lambda s: stretch * s, rows=1000)
    assert found.verdict.startswith("off: ")
    assert max(found.effective_q, found.effective_p) < 50


@pytest.mark.parametrize("wrong", [lambda s: s, lambda s: 1.3 * s])
def test_where_p_and_q_hardly_overlap_samples_cannot_tell(wrong) -> None:
    """Twenty pairs with correlation 0.795 (MI 10 nats): the truth itself has two effective samples."""
    draw = torch.Generator().manual_seed(0)
    rho, n = math.sqrt(1 - math.exp(-1)), 1000
    z = torch.randn(n, 20, 2, generator=draw)
    p = torch.stack([z[..., 0], rho * z[..., 0] + math.sqrt(1 - rho**2) * z[..., 1]], -1)
    q = torch.randn(n, 20, 2, generator=draw)

    def log_ratio(x: torch.Tensor) -> torch.Tensor:
        a, b = x[..., 0], x[..., 1]
        quadratic = (a**2 - 2 * rho * a * b + b**2) / (1 - rho**2) - a**2 - b**2
        return -0.5 * (quadratic + math.log(1 - rho**2)).sum(-1)

    found = check_ratio(wrong(log_ratio(p)), wrong(log_ratio(q)), p.flatten(1), q.flatten(1), seed=0)
    assert found.verdict.startswith("uninformative: p and q overlap in too few samples")
    assert "telescoping" in found.notes[0]
    assert f"note: {found.notes[0]}" in str(found)


def test_samples_that_do_not_overlap_at_all_are_uninformative() -> None:
    p, q = torch.randn(500, 2), 1e4 + torch.randn(500, 2)
    found = check_ratio(torch.full((500,), 1e4), torch.full((500,), -1e4), p, q, seed=0)
    assert found.verdict.startswith("uninformative")
    assert all(math.isfinite(value) for value in (found.mean_ratio, found.log_loss, found.calibration_error))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("size", [100.0, 1e4, 1e8])
def test_log_ratios_of_any_size_give_no_nan(size: float, seed: int) -> None:
    """At 1e8 with seed 0 the one sample of q that has any weight lies in the half that is trained on."""
    draw = torch.Generator().manual_seed(seed)
    p, q, log_r_p, log_r_q = (torch.randn(60, *width, generator=draw) for width in ((1,), (1,), (), ()))
    found = check_ratio(size * log_r_p, size * log_r_q, p, q, seed=0)
    estimates = [value for value in vars(found).values() if isinstance(value, Estimate)]
    assert len(estimates) == 8
    for value in estimates:
        assert not math.isnan(value)
        assert not math.isnan(value.standard_error)
    assert not found.trusted


def test_few_samples_are_never_trusted() -> None:
    for n in (2, 5, 30):
        p, q = torch.randn(n, 1), torch.randn(n, 1)
        found = check_ratio(torch.zeros(n), torch.zeros(n), p, q, seed=0)
        assert not found.trusted
        assert found.notes[0].startswith(f"{n} held-out samples of a side are too few")


class Pairs:
    """p: pairs of normals with correlation rho; q: independent normals."""

    def __init__(self, pairs: int, rho: float) -> None:
        self.pairs, self.rho = pairs, rho

    def samples(self, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        z, q = torch.randn(2, n, self.pairs, 2, generator=torch.Generator().manual_seed(seed))
        p = torch.stack([z[..., 0], self.rho * z[..., 0] + math.sqrt(1 - self.rho**2) * z[..., 1]], -1)
        return p.flatten(1), q.flatten(1)

    def log_ratio(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.double().unflatten(1, (self.pairs, 2)).unbind(-1)
        rest = 1 - self.rho**2
        return -0.5 * (((b - self.rho * a) ** 2 / rest - b**2) + math.log(rest)).sum(1)


FIVE, TWENTY = Pairs(5, 0.5), Pairs(20, math.sqrt(1 - math.exp(-1)))
IMPOSTORS = {
    "truth": (lambda s: s, "trusted", "uninformative"),
    "one": (lambda s: 0 * s, "off", "off"),
    "factor": (lambda s: s + 0.5, "off", "uninformative"),
    "steep": (lambda s: 1.3 * s, "off", "uninformative"),
}
"""What is made of the truth, and the verdict on it for five and for twenty pairs."""


@pytest.mark.parametrize(("wrong", "five", "twenty"), IMPOSTORS.values(), ids=IMPOSTORS)
def test_impostors(wrong, five: str, twenty: str) -> None:
    for problem, verdict in ((FIVE, five), (TWENTY, twenty)):
        p, q = problem.samples(1000, 0)
        found = check_ratio(wrong(problem.log_ratio(p)), wrong(problem.log_ratio(q)), p, q, seed=0)
        assert found.verdict.split(":")[0] == verdict, str(found)


def learned(kind: str, problem: Pairs, seed: int):
    """The log-ratio of a classifier of scikit-learn's, as it comes."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neural_network import MLPClassifier

    classifier = (
        HistGradientBoostingClassifier(random_state=seed)
        if kind == "HistGB"
        else MLPClassifier((128, 128), early_stopping=True, random_state=seed)
    )
    p, q = problem.samples(10_000, 10_000 + seed)
    classifier.fit(torch.cat([p, q]).numpy(), [1] * len(p) + [0] * len(q))
    return lambda x: torch.from_numpy(classifier.predict_proba(x.numpy())[:, 1]).logit(eps=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_impostors_over_seeds(seed: int) -> None:
    """With 10,000 fresh samples of each side, what scikit-learn learns from 10,000 is found out as well."""
    ratios = {name: (lambda x, f=f: f(FIVE.log_ratio(x)), verdict) for name, (f, verdict, _) in IMPOSTORS.items()}
    ratios |= {kind: (learned(kind, FIVE, seed), "off") for kind in ("HistGB", "MLP")}
    p, q = FIVE.samples(10_000, seed)
    for name, (log_ratio, verdict) in ratios.items():
        found = check_ratio(log_ratio(p), log_ratio(q), p, q, seed=seed)
        assert found.verdict.split(":")[0] == verdict, f"{name}\n{found}"


def test_means_are_those_of_the_formulas(plane) -> None:
    p, q = plane.samples(300, 400, 0)
    s_p, s_q = plane.log_ratio(p).double(), plane.log_ratio(q).double()
    found = check_ratio(s_p, s_q, p, q, seed=0)
    assert found.mean_ratio == pytest.approx(float(s_q.exp().mean()))
    assert found.mean_ratio.standard_error == pytest.approx(float(s_q.exp().std() / 20))
    assert found.mean_inverse == pytest.approx(float((-s_p).exp().mean()))
    losses = 0.5 * ((1 + (-s_p).exp()).log().mean() + (1 + s_q.exp()).log().mean())
    assert found.log_loss == pytest.approx(float(losses))
    weights = s_q.exp()
    assert found.effective_q == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()))


def test_the_reliability_curve_of_the_truth_is_the_diagonal(plane) -> None:
    found = check(plane, lambda s: s)
    predicted, observed, share = found.reliability.unbind(1)
    assert float(share.sum()) == pytest.approx(1)
    assert (predicted.diff() > 0).all()
    assert (predicted - observed).abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(2000, 2000), (4000, 400)])
def test_the_calibration_line_has_the_error_it_says(plane, n: int, m: int) -> None:
    """Over 200 repeats at 1.25 (log r - 0.4): z scores have variance 1, within five standard errors of a variance."""
    scores = []
    for seed in range(200):
        p, q = plane.samples(n, m, seed)
        intercept, slope = calibration_line(*(1.25 * (plane.log_ratio(side).double() - 0.4) for side in (p, q)))
        scores.append([(slope - 0.8) / slope.standard_error, (intercept - 0.4) / intercept.standard_error])
    z = torch.tensor(scores)
    assert z.mean(0).abs().max() < 5 / math.sqrt(200)
    assert z.var(0).tolist() == pytest.approx([1, 1], abs=5 * math.sqrt(2 / 200))


@pytest.mark.parametrize("log_r", [torch.zeros(50).double(), torch.full((50,), 3.0).double()])
def test_there_is_no_line_through_one_point(log_r) -> None:
    assert [line.standard_error for line in calibration_line(log_r, log_r)] == [math.inf, math.inf]


def test_there_is_no_line_between_separable_samples() -> None:
    lines = calibration_line(1 + torch.rand(50).double(), -1 - torch.rand(50).double())
    assert [line.standard_error for line in lines] == [math.inf, math.inf]


def test_unequal_sets_weigh_the_same(plane) -> None:
    """The curve is that of even odds however many samples there are of each."""
    p, q = plane.samples(4000, 500, 0)
    found = check_ratio(plane.log_ratio(p), plane.log_ratio(q), p, q, seed=0)
    assert found.trusted, str(found)


def test_effective_number() -> None:
    assert effective_number(torch.zeros(50)) == pytest.approx(50)
    assert effective_number(torch.tensor([1e6, 0.0, 0.0])) == pytest.approx(1)
    assert effective_number(torch.tensor([1.0, 2.0, 4.0]).log()) == pytest.approx(49 / 21)


@pytest.mark.parametrize("index", [0.2, 0.8])
def test_the_tail_index_of_a_pareto_sample(index: float) -> None:
    """Hill's estimate from k of n has standard error index / sqrt(k); here k = 3 sqrt(n) = 424."""
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert tail_index(-index * uniform.log()) == pytest.approx(index, abs=4 * index / math.sqrt(424))


def test_it_is_repeatable_and_prints_a_table(plane) -> None:
    before = torch.get_rng_state()
    first, second = (check(plane, lambda s: s, rows=1000) for _ in range(2))
    assert first.weighted_auc == second.weighted_auc
    assert torch.equal(before, torch.get_rng_state())
    lines = str(first).splitlines()
    assert lines[-1] == "verdict: trusted"
    assert any(line.startswith("mean of r over q") and line.endswith("expected 1") for line in lines)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="p, q: expected at least 2 samples and one log-ratio for each"):
        check_ratio(torch.zeros(3), torch.zeros(2), torch.zeros(2, 1), torch.zeros(2, 1))
