r"""Semi-automatic summaries: the posterior mean, learned from the simulations, is what data are compared by.

Of all summaries of the parameters' dimension, the posterior mean :math:`\mathbb{E}[\phi \mid x]` gives the ABC
posterior whose own mean has the least squared error as the tolerance falls. It is learned by regression of the
parameters on (many, raw) statistics of the simulations, and simulations are then compared by what it predicts:

.. math:: s(x) = \hat{\mathbb{E}}[\phi \mid x], \qquad d(x, x_o) = \left\| \frac{s(x) - s(x_o)}{\sigma} \right\|

Parameters are regressed in unconstrained space. A mean says nothing of modes that lie to both sides of it; with
``moments=2`` the squares of parameters are predicted besides. (Not their products: a regression adjustment on so many
summaries explains noise.)

References:
    | Constructing summary statistics for approximate Bayesian computation (Fearnhead & Prangle, 2012)
    | https://arxiv.org/abs/1004.1112
    | Learning summary statistic for approximate Bayesian computation via deep neural network (Jiang et al., 2017)
    | https://arxiv.org/abs/1510.02175
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, Measure, PNorm
from implicit_infer.abc.regression import Regression, Training


@dataclass(frozen=True)
class SemiAutomatic(Distance):
    """Compare by the posterior mean that a regression learns from the simulations themselves.

    ``summarize`` gives what is regressed on: the more it keeps of the data, the better.

    Args:
        kind: "linear": ordinary regression on powers of the statistics, as in the paper; "neural": perceptrons besides.
        powers: Powers 1, 2, ... of each statistic in the regression.
        moments: 1 learns the means of the parameters; 2 those of their squares, too.
        pilot: Share of the simulations, the first ones, that is learned from, in (0, 1]. Those that are learned from
            and ranked as well look a little better than they are.
        distance: How the learned summaries are compared.
        training: How the networks of "neural" are trained.
        seed: Root of the networks' random numbers.

    Raises:
        ValueError: If a setting is out of its range.
    """

    learned: ClassVar[bool] = True

    kind: Literal["linear", "neural"] = "neural"
    powers: int = 1
    moments: int = 1
    pilot: float = 1.0
    distance: Distance = field(default_factory=PNorm)
    training: Training = field(default_factory=Training)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "neural"):
            raise ValueError(f"kind: expected 'linear' or 'neural'; got {self.kind!r}")
        if self.powers < 1:
            raise ValueError(f"powers: expected a positive int; got {self.powers}")
        if self.moments not in (1, 2):
            raise ValueError(f"moments: expected 1 or 2; got {self.moments}")
        if not 0 < self.pilot <= 1:
            raise ValueError(f"pilot: expected a number in (0, 1]; got {self.pilot}")
        if self.distance.learned:
            raise ValueError(f"distance: expected one that is not learned itself; got {type(self.distance).__name__}")

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        if theta is None:
            raise ValueError("theta: semi-automatic summaries are learned from parameters; fit needs them")
        n = max(1, math.ceil(self.pilot * len(features)))
        regression = Regression(
            features[:n],
            moments(theta[:n], self.moments),
            powers=self.powers,
            training=self.training if self.kind == "neural" else None,
            seed=self.seed,
        )
        summaries = partial(predicted, regression, features.dtype)
        inner = self.distance.fit(summaries(features))
        return Measure(partial(_through, summaries, inner), summaries)


def moments(theta: Tensor, order: int) -> Tensor:
    """Parameters (n, d) in standard deviations and, at order 2, their squares besides: (n, d) or (n, 2 d)."""
    spread = theta.std(0).clamp_min(torch.finfo(theta.dtype).tiny) if len(theta) > 1 else torch.ones_like(theta[0])
    standard = (theta - theta.mean(0)) / spread
    return standard if order == 1 else torch.cat([standard, standard.square()], dim=1)


def predicted(regression: Regression, dtype: torch.dtype, features: Tensor) -> Tensor:
    """What the regression makes of features, with their dtype; NaN where they are not finite."""
    return regression(features).to(dtype)


def _through(summaries: partial[Tensor], inner: Measure, features: Tensor, observed: Tensor) -> Tensor:
    return inner(summaries(features), summaries(observed[None])[0])
