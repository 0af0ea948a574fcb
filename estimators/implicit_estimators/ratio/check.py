r"""How far to trust an estimated ratio, from fresh samples: moments, calibration, and what weighting leaves over.

A ratio r = p/q must satisfy :math:`\mathbb{E}_q[r] = 1` and :math:`\mathbb{E}_p[1/r] = 1`. The classifier
:math:`D = r / (1 + r)` must be calibrated: among samples with D = 0.7, seven in ten are from p; and regressing the
label on log r must give slope 1 and intercept 0, which tells best whether the ratio is too sure of itself. And p
weighted by 1 - D must be the same distribution as q weighted by D, which a fresh classifier and a kernel test try to
refute (``leftovers``).

No one of these suffices: r = 1 passes all but the last for any p and q, and a factor on r passes the last. Where p
and q hardly overlap, a handful of samples decides all averages, and even the true ratio fails: then the answer is
"uninformative", together with the signs against the ratio that there are all the same. Whether p and q overlap is
read off the ratio and off the ratio recalibrated by its own calibration line: one that is ten times too sure of itself
does not get away with the few samples that it leaves undecided.

References:
    | Two Further Applications of a Model for Binary Regression (Cox, 1958), for the calibration line
    | https://doi.org/10.1093/biomet/45.3-4.562
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.estimate import Estimate
from implicit_estimators.ratio.leftovers import balance_p_value, weighted_areas
from implicit_estimators.seeds import Seed, resolve_seed

ENOUGH = 50.0
"""Effective samples below which an average says nothing of the ratio."""
SIGNIFICANT = 3.0
"""Standard errors beyond which a deviation is not chance."""
RARE = 0.005
"""A p-value below which a difference is not chance."""


@dataclass(frozen=True)
class RatioCheck:
    r"""What held-out samples say of an estimated ratio. ``print`` it for a table.

    Attributes:
        mean_ratio: The mean of r over q, which should be 1.
        mean_inverse: The mean of 1/r over p, which should be 1.
        log_loss: Mean log loss of D, p and q weighing the same; log 2 = 0.693 is that of knowing nothing.
        calibration_error: Mean distance of D from the observed share of p, over bins of D, with the standard error
            that the bins' counts give; a calibrated D has about ``calibration_noise``.
        calibration_noise: What the calibration error of a perfectly calibrated D would be.
        intercept: a in the logistic regression of the label (p or q) on log r, :math:`a + b \log r`, which should be 0.
        slope: b of the same, which should be 1: below, the ratio is too sure of itself; above, not sure enough.
        reliability: One row for each bin: mean D, observed share of p, share of all samples; shape (bins, 3).
        weighted_auc: Area under the ROC curve of a fresh classifier of p weighted by 1 - D against q weighted by D;
            0.5 if the ratio is right up to a factor.
        reweighted_auc: The same classifier's area of p against q weighted by r: what is told apart after
            importance weighting. Heavy weights make it noisy, so no verdict rests on it; its error is infinite where
            fewer than 50 samples are effective.
        balance_p_value: Of a kernel test of p weighted by 1 - D against q weighted by D; uniform if the ratio is right.
        effective_q: Effective number of samples of q weighted by r.
        effective_p: Effective number of samples of p weighted by 1/r.
        tail_q: Tail index of r over q; from 1/2 on its variance is infinite, and its mean comes out too small.
        tail_p: Tail index of 1/r over p.
        effective_overlap: Samples that could be of either: the smaller effective number under the weights of
            ``weighted_auc``, and no more than twice their sum (which is the number of samples where D = 1/2); of the
            ratio or of the recalibrated one, whichever claims more.
        n_p: Samples of p.
        n_q: Samples of q.
        verdict: "trusted", "off: ..." with what is wrong, or "uninformative: ..." where samples cannot tell.
        notes: Sentences on what to do about it, and on samples that are not what they should be.
    """

    mean_ratio: Estimate
    mean_inverse: Estimate
    log_loss: Estimate
    calibration_error: Estimate
    calibration_noise: float
    intercept: Estimate
    slope: Estimate
    reliability: Tensor
    weighted_auc: Estimate
    reweighted_auc: Estimate
    balance_p_value: float
    effective_q: float
    effective_p: float
    tail_q: float
    tail_p: float
    effective_overlap: float
    n_p: int
    n_q: int
    verdict: str
    notes: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the ratio, and something could have."""
        return self.verdict == "trusted"

    def __str__(self) -> str:
        rows = [
            ("mean of r over q", repr(self.mean_ratio), "1"),
            ("mean of 1/r over p", repr(self.mean_inverse), "1"),
            ("log loss", repr(self.log_loss), f"< {math.log(2):.4f}"),
            ("calibration error", repr(self.calibration_error), f"{self.calibration_noise:.2g}"),
            ("calibration intercept", repr(self.intercept), "0"),
            ("calibration slope", repr(self.slope), "1"),
            ("AUC after weighting", repr(self.weighted_auc), "0.5"),
            ("AUC, q weighted by r", repr(self.reweighted_auc), "0.5"),
            ("p-value of the balance", f"{self.balance_p_value:.3g}", f"> {RARE:g}"),
            ("effective samples of q", f"{self.effective_q:.0f} of {self.n_q}", f">= {ENOUGH:.0f}"),
            ("effective samples of p", f"{self.effective_p:.0f} of {self.n_p}", f">= {ENOUGH:.0f}"),
        ]
        lines = [f"{what:<24}{found:<20}expected {expected}" for what, found, expected in rows]
        return "\n".join([*lines, f"verdict: {self.verdict}", *(f"note: {note}" for note in self.notes)])


