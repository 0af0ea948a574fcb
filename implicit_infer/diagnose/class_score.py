r"""The inception score with the user's own classifier: are draws of one class each, and of all classes together.

.. math:: \mathrm{IS} = \exp \mathbb{E}_y \, KL(p(c \mid y) \,\|\, p(c)), \quad p(c) = \mathbb{E}_y \, p(c \mid y),

between 1 and the number of classes: K modes that the classifier tells apart for certain, all as frequent, give K. It
sees neither the data nor what is inside a class: a model with one perfect draw of each class has the best score.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016)
    | https://arxiv.org/abs/1606.03498
    | A Note on the Inception Score (Barratt and Sharma, 2018), for what it does not see
    | https://arxiv.org/abs/1801.01973
"""

from __future__ import annotations

import math
from typing import Any

import torch

from implicit_estimators.estimate import Estimate
from implicit_simulators.base import as_tensor


def class_score(log_probabilities: Any, *, splits: int = 10) -> Estimate:
    """The score of draws whose classes a classifier gave probabilities.

    Args:
        log_probabilities: Logarithms of the classes' probabilities for each draw, up to a constant for each (logits
            will do), with shape (n, K); minus infinity for impossible ones.
        splits: Parts that the score is taken of, as in the paper; each needs draws of all classes.

    Returns:
        The mean over the parts, and its standard error.

    Raises:
        ValueError: If the shape is another, there are fewer draws than parts, or a row has no finite entry or a NaN.
    """
    logits = as_tensor(log_probabilities, "log_probabilities").detach().double()
    if logits.ndim != 2 or not logits.shape[1] or splits < 2 or len(logits) < splits:
        raise ValueError(
            f"log_probabilities: expected shape (n, K) with n >= splits = {splits} >= 2; got {tuple(logits.shape)}"
        )
    if bool(logits.isnan().any()) or not bool(logits.amax(1).isfinite().all()):
        raise ValueError("log_probabilities: expected a finite entry, none infinite and no NaN in each row")
    scores = []
    for part in logits.log_softmax(1).tensor_split(splits):
        marginal = part.logsumexp(0) - math.log(len(part))
        # 0 log 0 = 0; where a row has mass, the marginal has
        gain = torch.where(part.isinf(), 0.0, part.exp() * (part - marginal))
        scores.append(gain.sum(1).mean().exp())
    found = torch.stack(scores)
    return Estimate(float(found.mean()), float(found.std()) / math.sqrt(splits))
