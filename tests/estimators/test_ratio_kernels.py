"""Kernel ratios: closed forms against refits, the optimum against its conditions, and the same answers as a peer."""

from __future__ import annotations

import functools
import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from implicit_estimators.problems import PROBLEMS
from implicit_estimators.ratio.kernels import least_squares
from implicit_estimators.ratio.kernels.expansion import Expansion, default_bandwidths, gaussians
from implicit_estimators.ratio.kernels.kliep import KLIEPRatio, most_likely
from implicit_estimators.ratio.kernels.least_squares import Moments, coefficients, leave_one_out, score
from implicit_estimators.ratio.kernels.logistic import Features, KernelLogisticRatio, left_out_loss, regress
from implicit_estimators.ratio.kernels.mixture import mixture_weights
from implicit_estimators.ratio.kernels.rulsif import RuLSIFRatio
from implicit_estimators.ratio.kernels.ulsif import ULSIFRatio

ALL: dict[str, Any] = {
    "ulsif": ULSIFRatio,
    "rulsif": RuLSIFRatio,
    "kliep": KLIEPRatio,
    "kernel-logistic": KernelLogisticRatio,
}


def normals(n: int, m: int, d: int = 2, shift: float = 1.0, seed: int = 100) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    p = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return p, shift + torch.randn(m, d, generator=draw, dtype=torch.float64)


def refitted(features_p: Tensor, features_q: Tensor, ridge: float, alpha: float) -> Tensor:
    """The definition, by a general solver."""
    moment_p, moment_q = (side.T @ side / len(side) for side in (features_p, features_q))
    matrix = alpha * moment_p + (1 - alpha) * moment_q + ridge * torch.eye(features_p.shape[1], dtype=torch.float64)
    return torch.linalg.solve(matrix, features_p.mean(0)).clamp(min=0)


@pytest.mark.parametrize("block", [7, 256])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("n", "m"), [(2, 2), (30, 30), (20, 40), (40, 20)])
def test_leaving_rows_out_equals_refits_without_them(n: int, m: int, alpha: float, block: int, monkeypatch) -> None:
    """Every pair, with coefficients clipped, where the sets differ in size too, over several blocks."""
    monkeypatch.setattr(least_squares, "BLOCK", block)
    p, q = normals(n, m)
    features = gaussians(p, p[:20], 0.8), gaussians(q, p[:20], 0.8)
    k, ridges = min(n, m), (1e-3, 0.1, 10.0)
    moments = Moments.of([features[0]]), Moments.of([features[1]])
    found_p, found_q = leave_one_out(features[0][:k], features[1][:k], *moments, ridges, alpha)
    clipped = 0
    for (index, ridge), i in itertools.product(enumerate(ridges), range(k)):
        rest_p, rest_q = (torch.cat([side[:i], side[i + 1 :]]) for side in features)
        weights = refitted(rest_p, rest_q, ridge, alpha)
        clipped += int((weights == 0).sum())
        assert float(found_p[index, i]) == pytest.approx(float(features[0][i] @ weights), rel=1e-6, abs=1e-8)
        assert float(found_q[index, i]) == pytest.approx(float(features[1][i] @ weights), rel=1e-6, abs=1e-8)
    assert clipped or n == 2  # the case that the clipping is for did occur


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 30),
    m=st.integers(2, 30),
    bandwidth=st.floats(0.05, 5),
    ridge=st.floats(1e-3, 10),
    alpha=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_coefficients_solve_their_system(
    n: int, m: int, bandwidth: float, ridge: float, alpha: float, seed: int
) -> None:
    """In blocks or at once; and left out rows are finite whatever the sizes."""
    p, q = normals(n, m, seed=seed)
    features = gaussians(p, p, bandwidth), gaussians(q, p, bandwidth)
    moments = Moments.of(features[0].split(4)), Moments.of(features[1].split(4))
    assert [of.count for of in moments] == [n, m]
    found = coefficients(*moments, ridge, alpha)
    assert torch.allclose(found, refitted(*features, ridge, alpha), rtol=1e-8, atol=1e-10)
    k = min(n, m)
    for values in leave_one_out(features[0][:k], features[1][:k], *moments, [ridge], alpha):
        assert torch.isfinite(values).all()
        assert (values >= 0).all()


def test_the_score_is_the_objective() -> None:
    at_p, at_q = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0])
    assert float(score(at_p, at_q)) == pytest.approx(0.5 * 2 - 2)
    assert float(score(at_p, at_q, 0.25)) == pytest.approx(0.125 * 5 + 0.375 * 2 - 2)