def check_ratio(log_r_p: Tensor, log_r_q: Tensor, p: Tensor, q: Tensor, seed: Seed = None) -> RatioCheck:
    """Check estimated log-ratios at held-out samples.

    Args:
        log_r_p: log r at samples of p, with shape (n,).
        log_r_q: log r at samples of q, with shape (m,).
        p: The samples of p, with shape (n, d).
        q: The samples of q, with shape (m, d).
        seed: Seed of the classifier that looks for what is left.

    Returns:
        The check.

    Raises:
        ValueError: If there are fewer than 2 samples of either, or counts do not match.
    """
    if len(log_r_p) != len(p) or len(log_r_q) != len(q) or min(len(p), len(q)) < 2:
        raise ValueError(
            f"p, q: expected at least 2 samples and one log-ratio for each; got {len(p)}, {len(q)} samples and "
            f"{len(log_r_p)}, {len(log_r_q)} log-ratios"
        )
    log_r_p, log_r_q = log_r_p.detach().cpu().double(), log_r_q.detach().cpu().double()
    seed, effective_q = resolve_seed(seed), effective_number(log_r_q)
    error, noise, reliability = _calibration(log_r_p, log_r_q)
    intercept, slope = calibration_line(log_r_p, log_r_q)
    recalibrated = [float(intercept) + float(slope) * side for side in (log_r_p, log_r_q)]
    weighted, reweighted = weighted_areas(p, q, log_r_p, log_r_q, seed)
    found = RatioCheck(
        mean_ratio=_mean_exp(log_r_q),
        mean_inverse=_mean_exp(-log_r_p),
        log_loss=Estimate.mean(softplus(-log_r_p), softplus(log_r_q)),
        calibration_error=error,
        calibration_noise=noise,
        intercept=intercept,
        slope=slope,
        reliability=reliability,
        weighted_auc=weighted,
        reweighted_auc=reweighted if effective_q >= ENOUGH else Estimate(reweighted, math.inf),
        balance_p_value=balance_p_value(p, q, log_r_p, log_r_q, seed),
        effective_q=effective_q,
        effective_p=effective_number(-log_r_p),
        tail_q=tail_index(log_r_q),
        tail_p=tail_index(-log_r_p),
        effective_overlap=max(_overlap(log_r_p, log_r_q), _overlap(*recalibrated)),
        n_p=len(p),
        n_q=len(q),
        verdict="",
    )
    claimed = effective_q, found.effective_p
    averaged = max(*claimed, effective_number(recalibrated[1]), effective_number(-recalibrated[0]))
    object.__setattr__(found, "verdict", _verdict(found, averaged))
    object.__setattr__(found, "notes", _notes(found, bool(log_r_p.min() > log_r_q.max())))
    return found


