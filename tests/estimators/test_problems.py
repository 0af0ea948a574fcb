"""Problems with a known ratio: ratio, mean and samples agree with one another, by identities and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.problems import PROBLEMS, Problem
from implicit_estimators.problems import transforms as maps

FEW = {name: 2000 if problem.dimension > 60 else 4000 for name, problem in PROBLEMS.items()}
"""Rows drawn to look at a problem."""

BOUNDED = ["a_rev", "b", "bmi-normal", "bmi-additive-0.75", "bmi-dense-2", "bmi-dense-5", "bmi-2-pair-3-cdf-spiral"]
"""Problems whose E_q r^2 is finite and small, so that E_q r can be seen to be 1."""

MAPPED = {
    name: max((base for base in PROBLEMS if name.startswith(f"{base}-")), key=len)
    for name in PROBLEMS
    if name.endswith(("-cdf", "-bimodal", "-wiggly", "-half-cube", "-asinh", "-swiss-roll", "-spiral"))
}
"""Problems that are another one seen through a map of each variable."""


def several_errors(difference: torch.Tensor | float, *values: torch.Tensor) -> bool:
    """Whether a difference of means of ``values`` is more than 4.5 standard errors (1 in 150,000 by chance)."""
    return abs(float(difference)) > 4.5 * math.sqrt(sum(float(v.var()) / len(v) for v in values))


@pytest.mark.parametrize("name", PROBLEMS)
def test_kl_is_the_mean_log_ratio(name: str) -> None:
    problem = PROBLEMS[name]
    p, _ = problem.samples(FEW[name], 0, 1)
    values = problem.log_ratio(p)
    assert values.dtype == torch.float64
    assert torch.isfinite(values).all()
    assert not several_errors(values.mean() - problem.kl, values)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_ratio_carries_q_to_p(name: str) -> None:
    r"""E_q[r g(r)] = E_p[g(r)] for any g; with g = 1 / (1 + r) both sides are bounded, whatever the tails of r."""
    problem = PROBLEMS[name]
    p, q = problem.samples(FEW[name], FEW[name], 2)
    weighted, plain = torch.sigmoid(problem.log_ratio(q)), torch.sigmoid(-problem.log_ratio(p))
    if max(float(weighted.max()), float(plain.max())) > 0.1:  # else the sets do not overlap, and the sides are 0
        assert not several_errors(weighted.mean() - plain.mean(), weighted, plain)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_mean_ratio_over_q_is_one(name: str) -> None:
    ratio = PROBLEMS[name].log_ratio(PROBLEMS[name].samples(0, 20_000, 3)[1]).exp()
    assert not several_errors(ratio.mean() - 1, ratio)


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.split is not None])
def test_q_is_the_product_of_the_marginals_of_p(name: str) -> None:
    """Each column has one distribution under p and q (Kolmogorov's distance), and q's variables are uncorrelated."""
    problem = PROBLEMS[name]
    rows = 2000
    p, q = problem.samples(rows, rows, 4)
    grid = torch.cat([p, q]).T.contiguous()
    below = [torch.searchsorted(side.T.contiguous().sort(1).values, grid, right=True) / rows for side in (p, q)]
    distance = (below[0] - below[1]).abs().max(1).values
    assert float(distance.max()) < 2.8 * math.sqrt(2 / rows)  # 3e-7 for each column by chance
    ranks = torch.from_numpy(np.argsort(np.argsort(q.numpy(), 0), 0) / rows)
    across = torch.corrcoef(ranks.T)[: problem.split, problem.split :]
    assert float(across.abs().max()) < 5.5 / math.sqrt(rows)


@pytest.mark.parametrize(("name", "base"), MAPPED.items())
def test_maps_leave_the_ratio_alone(name: str, base: str) -> None:
    """The same draw, through the map and back: what is lost is the rounding of float64."""
    problem, plain = PROBLEMS[name], PROBLEMS[base]
    for draw, original in ((problem.draw_p, plain.draw_p), (problem.draw_q, plain.draw_q)):
        x, z = (one(500, torch.Generator().manual_seed(5)) for one in (draw, original))
        assert x.shape[1] == problem.dimension
        assert not torch.equal(x[:, :2], z[:, :2])
        assert torch.allclose(problem.exact(x), plain.exact(z), rtol=1e-6, atol=1e-6)
    assert problem.kl == plain.kl


@pytest.mark.parametrize("name", PROBLEMS)
def test_rounded_samples_keep_their_ratio(name: str) -> None:
    """The points that are handed out are those that were drawn, to what rounding does to log r."""
    problem = PROBLEMS[name]
    z = problem.draw_p(500, torch.Generator().manual_seed(6))
    assert torch.allclose(problem.log_ratio(z.to(problem.dtype)), problem.exact(z), rtol=1e-4, atol=1e-3)


@settings(max_examples=20)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-6, 6))
def test_maps_have_inverses(a: float, b: float, c: float) -> None:
    x = torch.tensor([[a, b, c]], dtype=torch.float64)
    for one in (maps.NORMAL_CDF, maps.HALF_CUBE, maps.ASINH, maps.WIGGLY_X, maps.BIMODAL_X, maps.spiral(0, 2, 0.7)):
        assert torch.allclose(one.inverse(one.forward(x)), x, atol=1e-6)
    u = torch.special.ndtr(x[:, :1])
    assert torch.allclose(maps.SWISS_ROLL.inverse(maps.SWISS_ROLL.forward(u)), u, atol=1e-12)


def test_bimodal_draws_are_the_mixture() -> None:
    """Half of y around -1 and half around 3; 0.3 of x around 0 and 0.7 around 5."""
    p, _ = PROBLEMS["bmi-normal-bimodal"].samples(20_000, 0, 7)
    for column, places, shares in ((0, (0.0, 5.0), (0.3, 0.7)), (1, (-1.0, 3.0), (0.5, 0.5))):
        near = [((p[:, column] - place).abs() < 1).double().mean() for place in places]
        for side, share in zip(near, shares, strict=True):
            assert float(side) == pytest.approx(share * 0.6827 + 0.0003, abs=0.018)  # 5 errors; tails of the other


def test_figures_by_hand() -> None:
    """Published ones, and ones that take a line."""
    rho = 1 - math.exp(-1)
    for name, kl in {
        "a": 0.8562,
        "a_rev": 0.6438,
        "b": 5 * -0.5 * math.log(0.75),
        "c": 10.0,
        **{f"ladder-{d}": d / 4 for d in (20, 40, 80, 160, 320)},
        "peaked-1e-6": 13.316,
        "peaked-1e-3": 6.408,
        "wide-apart": 50.0,
        "corner": 16.0,
        "bmi-normal": 0.4133,
        "bmi-additive-0.1": 0.1 - math.log(0.2),
        "bmi-additive-0.75": 1 / 3,
        "bmi-dense-2": 0.294,
        "bmi-dense-5": 0.593,
        "bmi-dense-50": 1.624,
        "bmi-2-pair-25": -math.log(0.36),
        "bmi-student-1-1": 0.224,
        "bmi-student-2-1": 0.432,
        "bmi-student-5-3": 0.299,
        "gamma-exponential": 0.2528,
    }.items():
        assert PROBLEMS[name].kl == pytest.approx(kl, abs=6e-4), name
    assert PROBLEMS["ladder-320"].dimension == 320
    x = torch.tensor([[0.5, -1.0]])
    correlated = PROBLEMS["bmi-normal"].log_ratio(x)
    assert float(correlated) == pytest.approx(
        -0.5 * math.log(1 - 0.5625) - (0.5625 * 1.25 + 0.75) / (2 * (1 - 0.5625)), abs=1e-6
    )
    pair = torch.zeros(1, 40)
    pair[0, 0] = pair[0, 20] = 1.0  # a pair of c at (1, 1), the others at 0
    there = -0.5 * (2 * (1 - math.sqrt(rho)) / (1 - rho) - 2) + 10
    assert float(PROBLEMS["c"].log_ratio(pair)) == pytest.approx(there, abs=1e-5)
    outside = PROBLEMS["bmi-additive-0.1"].log_ratio([[0.5, 0.7], [0.5, 0.55]])
    assert outside.tolist() == pytest.approx([-math.inf, -math.log(0.2)])


def test_samples_repeat_and_sides_do_not_depend_on_each_other() -> None:
    for problem in PROBLEMS.values():
        p, q = problem.samples(5, 3, 8)
        again, more = problem.samples(5, 6, 8)
        assert p.shape == (5, problem.dimension)
        assert p.dtype == problem.dtype
        assert torch.equal(p, again)
        assert more.shape == (6, problem.dimension)
        assert q.shape == (3, problem.dimension)
        assert not torch.equal(p, problem.samples(5, 3, 9)[0])
        assert not torch.equal(p[:3], q)


def test_names_words_and_refusals() -> None:
    assert len(PROBLEMS) == 57
    for name, problem in PROBLEMS.items():
        assert isinstance(problem, Problem)
        assert problem.name == name
        assert "\n" not in problem.description + problem.source
        assert problem.description
        assert problem.source
    with pytest.raises(ValueError, match="x: expected 2 columns; got 1"):
        PROBLEMS["a"].log_ratio([0.0])
    with pytest.raises(ValueError, match="n, m: expected numbers of rows; got -1 and 3"):
        PROBLEMS["a"].samples(-1, 3, 0)
    with pytest.raises(ValueError, match="expected a joint distribution against its marginals; got 'a'"):
        maps.transformed(PROBLEMS["a"], "new", maps.ASINH, maps.ASINH, "no")
