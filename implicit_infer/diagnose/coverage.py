r"""Expected coverage: does a credible region of level a hold the truth in a share a of all cases?

Simulate pairs :math:`(\theta^*, x)` from the prior and draw :math:`\theta_1, \dots, \theta_L \sim q(\cdot \mid x)`. If
q is the posterior, the truth and the draws are exchangeable, so that the rank of the truth among them by any number
whatever is uniform on 0, ..., L. Three numbers are looked at, which see different faults:

- each parameter itself (simulation-based calibration): biases and widths of marginals;
- :math:`-\log q(\theta \mid x)`: the rank says in which highest-density region the truth lies. A share below the
  level at all levels means a q that is sure of itself without reason. It is blind to a q that is too narrow here and
  too wide there, and needs a density;
- the distance to a random point (TARP): of draws alone, and in all directions at once.

The number of n truths with a rank below k is Binomial(n, k / (L + 1)), which gives bands that are exact at each level.
The level at which they are drawn is chosen so that with the stated confidence *no* curve leaves its band anywhere.

A coverage as it should be is necessary, not sufficient: the prior itself has it in the first two.

References:
    | A trust crisis in simulation-based inference? (Hermans et al., 2022)
    | https://arxiv.org/abs/2110.06581
    | Validating Bayesian inference algorithms with simulation-based calibration (Talts et al., 2018)
    | https://arxiv.org/abs/1804.06788
    | Sampling-based accuracy testing of posterior estimators for general inference (Lemos et al., 2023), TARP
    | https://arxiv.org/abs/2302.03026
    | Graphical test for discrete uniformity (Säilynoja, Bürkner & Vehtari, 2022), for bands that hold all along
    | https://arxiv.org/abs/2103.10522
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_infer.blocks import not_finite
from implicit_infer.posteriors.base import Posterior
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_infer.simulate import check_count, simulate
from implicit_infer.stored import StoredRuns
from implicit_simulators import Seed, Simulator, Stream, resolve_seed
from implicit_simulators.base import as_tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 2**17
"""Draws that are held at once."""

LEVELS = 99
"""Most levels at which a curve is held against its band."""

REPEATS = 4000
"""Sets of uniform ranks that the bands' common level is calibrated by."""