@pytest.fixture
def peer(monkeypatch):
    """The package densratio with 50 kernels, in plain NumPy: compiling its kernels takes longer than these tests."""
    monkeypatch.setitem(sys.modules, "numba", None)
    package = pytest.importorskip("densratio")
    state = np.random.get_state()  # noqa: NPY002  it draws its centres from the global generator
    yield functools.partial(package.densratio, verbose=False, kernel_num=50)
    np.random.set_state(state)  # noqa: NPY002  as above
    for name in [name for name in sys.modules if name.partition(".")[0] == "densratio"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["a", "a_rev"])
def test_ulsif_chooses_and_answers_as_densratio(name: str, peer) -> None:
    """The peer's own bandwidth and ridge on its grid, and its ratios to float32's digits."""
    p, q = (side.double().numpy() for side in PROBLEMS[name].samples(300, 250, 101))
    theirs = peer(p, q)
    grid = 10 ** np.linspace(-3, 1, 9)
    mine = ULSIFRatio(
        theirs.kernel_info.centers, bandwidths=grid, ridges=grid, criterion="densratio", standardise=False
    ).fit(p, q, seed=0)
    assert (mine.bandwidth, mine.ridge) == pytest.approx((theirs.kernel_info.sigma, theirs.lambda_))
    for side in (p, q):
        expected = theirs.compute_density_ratio(side)
        seen = expected > 1e-30  # theirs are 0 where ours has a log
        assert np.allclose(mine.ratio(side).numpy()[seen], expected[seen], rtol=2e-5)


def test_rulsif_answers_as_densratio(peer) -> None:
    p, q = (side.double().numpy() for side in PROBLEMS["a"].samples(200, 200, 101))
    theirs = peer(p, q, method="RuLSIF", alpha=0.2)
    grid = 10 ** np.linspace(-3, 1, 9)
    mine = RuLSIFRatio(
        0.2, theirs.kernel_info.centers, bandwidths=grid, ridges=grid, criterion="densratio", standardise=False
    ).fit(p, q, seed=0)
    assert (mine.bandwidth, mine.ridge) == pytest.approx((theirs.kernel_info.sigma, theirs.lambda_))
    relative = np.asarray(theirs.compute_density_ratio(p))
    inside = (relative > 1e-30) & (relative < 3)  # well below 1 / alpha = 5, where the bend is not felt
    expected = 0.8 * relative / (1 - 0.2 * relative)
    error = np.log(expected[inside]) - mine.log_ratio(p).numpy()[inside]
    assert np.abs(error).max() < 3 * mine._softness**2 / 0.4**2 + 1e-5  # s(y) = y (1 + delta^2 / y^2) to first order


def test_rulsif_without_a_share_of_p_is_ulsif() -> None:
    p, q = normals(300, 200)
    one, other = RuLSIFRatio(0.0, 50).fit(p, q, seed=0), ULSIFRatio(50).fit(p, q, seed=0)
    assert torch.equal(one.log_ratio(q), other.log_ratio(q))


def test_the_relative_ratio_bends_smoothly_at_its_bound() -> None:
    """Inverts r_alpha = r / (alpha r + 1 - alpha) below 1 / alpha; finite, smooth and rising beyond."""
    ratio, alpha, softness = RuLSIFRatio(0.2), 0.2, 1e-3
    log_r = torch.linspace(-30, 3, 200, dtype=torch.float64)
    relative = log_r - torch.logaddexp(math.log(alpha) + log_r, torch.full_like(log_r, math.log1p(-alpha)))
    assert torch.allclose(ratio._relative_to_log_ratio(relative, softness), log_r, atol=1e-4)
    beyond = torch.linspace(1.5, 40, 2000, dtype=torch.float64, requires_grad=True)  # the bound is at log 5 = 1.61
    values = ratio._relative_to_log_ratio(beyond, softness)
    (slopes,) = torch.autograd.grad(values.sum(), beyond)
    assert torch.isfinite(values).all()
    assert (slopes > 0).all()
    at_bound = ratio._relative_to_log_ratio(torch.tensor(math.log(5.0), dtype=torch.float64), softness)
    assert float(at_bound) == pytest.approx(math.log(0.8 * 5 / softness), abs=1e-6)


