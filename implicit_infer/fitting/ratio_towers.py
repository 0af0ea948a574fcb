r"""A classifier of parameters and draws whose log-ratio is a product of what it says of each.

.. math:: h(v, x) = f(x) \cdot g(v) + a(v), \qquad
    \log r(x \mid \theta) = c\, f(x) \cdot g(v) - \log Z(v), \qquad
    Z(v) = \mathbb{E}_{x \sim p_{\text{ref}}} \left[ e^{c f(x) \cdot g(v)} \right]

f are learned statistics of a draw, g the learned natural parameters. Every law of an exponential family has a ratio of
this form, exactly, with as many columns as it has sufficient statistics; with many columns any ratio comes near to it.
What it buys: the log-likelihood of m draws needs :math:`\sum_i f(x_i)` alone, whatever m is; and Z is a mean over the
reference draws, so that for every theta the ratio has the mean 1 under the reference that a ratio must have.

References:
    | Approximating Likelihood Ratios with Calibrated Discriminative Classifiers (Cranmer, Pavez & Louppe, 2015)
    | https://arxiv.org/abs/1506.02169
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from implicit_estimators.networks.batched import BatchedMLP, folds_of_members, train_members
from implicit_estimators.seeds import stream

PAIRS = 128
"""Simulations of a batch: each of their parameters is paired with each of their draws."""

JUDGES = 16
"""Batches of held-out simulations that are looked at, at most."""


class RatioTowers(nn.Module):
    """K classifiers of that form, each with its own weights.

    Args:
        members: K.
        parameters: d, the width of v.
        width: Width of a draw.
        features: Columns of f and g that are learned; the draw itself, with a linear g, is there besides.
        hidden: Widths of the hidden layers of f; g has the same.
        seed: Seed of the initial weights.
    """

    def __init__(
        self, members: int, parameters: int, width: int, features: int, hidden: tuple[int, ...], seed: int
    ) -> None:
        super().__init__()
        self.draw = BatchedMLP(members, width, features, hidden, seed=seed)
        self.place = BatchedMLP(members, parameters, features + 1, hidden, seed=seed + 1)
        self.linear = BatchedMLP(members, parameters, width, (), seed=seed + 2)
        with torch.no_grad():  # learning starts from the ratio 1
            for network in (self.place, self.linear):
                network.weights[-1].zero_()
                network.biases[-1].zero_()

    def statistics(self, x: Tensor) -> Tensor:
        """F with shape (K, n, features + width) of draws with shape (K, n, width) or (n, width)."""
        found = self.draw(x)
        return torch.cat((found, x.expand(len(found), *x.shape[-2:])), 2)

    def natural(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """G with shape (K, n, features + width), and a with shape (K, n), of v with shape (K, n, d) or (n, d)."""
        found = self.place(v)
        return torch.cat((found[..., :-1], self.linear(v)), 2), found[..., -1]

    def forward(self, v: Tensor, x: Tensor) -> Tensor:
        """H for every v (rows) with every x (columns), with shape (K, n, m)."""
        g, a = self.natural(v)
        return torch.baddbmm(a[..., None], g, self.statistics(x).transpose(1, 2))


def pair_loss(h: Tensor) -> Tensor:
    """The log score of all pairs: the diagonal is of the joint law, the rest of the product of its marginals.

    Args:
        h: With shape (..., n, n).

    Returns:
        The loss with shape (...).
    """
    n = h.shape[-1]
    joint = h.diagonal(dim1=-2, dim2=-1)
    total = softplus(h).sum((-2, -1)) - softplus(joint).sum(-1)
    return softplus(-joint).mean(-1) + total / (n * (n - 1))


class LearnedRatio:
    r"""Classifiers trained on simulations, each without one fold of them, calibrated, and averaged.

    Two calibrations follow the training. The slope c is fitted to the log score of each member's own held-out fold: a
    classifier that is too sure of itself has c below 1. Then Z is taken over all reference draws.

    Args:
        towers: The networks, trained.
        reference: Draws of the reference as the networks see them, with shape (n, width).
        slope: c.
        owned: Which reference draws each member learned from, with shape (K, n).
    """

    def __init__(self, towers: RatioTowers, reference: Tensor, slope: float, owned: Tensor) -> None:
        self.towers = towers.double().requires_grad_(False)
        self.slope = slope
        with torch.no_grad():
            self.reference = slope * self.towers.statistics(reference.double())
        # the members differ by what they saw, in what they are normalised over as in what they learned
        self.log_share = torch.where(owned, 0.0, -torch.inf).to(self.reference) - owned.sum(1, keepdim=True).log()

    @classmethod
    def learn(
        cls,
        v: Tensor,
        x: Tensor,
        *,
        members: int,
        features: int,
        hidden: tuple[int, ...],
        epochs: int,
        steps: int,
        learning_rate: float,
        seed: int,
        device: str,
        progress: Callable[[int, dict[str, float]], None] | None = None,
    ) -> LearnedRatio:
        """Train on pairs.

        Args:
            v: Parameters in units of their spread, with shape (n, d).
            x: Draws in units of theirs, with shape (n, width): row i was drawn at row i of ``v``.
            members: Classifiers, at least 2; each leaves out a fold.
            features: See :class:`RatioTowers`.
            hidden: See :class:`RatioTowers`.
            epochs: Most epochs.
            steps: Most steps, where that is fewer epochs.
            learning_rate: AdamW's step size at the start.
            seed: Seed of weights, folds and batches.
            device: Where to train.
            progress: Called after each epoch.

        Returns:
            The ratio, on the CPU and in double precision.
        """
        d, n = v.shape[1], len(v)
        towers = RatioTowers(members, d, x.shape[1], features, hidden, seed).to(device)
        # the same start for all: they are to differ by their simulations alone
        for parameter in towers.parameters():
            parameter.data.copy_(parameter.data[:1].expand_as(parameter.data).clone())
        fold, learn, aside = folds_of_members(n, members, members, stream(seed, "split"))
        rows = torch.cat((v, x), 1).float().to(device)
        epochs = max(1, min(epochs, steps * PAIRS // learn.shape[1]))

        def losses(batch: Tensor, _: Tensor) -> Tensor:
            return pair_loss(towers(batch[..., :d], batch[..., d:]))

        def judged(batch: Tensor, _: Tensor) -> Tensor:
            return torch.stack([losses(part, part) for part in _parts(batch)]).mean(0)

        train_members(
            towers,
            losses,
            rows,
            rows[:, :1],
            (learn.to(device), learn.to(device)),
            (aside.to(device), aside.to(device)),
            validation_losses=judged,
            epochs=epochs,
            batch_size=2 * PAIRS,
            learning_rate=learning_rate,
            weight_decay=1e-4,
            patience=max(5, epochs // 4),
            seed=seed,
            progress=progress,
        )
        towers = towers.cpu()
        own = fold[None] != torch.arange(members)[:, None]
        slope = _slope(towers, rows.cpu()[aside], d)
        return cls(towers, x.cpu(), slope, own)

    def member_log_ratios(self, v: Tensor, total: Tensor, count: int, thin: int = 1) -> Tensor:
        """Each member's log-ratio of ``count`` draws together.

        Args:
            v: Parameters with shape (n, d), float64.
            total: What :meth:`total` gave of the draws.
            count: How many draws.
            thin: Only every so many reference draws are averaged over.

        Returns:
            Log-ratios with shape (K, n).
        """
        g, _ = self.towers.natural(v)
        tilt = torch.baddbmm(self.log_share[:, None, ::thin], g, self.reference[:, ::thin].transpose(1, 2))
        return (g @ total[..., None])[..., 0] - count * (tilt.logsumexp(2) + math.log(thin))

    @torch.no_grad()
    def total(self, x: Tensor) -> Tensor:
        """The sum of the statistics of draws with shape (n, width), times the slope; with shape (K, features)."""
        return self.slope * self.towers.statistics(x.double()).sum(1)


def _slope(towers: RatioTowers, rows: Tensor, d: int) -> float:
    """The factor of the members' outputs with the least log score on what they did not learn from; (K, n, d + w)."""
    with torch.no_grad():
        outputs = [towers(part[..., :d], part[..., d:]) for part in _parts(rows)]

    def score(slope: float) -> float:
        return sum(float(pair_loss(slope * h).mean()) for h in outputs)

    low, high = 0.0, 2.0
    for _ in range(16):  # the score is convex in the factor
        first, second = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, second) if score(first) < score(second) else (first, high)
    return max(0.5 * (low + high), 1e-3)


def _parts(rows: Tensor) -> list[Tensor]:
    """Some of the rows of each member, (K, n, width), in batches that are not much shorter than one of training."""
    parts = rows[:, : JUDGES * PAIRS].split(PAIRS, 1)
    return [part for part in parts if part.shape[1] > PAIRS // 2] or [rows]
