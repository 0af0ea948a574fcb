r"""Has a model learned its data by heart: are its draws nearer to the training data than fresh data are.

Draws of a model that knows the law of the data are as far from the training set as held-out data are. The statistic is
that of Mann and Whitney on distances to the nearest training sample,

.. math:: \Delta = P(d(\text{draw}) < d(\text{held out})) + \tfrac12 P(d(\text{draw}) = d(\text{held out})),

which is 1/2 for the law itself, 1 for copies, and below 1/2 for a model that strays from the data altogether. A draw is
called a *copy* if it is nearer to a training sample than all but one in a hundred of the held-out data.

References:
    | A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan, Chaudhuri and Dasgupta, 2020)
    | https://arxiv.org/abs/2004.05675
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from implicit_infer.diagnose.neighbours import as_two, nearest


@dataclass(frozen=True)
class Memorisation:
    """What :func:`memorisation` found.

    Attributes:
        statistic: Delta of the module: 1/2 for a model that knows the law, 1 for copies of the training data.
        p_value: Of the hypothesis that draws are no nearer to the training data than held-out data are.
        copies: Share of draws that are copies; 0.01 is expected.
        nearest: The training sample nearest to each draw, int64, with shape (n,).
        distance: Its distance, float64, with shape (n,).
    """

    statistic: float
    p_value: float
    copies: float
    nearest: Tensor
    distance: Tensor


def memorisation(draws: Any, training: Any, held_out: Any) -> Memorisation:
    """Test whether draws of a model are copies of its training data; see the module.

    Args:
        draws: Draws of the model, with shape (n, ...).
        training: What it was trained on, with shape (m, ...).
        held_out: Data that it has not seen, with shape (l, ...).

    Returns:
        The statistic and who is nearest to whom: look at the pairs.

    Raises:
        ValueError: If a set has fewer than 2 rows, widths differ, or a value is not finite.
    """
    from scipy.stats import mannwhitneyu

    y, x = as_two(draws, training, ("draws", "training"))
    fresh, _ = as_two(held_out, training, ("held_out", "training"))
    near, which = nearest(y, x)
    usual, _ = nearest(fresh, x)
    found = mannwhitneyu(near.cpu().numpy(), usual.cpu().numpy(), alternative="less")
    return Memorisation(
        statistic=1 - float(found.statistic) / (len(near) * len(usual)),
        p_value=float(found.pvalue),
        copies=float((near < usual.quantile(0.01)).double().mean()),
        nearest=which.cpu(),
        distance=near.cpu(),
    )
