r"""A quadratic log-ratio: that of two normal densities, corrected by logistic regression where they are not normal.

Logistic regression makes no assumption but the form of the ratio; the ratio of two fitted normal densities is more
accurate if they are normal, and the only one of use if they are so far apart that any large ratio separates them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.densities.gaussian import TwoNormals, shrinking_first
from implicit_estimators.ratio.densities.held_out import LARGE, Pair, choose, folds, log_losses
from implicit_estimators.ratio.densities.plug_in import as_log_ratio
from implicit_estimators.ratio.densities.tilt import Tilt, fit_tilt


@dataclass(frozen=True)
class Tilted:
    """Log-ratio of two normals, times 0 or 1, and a tilt.

    Attributes:
        normals: The densities.
        keep: Whether theirs is the ratio that is tilted; otherwise the ratio 1 is.
        tilt: What is added, in the coordinates of ``normals``.
    """

    normals: TwoNormals
    keep: bool
    tilt: Tilt

    def __call__(self, x: Tensor) -> Tensor:
        """Log r at x, in float64."""
        u = self.normals.coordinates(x)
        value = self.tilt(u)
        return value + self.normals.log_ratio(x) if self.keep else value

    def coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the constant, x and its products, with shapes (), (d,) and (d, d)."""
        tilt = self.tilt
        constant = tilt.constant - tilt.quadratic.trace() / math.sqrt(2)
        linear, quadratic = tilt.linear, tilt.quadratic / math.sqrt(2)
        for normal, sign in ((self.normals.p, 0.5), (self.normals.q, -0.5)) if self.keep else ():
            precision = normal.factor @ normal.factor.T
            slope = precision @ normal.mean
            constant = constant + sign * (2 * normal.log_determinant - normal.mean @ slope)
            linear, quadratic = linear + 2 * sign * slope, quadratic - sign * precision
        coordinates = self.normals.coordinates
        matrix = coordinates.matrix / coordinates.scale[:, None]
        shift = -(coordinates.location / coordinates.scale + coordinates.center) @ coordinates.matrix
        constant = constant + linear @ shift + shift @ quadratic @ shift
        return constant, matrix @ (linear + 2 * quadratic @ shift), matrix @ quadratic @ matrix.T