def test_logs_are_exact_however_far_out() -> None:
    """Against the parabola of the only centre, where the kernel itself is 0; and to 80 nats and beyond."""
    expansion = Expansion(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64), 0.5)
    x = torch.tensor([[3.0, 4.0], [30.0, 40.0], [3e8, 4e8]], dtype=torch.float64)
    expected = 0.3 - x.square().sum(1) / 0.5
    assert torch.allclose(expansion.log(x), expected, rtol=1e-12)


def test_coefficients_that_all_vanish_leave_an_even_ratio() -> None:
    """No sample of p is near any centre: there is nothing to weigh them by, and nothing is NaN."""
    p, q = normals(50, 50)
    ratio = ULSIFRatio([[1e4, 1e4]], bandwidths=[0.1], ridges=[0.1], standardise=False).fit(p, q, seed=0)
    assert torch.isfinite(ratio.log_ratio(p)).all()


@pytest.mark.parametrize("bandwidth", [0.02, 0.5, 1.0, 5.0])
def test_kliep_meets_the_conditions_of_its_optimum(bandwidth: float) -> None:
    """Normalised over q; the gain by any Gaussian at most 1, and 1 where it is used (Karush, Kuhn and Tucker)."""
    p, q = normals(400, 300)
    centres = p[:60]
    ratio, gap = most_likely(p, q, centres, bandwidth, tolerance=1e-8)
    assert gap <= 1e-8
    assert float(ratio.log(q).exp().mean()) == pytest.approx(1, abs=1e-9)
    exponents = [-0.5 * torch.cdist(side, centres).square() / bandwidth**2 for side in (p, q)]
    log_means = exponents[1].logsumexp(0) - math.log(len(q))
    gains = (exponents[0] - log_means - ratio.log(p)[:, None]).exp().mean(0)
    assert float(gains.max()) <= 1 + 1e-6
    weights = torch.zeros(60, dtype=torch.float64)
    for centre, weight in zip(ratio.centres, ratio.log_weights, strict=True):
        at = int((centres - centre).abs().sum(1).argmin())
        weights[at] = (weight + log_means[at]).exp()
    assert float((weights * (1 - gains)).abs().sum()) < 1e-6


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 40), b=st.integers(1, 12), seed=st.integers(0, 2**31), spread=st.floats(0, 30))
def test_mixture_weights_are_the_most_likely(n: int, b: int, seed: int, spread: float) -> None:
    """Better than EM's after 300 steps, and by no more than the stated gap."""
    draw = torch.Generator().manual_seed(seed)
    logs = spread * torch.randn(n, b, generator=draw, dtype=torch.float64)
    densities = (logs - logs.amax(1, keepdim=True)).exp()
    weights, gap = mixture_weights(densities, 1e-7)
    assert gap <= 1e-7
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights >= 0).all()
    other = torch.full((b,), 1 / b, dtype=torch.float64)
    for _ in range(300):
        other = other * (densities.T @ (1 / (densities @ other))) / n
    gained = (densities @ other).log().mean() - (densities @ weights).log().mean()
    assert float(gained) <= gap + 1e-12


def test_logistic_regression_meets_its_condition() -> None:
    """The slope of the penalised loss is 0; leaving a sample out to first order is close to leaving it out."""
    p, q = normals(60, 60)
    features = Features.of(torch.cat([p[:10], q[:10]]), 2.0)
    x = features(torch.cat([p, q]))
    kernel = gaussians(features.centres, features.centres, 2.0)
    shown = features(features.centres)[:, 1:]
    assert torch.allclose(shown @ shown.T, kernel, atol=1e-6)
    signs = torch.cat([torch.ones(60), -torch.ones(60)]).double()
    start = torch.zeros(x.shape[1], dtype=torch.float64)
    ridge = 1e-3
    solution = regress(x, signs, ridge, start)
    share = (x @ solution.weights).sigmoid()
    slope = x.T @ (share - (signs + 1) / 2) / len(x)
    slope[1:] += ridge * solution.weights[1:]
    assert float(slope.abs().max()) < 1e-4
    losses = []
    for i in range(len(x)):
        rest = torch.arange(len(x)) != i
        # the ridge that weighs the same beside one sample less
        without = regress(x[rest], signs[rest], ridge * len(x) / (len(x) - 1), solution.weights).weights
        losses.append(float(torch.nn.functional.softplus(-signs[i] * (x[i] @ without))))
    fitted = float(torch.nn.functional.softplus(-signs * (x @ solution.weights)).mean())
    refit = sum(losses) / len(losses)
    assert abs(left_out_loss(x, signs, solution) - refit) < 0.1 * (refit - fitted)