@dataclass(frozen=True)
class Coverage:
    """Ranks of true parameters among draws, and what to make of them.

    Attributes:
        ranks: By statistic ("hpd", "tarp", and each parameter's name), the ranks of the n truths, with shape (n,).
        draws: L, the draws of each posterior: ranks are in 0, ..., L.
        confidence: Probability that no curve of a right posterior leaves its band.
        parameter_names: Which of the statistics are parameters.
        notes: What could not be looked at, and why.
    """

    ranks: Mapping[str, Tensor]
    draws: int
    confidence: float
    parameter_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many truths."""
        return len(next(iter(self.ranks.values())))

    @cached_property
    def below(self) -> Tensor:
        """The k of the curves: a level is k / (L + 1)."""
        count = min(LEVELS, self.draws)
        return (torch.arange(1, count + 1) * (self.draws + 1) / (count + 1)).round().long().unique()

    @property
    def levels(self) -> Tensor:
        """The nominal levels of the curves, with shape (K,)."""
        return self.below / (self.draws + 1)

    def curve(self, name: str) -> Tensor:
        """The share of truths inside the regions of each level (K,); for a parameter, the regions below a quantile.

        Raises:
            KeyError: If there is no such statistic.
        """
        return (self.ranks[name][:, None] < self.below).double().mean(0)

    @cached_property
    def band(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest share at each level that a right posterior would show, each with shape (K,)."""
        from scipy.stats import binom

        _, smallest = self._chance
        limit = float(torch.quantile(smallest, (1 - self.confidence) / len(self.ranks)))
        levels = self.levels.numpy()
        # a count is inside if its two-sided probability is at least the limit
        low = binom.ppf(limit / 2, self.n, levels)
        high = binom.isf(limit / 2, self.n, levels)
        return torch.as_tensor(low / self.n), torch.as_tensor(high / self.n)

    def p_value(self, name: str) -> float:
        """How often a right posterior's curve would be somewhere as improbable as this one is; of this curve alone."""
        table, smallest = self._chance
        counts = (self.curve(name) * self.n).round().long()
        mine = table.gather(0, counts[None])[0].min()
        return float((1 + (smallest <= mine * (1 + 1e-9)).sum()) / (1 + len(smallest)))

    def inside(self, name: str) -> bool:
        """Whether a curve stays in its band."""
        low, high = self.band
        share = self.curve(name)
        return bool(((share >= low - 1e-9) & (share <= high + 1e-9)).all())

    @property
    def calibrated(self) -> bool:
        """Whether all do."""
        return all(self.inside(name) for name in self.ranks)

    def verdict(self, name: str) -> str:
        """What a curve says, in words."""
        if self.inside(name):
            return "as it should be"
        place = (self.ranks[name].double() + 0.5) / (self.draws + 1)
        if name == "hpd":
            return "too narrow: truths lie outside too often" if place.mean() > 0.5 else "too wide"
        if name == "tarp":
            return "off"
        shift = float((place.mean() - 0.5) * (12 * self.n) ** 0.5)
        if abs(shift) > 3:
            return f"truths lie {'above' if shift > 0 else 'below'} it too often"
        return "too narrow" if place.var() > 1 / 12 else "too wide"

    @property
    def _chance(self) -> tuple[Tensor, Tensor]:
        return _chance(self.n, self.draws, tuple(self.below.tolist()))

    def __str__(self) -> str:
        """A table: the shares at three levels, and the verdicts."""
        at = [int((self.levels - level).abs().argmin()) for level in (0.5, 0.8, 0.95)]
        head = "".join(f"{float(self.levels[i]):>8.2f}" for i in at)
        lines = [f"{'share of truths inside':<24}{head}   p-value"]
        for name in self.ranks:
            shares = "".join(f"{float(self.curve(name)[i]):>8.3f}" for i in at)
            lines.append(f"{name:<24}{shares}{self.p_value(name):>10.3g}   {self.verdict(name)}")
        low, high = self.band
        for title, edge in (("lowest that is chance", low), ("highest that is chance", high)):
            lines.append(f"{title:<24}" + "".join(f"{float(edge[i]):>8.3f}" for i in at))
        return "\n".join([*lines, f"{self.n} truths, {self.draws} draws each", *self.notes])

    def plot(self, title: str = "") -> Figure:
        """The curves less their levels, with the band.

        Returns:
            A matplotlib figure that belongs to no window and has touched no setting of pyplot's.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 3.6), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        groups = (
            (left, "regions", [name for name in self.ranks if name not in self.parameter_names]),
            (right, "parameters", [name for name in self.ranks if name in self.parameter_names]),
        )
        levels = self.levels
        low, high = self.band
        for axes, kind, names in groups:
            axes.fill_between(levels, low - levels, high - levels, color="0.88", label=f"{self.confidence:.0%} band")
            axes.axhline(0.0, color="0.4", linewidth=0.8)
            for name in names:
                style = "-" if self.inside(name) else "--"
                axes.plot(levels, self.curve(name) - levels, style, linewidth=1.2, label=name)
            axes.set_xlabel("level" if kind == "regions" else "quantile of the posterior")
            axes.legend(frameon=False, fontsize="small", ncols=2)
        left.set_ylabel("share of truths less the level")
        figure.suptitle(title)
        return figure


def expected_coverage(
    posterior: Any,
    truths: Runs | StoredRuns | Simulator | tuple[Any, Any] | None = None,
    *,
    n: int = 300,
    draws: int = 200,
    confidence: float = 0.99,
    seed: Seed = 0,
    progress: bool = True,
) -> Coverage:
    r"""Rank true parameters among draws of a posterior at their data.

    Args:
        posterior: An amortised posterior: one of ours, or anything with sbi's ``sample_batched``. Regions of highest
            density are looked at where it has a ``potential`` or ``log_prob``.
        truths: Simulations from the prior that the posterior has not learned from: runs, a pair of theta (N, d) and x
            (N, \*event_shape), or a simulator to draw ``n`` from; the posterior's own simulator if None.
        n: Truths, at most; the first ones that did not fail.
        draws: L, draws at each.
        confidence: Probability that a right posterior stays in all of its bands.
        seed: An int, a ``torch.Generator`` or None.
        progress: Whether to show progress.

    Returns:
        The ranks, with ``calibrated``, ``curve``, ``band``, ``p_value`` and ``plot``; ``print`` it for a table.

    Raises:
        TypeError: If the posterior cannot be drawn from.
        ValueError: If a count is not positive, the confidence is no share, or there are no finite simulations.
    """
    check_count(n, "n")
    check_count(draws, "draws")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share inside (0, 1); got {confidence}")
    if not callable(getattr(posterior, "sample_batched", None)):
        raise TypeError(f"posterior: expected one with sample_batched; got {type(posterior).__name__}")
    root = resolve_seed(seed)
    theta, x = _truths(posterior, truths, n, root, progress)
    random = Stream.of(root, role="sample").torch()
    # where TARP measures from: other truths, which know nothing of this one
    reference, scale = theta.roll(1, 0), theta.std(0).clamp_min(1e-12) if len(theta) > 1 else torch.ones(1)
    found: dict[str, list[Tensor]] = {"hpd": [], "tarp": []}
    columns, notes = [], []
    with track("coverage", total=len(theta), show=progress) as bar:
        for rows in torch.arange(len(theta)).split(max(1, DRAWS // draws)):
            drawn, truth = _draws(posterior, draws, x[rows], random), theta[rows]
            columns.append(_ranks(drawn, truth, random))
            far, near = (((value - reference[rows]) / scale).square().sum(-1) for value in (drawn, truth))
            found["tarp"].append(_ranks(far, near, random))
            for row, given in enumerate(x[rows]):
                if "hpd" not in found:
                    break
                try:
                    density = _density(posterior, torch.cat((truth[row][None], drawn[:, row])), given)
                except NotImplementedError:
                    del found["hpd"]
                    notes.append("no density: regions of highest density were not looked at")
                    break
                found["hpd"].append(_ranks(-density[1:], -density[0], random)[None])
            bar.update(len(rows))
    names = _names(posterior, theta.shape[1])
    ranks = {name: torch.cat(parts) for name, parts in found.items()}
    ranks |= dict(zip(names, torch.cat(columns).unbind(1), strict=True))
    return Coverage(ranks, draws, confidence, names, tuple(notes))


@lru_cache(maxsize=16)
def _chance(n: int, draws: int, below: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two-sided probabilities of each count at each level (n + 1, K), and the smallest of each set of uniform ranks."""
    from scipy.stats import binom

    edges, counts = torch.tensor(below), torch.arange(n + 1).numpy()[:, None]
    levels = (edges / (draws + 1)).numpy()
    tails = [binom.cdf(counts, n, levels), binom.sf(counts - 1, n, levels)]
    table = 2 * torch.minimum(*(torch.as_tensor(tail) for tail in tails))
    generator = Stream.of(0, role="sample").torch()
    smallest = []
    for some in torch.arange(REPEATS).split(max(1, 2**21 // n)):
        places = torch.bucketize(torch.randint(draws + 1, (len(some), n), generator=generator), edges, right=True)
        found = torch.zeros(len(some), len(below) + 1, dtype=torch.long)
        found.scatter_add_(1, places, torch.ones_like(places))
        smallest.append(table.gather(0, found[:, :-1].cumsum(1)).amin(1))
    return table, torch.cat(smallest)


def _truths(posterior: Any, truths: Any, n: int, seed: int, progress: bool) -> tuple[Tensor, Tensor]:
    if truths is None:
        truths = getattr(posterior, "simulator", None)
    if isinstance(truths, Simulator):
        # a posterior may have been made with this seed, too
        truths = simulate(truths, n, seed=Stream.of(seed, role="observe").key >> 1, progress=progress)
    if isinstance(truths, (Runs, StoredRuns)):
        theta, x = truths.valid()
    elif isinstance(truths, (tuple, list)) and len(truths) == 2:
        theta, x = as_tensor(truths[0], "theta"), as_tensor(truths[1], "x")
        if theta.ndim != 2 or len(theta) != len(x):
            raise ValueError(f"truths: expected theta (N, d) and N rows of x; got {tuple(theta.shape)}, {len(x)} rows")
        keep = ~not_finite(x)
        theta, x = theta[keep], x[keep]
    else:
        raise TypeError(f"truths: expected runs, a pair (theta, x) or a Simulator; got {type(truths).__name__}")
    if not len(theta):
        raise ValueError("truths: expected simulations that did not fail; there are none")
    return theta[:n], x[:n]


def _draws(posterior: Any, n: int, x: Tensor, random: torch.Generator) -> Tensor:
    """N draws at each x (n, B, d), of our posteriors or of sbi's."""
    if isinstance(posterior, Posterior):
        return posterior.sample_batched((n,), x, seed=random)
    with Stream.of(random, role="sample").forked():
        return torch.as_tensor(posterior.sample_batched((n,), x=x, show_progress_bars=False)).detach()


def _density(posterior: Any, theta: Tensor, x: Tensor) -> Tensor:
    if isinstance(posterior, Posterior):
        return posterior.potential(theta, x).detach()
    if not callable(getattr(posterior, "log_prob", None)):
        raise NotImplementedError
    return torch.as_tensor(posterior.log_prob(theta, x=x)).detach()


def _ranks(drawn: Tensor, truth: Tensor, random: torch.Generator) -> Tensor:
    """How many draws (L, ...) lie below the truth (...); ties fall on either side at random."""
    ties = (drawn == truth).sum(0)
    return (drawn < truth).sum(0) + (torch.rand(ties.shape, generator=random) * (ties + 1)).long()


def _names(posterior: Any, d: int) -> tuple[str, ...]:
    names = tuple(getattr(posterior, "parameter_names", ()))
    return names if len(names) == d else tuple(f"theta_{i + 1}" for i in range(d))
