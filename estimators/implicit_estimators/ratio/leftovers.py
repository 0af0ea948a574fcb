r"""Looks for what still tells p from q once an estimated ratio has evened them out: by a classifier and by kernels.

With :math:`D = r / (1 + r)`, the law of p weighted by :math:`1 - D` is the law of q weighted by D, for both are
proportional to :math:`p q / (p + q)` if r is right. These weights are below 1 and their effective number is large
wherever p and q overlap. A classifier finds differences of any shape, if there are samples enough to train it; kernels
find smooth ones (in means, in products of columns) in fewer samples, and their null distribution is known: labels
drawn from D itself.

References:
    | Balancing Covariates via Propensity Score Weighting (Li, Morgan and Zaslavsky, 2018), for the weights 1 - D and D
    | https://arxiv.org/abs/1404.1785
    | Comparing the Areas under Two or More Correlated ROC Curves (DeLong, DeLong and Clarke-Pearson, 1988)
    | https://doi.org/10.2307/2531595
    | Calibration tests in multi-class classification: A unifying framework (Widmann, Lindsten and Zachariah, 2019)
    | https://arxiv.org/abs/1910.11385
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.estimate import Estimate
from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.train import split, train
from implicit_estimators.ratio_losses import LogLoss
from implicit_estimators.seeds import stream

LABELLINGS = 399
"""Labels drawn for the kernel test: its p-value is at least 1/400."""
ROWS = 1500
"""Rows of each side that the kernel test looks at: its cost grows with their square."""


def weighted_areas(p: Tensor, q: Tensor, log_r_p: Tensor, log_r_q: Tensor, seed: int) -> tuple[Estimate, Estimate]:
    r"""Areas under the ROC curve of one fresh classifier, of p against q under weights that the ratio gives.

    It is trained on one half of the samples under the weights 1 - D and D, and scored on the other half under these
    weights and under the weights 1 and r. Its best logit is :math:`\log p / (q r)` for both.

    Not on both halves in turn: where there is nothing to find, the second score is the first over again (each is the
    product of the chance differences of the two halves), and their average would look surer than it is.

    Args:
        p: Samples of p, with shape (n, d).
        q: Samples of q, with shape (m, d).
        log_r_p: log r at samples of p, with shape (n,).
        log_r_q: log r at samples of q, with shape (m,).
        seed: Seed of the halves and of the classifier.

    Returns:
        The area of p weighted by 1 - D against q weighted by D, and that of p against q weighted by r: 0.5 if the
        ratio is right up to a factor. With an infinite error where there are too few samples to train on.
    """
    if min(len(p), len(q)) < 40:
        return Estimate(0.5, math.inf), Estimate(0.5, math.inf)
    standardiser = Standardiser.fit(p, q, robust=True)
    rows = [standardiser(samples.detach()).float().cpu() for samples in (p, q)]
    floor = torch.finfo(torch.float32).tiny  # a batch whose weights all round to 0 has no mean
    overlap = [(log - log.max()).exp().float() + floor for log in (-softplus(log_r_p), -softplus(-log_r_q))]
    plain = [torch.ones(len(p)), (log_r_q - log_r_q.max()).exp()]
    groups = list(zip(rows, overlap, plain, strict=True))
    seen, fresh = split(groups, 0.5, seed)
    network = MLP(p.shape[1], 1, (32, 32), seed=seed)

    def loss(p: Tensor, weight_p: Tensor, q: Tensor, weight_q: Tensor, generator: torch.Generator) -> Tensor:
        return LogLoss().loss(network(p)[:, 0], network(q)[:, 0], weight_p, weight_q)

    train(
        network,
        loss,
        [group[:2] for group in seen],
        validation=0,
        epochs=30,
        batch_size=256,
        learning_rate=5e-3,
        weight_decay=0.1,
        patience=None,
        average=0.99,
        seed=seed,
    )
    with torch.no_grad():
        score_p, score_q = (network(group[0])[:, 0].double() for group in fresh)
    (_, overlap_p, plain_p), (_, overlap_q, plain_q) = fresh
    return (
        area(score_p, overlap_p.double(), score_q, overlap_q.double()),
        area(score_p, plain_p.double(), score_q, plain_q.double()),
    )


def balance_p_value(p: Tensor, q: Tensor, log_r_p: Tensor, log_r_q: Tensor, seed: int) -> float:
    r"""The p-value of what kernels find between p weighted by 1 - D and q weighted by D.

    The statistic is the larger of two squared maximum mean discrepancies (a Gaussian kernel with the median distance,
    and the square of the inner product, which sees correlations), each in units of its standard deviation. If r is
    right, a sample's label is p with probability D (with odds corrected for the numbers of both), so that labels drawn
    so give the statistic's distribution at the very same samples.

    Args:
        p: Samples of p, with shape (n, d).
        q: Samples of q, with shape (m, d).
        log_r_p: log r at samples of p, with shape (n,).
        log_r_q: log r at samples of q, with shape (m,).
        seed: Seed of the labels, and of the rows that are looked at where there are more than ``ROWS``.

    Returns:
        A number in (0, 1], uniform if the ratio is right.
    """
    subsample, draw = stream(seed, "subsample"), stream(seed, "draws")
    chosen = [torch.randperm(len(samples), generator=subsample)[:ROWS] for samples in (p, q)]
    standardiser = Standardiser.fit(p, q, robust=True)
    x = torch.cat([standardiser(samples.detach().cpu()[rows]) for samples, rows in zip((p, q), chosen, strict=True)])
    x, log_r = x.float(), torch.cat([log_r_p.cpu()[chosen[0]], log_r_q.cpu()[chosen[1]]]).double()
    n, m = map(len, chosen)
    odds = (log_r + math.log(n / m)).sigmoid()
    labels = torch.rand(n + m, LABELLINGS, generator=draw, dtype=torch.float64) < odds[:, None]
    observed = torch.cat([torch.ones(n, 1, dtype=torch.bool), torch.zeros(m, 1, dtype=torch.bool)])
    labels = torch.cat([observed, labels], 1)
    floor = torch.finfo(torch.float64).tiny
    weight_p = torch.where(labels, (-softplus(log_r))[:, None].exp() + floor, 0.0)
    weight_q = torch.where(labels, 0.0, (-softplus(-log_r))[:, None].exp() + floor)
    # a labelling that leaves a side without samples has no difference to show
    sides = [weight / weight.sum(0).clamp(min=floor) for weight in (weight_p, weight_q)]
    difference = (sides[0] - sides[1]).float()
    distances = torch.cdist(x, x).square()
    typical = distances[:: max(1, len(x) // 500)].median().clamp(min=1e-12)
    inner = (x @ x.T) / x.square().sum(1).mean().clamp(min=1e-12)
    statistics = []
    for kernel in ((-distances / typical).exp_(), inner.square_()):
        values = (difference * (kernel @ difference)).sum(0).double()
        statistics.append((values - values[1:].mean()) / values[1:].std().clamp(min=1e-30))
    largest = torch.stack(statistics).amax(0)
    return (1 + int((largest[1:] >= largest[0]).sum())) / (LABELLINGS + 1)


def area(score_p: Tensor, weight_p: Tensor, score_q: Tensor, weight_q: Tensor) -> Estimate:
    """Weighted area under the ROC curve, with DeLong's standard error.

    Args:
        score_p: Scores of samples of p, with shape (n,).
        weight_p: Their weights, not negative, with shape (n,).
        score_q: Scores of samples of q, with shape (m,).
        weight_q: Their weights, with shape (m,).

    Returns:
        The share of pairs in which the sample of p has the higher score, ties by half; 0.5 with an infinite error
        where all weights of a side round to 0.
    """
    if not (weight_p.sum() > 0 and weight_q.sum() > 0):
        return Estimate(0.5, math.inf)
    placement_p = _share_below(score_p, score_q, weight_q)  # of q below each p
    placement_q = 1 - _share_below(score_q, score_p, weight_p)  # of p above each q
    share_p, share_q = weight_p / weight_p.sum(), weight_q / weight_q.sum()
    value = (share_p * placement_p).sum()
    variance = (share_p * (placement_p - value)).square().sum() + (share_q * (placement_q - value)).square().sum()
    return Estimate(float(value), math.sqrt(float(variance)))


def _share_below(scores: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """Share of the weight of ``others`` below each score, ties by half."""
    ordered, order = others.sort()
    mass = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)]) / weights.sum()
    below, up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    return 0.5 * (mass[below] + mass[up_to])