def effective_number(log_weights: Tensor) -> float:
    r"""Kish's effective number of samples, :math:`(\sum w)^2 / \sum w^2`, from log-weights."""
    return math.exp(float(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)))


def _overlap(log_r_p: Tensor, log_r_q: Tensor) -> float:
    # log(1 - D) and log D: weights that stay below 1
    sides = (-softplus(log_r_p), -softplus(-log_r_q))
    return min(min(effective_number(side), 2 * float(side.exp().sum())) for side in sides)


def tail_index(log_weights: Tensor) -> float:
    r"""Hill's estimate of k where weights exceed w with probability :math:`\propto w^{-1/k}`, from the largest ones."""
    top = min(len(log_weights) // 5, round(3 * math.sqrt(len(log_weights))))
    largest = log_weights.topk(top + 1).values
    return float((largest[:-1] - largest[-1]).mean()) if top else math.inf


def _mean_exp(values: Tensor) -> Estimate:
    """Mean of exp(values), infinite where it leaves float64, and never NaN."""
    largest = values.max()
    relative = Estimate.mean((values - largest).exp())
    scale = float(largest.exp())
    return Estimate(scale * relative, scale * relative.standard_error if relative.standard_error else 0.0)


def _labels(log_r_p: Tensor, log_r_q: Tensor) -> tuple[Tensor, Tensor]:
    """1 for p and 0 for q, and weights under which p and q count the same however many there are of each."""
    label = torch.cat([torch.ones_like(log_r_p), torch.zeros_like(log_r_q)])
    weight = torch.cat([torch.full_like(side, 0.5 / len(side)) for side in (log_r_p, log_r_q)])
    return label, weight


def _calibration(log_r_p: Tensor, log_r_q: Tensor) -> tuple[Estimate, float, Tensor]:
    """Error, the error expected of a calibrated D, and the reliability curve, in bins of equal count."""
    predicted = torch.cat([log_r_p, log_r_q]).sigmoid()
    is_p, weight = _labels(log_r_p, log_r_q)
    order = predicted.argsort(stable=True)
    bins = min(15, max(2, len(predicted) // 40))
    rows, variances = [], []
    for part in order.tensor_split(bins):
        mass = weight[part].sum()
        mean = (weight[part] * predicted[part]).sum() / mass
        observed = (weight[part] * is_p[part]).sum() / mass
        rows.append(torch.stack([mean, observed, mass]))
        spread = weight[part].square() * predicted[part] * (1 - predicted[part])
        variances.append(spread.sum())  # of mass times the observed share, if D is right
    reliability, sd = torch.stack(rows), torch.stack(variances).sqrt()
    gaps = (reliability[:, 0] - reliability[:, 1]).abs() * reliability[:, 2]
    # a normal's absolute value has mean sqrt(2 / pi) and variance 1 - 2 / pi in units of its own
    error = math.sqrt((1 - 2 / math.pi) * float(sd.square().sum()))
    return Estimate(float(gaps.sum()), error), math.sqrt(2 / math.pi) * float(sd.sum()), reliability


def calibration_line(log_r_p: Tensor, log_r_q: Tensor) -> tuple[Estimate, Estimate]:
    """Logistic regression of the label on log r (Cox, 1958), p and q weighing the same, with robust standard errors.

    Args:
        log_r_p: log r at samples of p, in float64, with shape (n,).
        log_r_q: log r at samples of q, with shape (m,).

    Returns:
        Intercept and slope: 0 and 1 for a calibrated ratio; 0 and 1 with infinite errors where there is no such line.
    """
    unknown = Estimate(0.0, math.inf), Estimate(1.0, math.inf)
    scores = torch.cat([log_r_p, log_r_q])
    scale = float(scores.abs().max())
    if not scale:
        return unknown
    columns = torch.stack([torch.ones_like(scores), scores / scale], 1)
    label, weight = _labels(log_r_p, log_r_q)
    line = torch.tensor([0.0, scale], dtype=torch.float64)
    for _ in range(50):
        share = (columns @ line).sigmoid()
        slope = columns.T @ (weight * (share - label))
        curvature = columns.T @ (columns * (weight * share * (1 - share))[:, None])
        # where the labels are separable, or log r has one value, there is no line
        if float(torch.linalg.det(curvature)) < 1e-14:
            return unknown
        step = torch.linalg.solve(curvature, slope)
        line = line - step * (1 / step.abs().max()).clamp(max=1)  # Newton's steps from afar go astray
        if float(step.abs().max()) < 1e-9:
            break
    inverse = torch.linalg.inv(curvature)
    influence = columns * (weight * (share - label))[:, None]
    # numbers of p and q are given, not drawn: only what varies within each counts
    within = [side - side.mean(0) for side in influence.split([len(log_r_p), len(log_r_q)])]
    meat = sum((side.T @ side for side in within), torch.zeros_like(inverse))
    error = (inverse @ meat @ inverse).diagonal().sqrt()
    return Estimate(float(line[0]), float(error[0])), Estimate(float(line[1]) / scale, float(error[1]) / scale)


def _verdict(check: RatioCheck, averaged: float) -> str:
    """``averaged``: the effective number of samples that can verify a mean, under the ratio or the recalibrated one."""
    wrong = _wrong(check)
    if check.log_loss - math.log(2) > SIGNIFICANT * check.log_loss.standard_error + 1e-3:
        return "; ".join([f"off: the log loss {check.log_loss!r} is worse than that of no ratio at all", *wrong])
    if averaged >= ENOUGH and check.effective_overlap >= ENOUGH:
        return f"off: {'; '.join(wrong)}" if wrong else "trusted"
    signs = f"; all the same, there are signs against this one: {'; '.join(wrong)}" if wrong else ""
    return (
        f"uninformative: p and q overlap in too few samples ({check.effective_q:.0f} effective of {check.n_q} "
        f"of q, {check.effective_p:.0f} of {check.n_p} of p); a wrong ratio would pass, too{signs}"
    )


def _wrong(check: RatioCheck) -> list[str]:
    """Every figure that is further from where it should be than chance and a little tolerance explain."""
    wrong = []
    for what, mean, effective, tail in (
        ("the mean of r over q", check.mean_ratio, check.effective_q, check.tail_q),
        ("the mean of 1/r over p", check.mean_inverse, check.effective_p, check.tail_p),
    ):
        # mass that no sample reached, in a heavy tail or where p and q do not meet, leaves the mean small and sure
        # (the tail is infinite in variance from 1/2, and estimated to about 0.05)
        unreached = tail >= 0.4 or check.effective_overlap < ENOUGH
        excess = mean - 1 if unreached else abs(mean - 1)
        if effective >= ENOUGH and excess > max(SIGNIFICANT * mean.standard_error, 0.05):
            wrong.append(f"{what} is {mean!r} and not 1")
    excess = check.calibration_error - check.calibration_noise
    if excess > max(SIGNIFICANT * check.calibration_error.standard_error, 0.01):
        wrong.append(
            f"the calibration error is {check.calibration_error:.3f}, noise gives {check.calibration_noise:.3f}"
        )
    for what, line, right in (("intercept", check.intercept, 0.0), ("slope", check.slope, 1.0)):
        if abs(line - right) > max(SIGNIFICANT * line.standard_error, 0.05):
            wrong.append(f"the calibration {what} is {line!r} and not {right:.0f}")
    if check.effective_overlap >= ENOUGH:
        if check.weighted_auc - 0.5 > max(SIGNIFICANT * check.weighted_auc.standard_error, 0.01):
            wrong.append(f"after weighting p and q are still told apart with AUC {check.weighted_auc!r}")
        elif check.balance_p_value < RARE:
            wrong.append(f"after weighting p and q still differ (p-value {check.balance_p_value:.2g})")
    return wrong


def _notes(check: RatioCheck, separable: bool) -> tuple[str, ...]:
    notes = []
    few = min(check.n_p, check.n_q)
    if few < 2 * ENOUGH:
        notes.append(f"{few} held-out samples of a side are too few to trust any ratio: give check(p, q) more")
    elif separable or check.effective_overlap < ENOUGH:
        notes.append(
            "p and q are all but separable, and a classifier that tells them apart need not know by how much: try "
            'a method that goes from q to p in steps, such as "telescoping", and compare methods with one another'
        )
    return tuple(notes)