LARGEST = {
    "ulsif": (0.75, 0.7),
    "rulsif": (0.75, 0.7),
    "kliep": (0.5, 0.5),
    "kernel-logistic": (0.2, 0.25),
}
"""Mean absolute error of log r at samples of p and of q, n = 1000, with room above what any has."""


@pytest.mark.parametrize("name", ALL)
def test_they_find_the_ratio_of_gaussians(name: str) -> None:
    problem = PROBLEMS["a_rev"]
    ratio = ALL[name](centres=80, rows=500).fit(*problem.samples(1000, 1000, 100), seed=0)
    for side, most in zip(problem.samples(4000, 4000, 200), LARGEST[name], strict=True):
        assert float((ratio.log_ratio(side) - problem.log_ratio(side)).abs().mean()) < most


@pytest.mark.parametrize("name", ALL)
def test_narrow_numerators_are_seen(name: str) -> None:
    """N(0, 1e-3^2) against N(0, 1): the mean log-ratio over p is 6.41; multiples of the joint scale would stay near 2.

    With 500 samples of q, about one lies within p: the ratio is only known to be large, and has no upper bound.
    """
    draw = torch.Generator().manual_seed(100)
    p, q = 1e-3 * torch.randn(500, 1, generator=draw), torch.randn(500, 1, generator=draw)
    ratio = ALL[name](centres=30).fit(p, q, seed=0)
    assert 3 < float(ratio.log_ratio(p).mean()) < 20
    assert float(ratio.log_ratio(q[q.abs() > 0.1]).max()) < 0


def test_bandwidths_follow_the_narrower_scale() -> None:
    p, q = normals(200, 200, d=1, shift=0.0)
    assert len(default_bandwidths(p, q, 0)) == 9
    assert default_bandwidths(1e-3 * p, q, 0)[0] < 1e-3
    assert min(default_bandwidths(0 * p, q, 0)) > 0


def test_progress_is_told() -> None:
    p, q = normals(50, 50)
    for name, kind in ALL.items():
        told: list[tuple[int, dict[str, float]]] = []
        kind(centres=10).fit(p, q, seed=0, progress=lambda step, figures, told=told: told.append((step, figures)))
        assert [step for step, _ in told] == list(range(1, len(told) + 1)), name
        assert all("best" in figures for _, figures in told)


@pytest.mark.parametrize("name", ["ulsif", "rulsif", "kliep"])
def test_points_can_be_given_as_centres(name: str, tmp_path) -> None:
    p, q = normals(80, 60)
    ratio = ALL[name](centres=p[:12].numpy(), bandwidths=[1.0]).fit(p, q, seed=0)
    ratio.save(tmp_path / "ratio")
    again = ALL[name].load(tmp_path / "ratio")
    assert torch.equal(again.log_ratio(q), ratio.log_ratio(q))
    assert again.bandwidth == ratio.bandwidth == 1.0
    with pytest.raises(ValueError, match="centres: expected 2 columns; got 3"):
        ALL[name](centres=torch.zeros(4, 3)).fit(p, q, seed=0)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("ulsif", {"centres": 0}, "centres: expected at least 1"),
        ("ulsif", {"folds": 1}, "folds: expected at least 2"),
        ("ulsif", {"rows": 0}, "rows: expected at least 1"),
        ("ulsif", {"bandwidths": []}, "bandwidths: expected positive numbers"),
        ("ulsif", {"ridges": [0.0]}, "ridges: expected positive numbers"),
        ("ulsif", {"criterion": "best"}, "criterion: expected one of log, squared, densratio; got 'best'"),
        ("rulsif", {"alpha": 1.0}, r"alpha: expected a number in \[0, 1\); got 1.0"),
        ("kliep", {"tolerance": 0.0}, "tolerance: expected a positive number"),
        ("kliep", {"bandwidths": [math.inf]}, "bandwidths: expected positive numbers"),
        ("kliep", {"rows": 0}, "rows: expected at least 1"),
        ("kernel-logistic", {"centres": 0}, "centres: expected at least 1"),
        ("kernel-logistic", {"folds": 1}, "folds: expected at least 2"),
        ("kernel-logistic", {"rows": 0}, "rows: expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALL[name](**bad)