class QuadraticRatio(RatioEstimator):
    r"""A quadratic log-ratio.

    .. math:: \log r(x) = a + b^\top x + x^\top C x

    The ratio of two fitted normal densities (:class:`~implicit_estimators.ratio.densities.gaussian.GaussianRatio`) is
    the mean of a prior, around which all coefficients are learned by penalised logistic regression. The standard
    deviation of the prior, as a change of the log-ratio at a typical sample, is chosen by cross-validated log loss; it
    is 0 unless the loss is then more than two standard errors above the least. So normal p and q get maximum
    likelihood, and p and q of any law whose ratio is of this form (truncated, tilted, on integers) get logistic
    regression. If the normal densities tell p from q worse than no ratio does, the prior's mean is 0.

    Every row is learned from, and held out in turn for :meth:`check`; where rows times the square of the columns exceed
    5e8, one row in five is held out instead.

    Args:
        spreads: Standard deviations of the prior, in nats, to choose from besides 0.

    Raises:
        ValueError: If a spread is not positive.

    References:
        | Inferences for case-control and semiparametric two-sample density ratio models (Qin, 1998)
        | https://doi.org/10.1093/biomet/85.3.619
        | The Efficiency of Logistic Regression Compared to Normal Discriminant Analysis (Efron, 1975)
        | https://doi.org/10.1080/01621459.1975.10480319

    Example:
        >>> p = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
        >>> q = 2 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(1))
        >>> a, b, c = QuadraticRatio().fit(p, q, seed=0).coefficients()  # log 4, 0, -3/8 I
        >>> torch.allclose(c, -0.375 * torch.eye(2).double(), atol=0.02)
        True
    """

    name = "quadratic"

    def __init__(self, spreads: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)) -> None:
        if not all(0 < spread < math.inf for spread in spreads):
            raise ValueError(f"spreads: expected positive numbers; got {tuple(spreads)}")
        self.spreads = tuple(sorted(spreads))

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        parts = list(folds(p, q, seed))
        if (len(p) + len(q)) * p.shape[1] ** 2 > LARGE:
            parts = parts[:1]
        learning = [(p[inside[0]], q[inside[1]]) for inside, _ in parts]
        tests = [(p[outside[0]], q[outside[1]]) for _, outside in parts]
        # the mean of the prior: normals one way, normals the other way, or nothing
        options = (*((shrink, True) for shrink in shrinking_first(p, q)), (True, False))
        starts = [[_Path(*rows, seed, *option) for rows in learning] for option in options]
        table = [log_losses([path.model for path in paths], tests) for paths in starts]
        start = choose(table)
        paths, table = starts[start], table[start : start + 1]
        models = [[path.model for path in paths]]
        for epoch, spread in enumerate(self.spreads, 1):
            models.append([path.extend(spread) for path in paths])
            table.append(log_losses(models[-1], tests))
            means = [float(losses.mean()) for losses in table]
            if progress is not None:
                progress(epoch, {"spread": spread, "validation": means[-1]})
            if epoch > 1 and min(means[-2:]) > min(means):
                break
        # normals that are right are better than anything learned; of what is learned, the best is best
        chosen = choose(table) and choose(table, errors=0)
        self._held_out(p, q, parts, tests, models[chosen])
        path = _Path(p, q, seed, *options[start])
        for spread in self.spreads[:chosen]:
            path.extend(spread)
        self._model, self.spread = path.model, (0.0, *self.spreads)[chosen]

    def _held_out(
        self, p: Tensor, q: Tensor, parts: list[tuple[Pair, Pair]], tests: list[Pair], models: list[Tilted]
    ) -> None:
        sides = []
        for which, rows in enumerate((p, q)):
            values = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)
            judged = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
            for (_, outside), test, model in zip(parts, tests, models, strict=True):
                values[outside[which]] = as_log_ratio(model(test[which]))
                judged |= outside[which]
            sides.append((rows[judged].cpu(), values[judged].cpu()))
        self.held_out = (sides[0][0], sides[1][0])
        self.held_out_log_ratio = (sides[0][1], sides[1][1])

    def _log_ratio(self, x: Tensor) -> Tensor:
        return as_log_ratio(self._model(x)).to(x.device)

    def coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """A, b and C of the log-ratio, in float64, with shapes (), (d,) and (d, d).

        Evaluating them costs digits where p or q is narrow and far from 0; ``log_ratio`` does not.

        Raises:
            RuntimeError: If the estimator has not been fitted.
        """
        self._check_fitted()
        return self._model.coefficients()

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._model.normals.tensors() | self._model.tilt.tensors("tilt"), {
            "keep": self._model.keep,
            "spread": self.spread,
        }

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._model = Tilted(TwoNormals.restore(tensors), rest["keep"], Tilt.restore(tensors, "tilt"))
        self.spread = rest["spread"]


class _Path:
    """Tilts of ever weaker priors, each found from the one before."""

    def __init__(self, p: Tensor, q: Tensor, seed: int, shrink: bool, keep: bool) -> None:
        normals = TwoNormals.fit(p, q, seed, shrink)
        self.p, self.q = normals.coordinates(p), normals.coordinates(q)
        prior = math.log(len(p) / len(q))  # every row counts the same
        self.model = Tilted(normals, keep, Tilt.zero(self.p))
        self.offset_p, self.offset_q = prior + self.model(p), prior + self.model(q)

    def extend(self, spread: float) -> Tilted:
        k = self.p.shape[1]
        deviation = spread / math.sqrt(1 + k + k * (k + 1) / 2)
        tilt = fit_tilt(self.p, self.q, self.offset_p, self.offset_q, deviation, self.model.tilt)
        self.model = dataclasses.replace(self.model, tilt=tilt)
        return self.model
