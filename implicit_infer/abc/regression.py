r"""The conditional mean of parameters given summaries, by a straight line and by small networks on what it leaves.

.. math:: \hat m(s) = a + B^\top z(s) + \sigma \, \frac1K \sum_k f_k(z(s)),

with z the summaries in robust standard deviations (beyond five, on a logarithmic scale), the line by weighted ridge
regression, and each perceptron :math:`f_k` by weighted least squares on the line's residuals, stopped by the rows that
it holds out. A network that predicts those worse than nothing does is left out, so the whole is not worse than the line
where there is little to learn from. Regression adjustment and learned summaries both rest on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implicit_estimators.networks.batched import BatchedMLP, folds_of_members
from implicit_infer.abc.distances import inverse, robust_scale
from implicit_simulators import Stream

FAR = 5.0
"""Robust standard deviations beyond which a summary counts by the logarithm of its size."""


@dataclass(frozen=True)
class Training:
    """How the networks are trained.

    Args:
        hidden: Widths of the hidden layers; () is no network at all: a straight line.
        members: Networks, each with its own initial weights and held-out rows; their mean is taken.
        epochs: The most passes over the rows.
        steps: Steps of each pass; a step takes so many rows that all are seen, but at least 32.
        learning_rate: Of AdamW at the start; it falls to 0 by a cosine.
        weight_decay: Of AdamW.
        patience: Passes without a better held-out loss of any network after which training stops.

    Raises:
        ValueError: If a setting is out of its range.
    """

    hidden: tuple[int, ...] = (64, 64)
    members: int = 3
    epochs: int = 30
    steps: int = 20
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    patience: int = 8

    def __post_init__(self) -> None:
        for name in ("members", "epochs", "steps", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive int; got {getattr(self, name)}")
        if not all(width >= 1 for width in self.hidden):
            raise ValueError(f"hidden: expected positive widths; got {self.hidden}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                "learning_rate, weight_decay: expected a positive and a non-negative number; got "
                f"{self.learning_rate}, {self.weight_decay}"
            )


class Regression(nn.Module):
    r"""A fitted conditional mean, from inputs (n, f) to (n, d).

    Args:
        inputs: Rows to learn from, with shape (n, f), finite.
        targets: What is predicted, with shape (n, d).
        weights: Weights of the rows, non-negative, with shape (n,); None for equal ones.
        powers: Powers 1, 2, ... of each input that the line has.
        ridge: Penalty of the line, relative to the weights' sum.
        training: How networks are trained; None for none.
        seed: Root of the random numbers.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        *,
        powers: int = 1,
        ridge: float = 1e-6,
        training: Training | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.powers = powers
        self.register_buffer("centre", inputs.median(0).values)
        self.register_buffer("factor", inverse(robust_scale(inputs)))
        share = torch.full_like(targets[:, 0], 1 / len(targets)) if weights is None else weights / weights.sum()
        share = share.double()
        slope, intercept = weighted_ridge(self._terms(inputs), targets.double(), share, ridge)
        self.register_buffer("slope", slope)
        self.register_buffer("intercept", intercept)
        residual = targets.double() - self._line(inputs)
        self.register_buffer("spread", (share @ residual.square()).sqrt())
        self.networks: BatchedMLP | None = None
        if training is not None and training.hidden:
            rows = (share > 0).nonzero()[:, 0]
            if len(rows) >= 10:
                scaled = (residual * inverse(self._buffer("spread"))).float()
                self._train(self._standard(inputs)[rows].float(), scaled[rows], share[rows].float(), training, seed)

    def forward(self, inputs: Tensor) -> Tensor:
        """The prediction, with shape (n, d) and dtype float64."""
        mean = self._line(inputs)
        if self.networks is None:
            return mean
        with torch.no_grad():
            outputs = self.networks(self._standard(inputs).float())
        return mean + self._buffer("spread") * (self._buffer("useful")[:, None, None] * outputs).mean(0).double()

    def _buffer(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _standard(self, inputs: Tensor) -> Tensor:
        return squashed((inputs - self._buffer("centre")) * self._buffer("factor"))

    def _terms(self, inputs: Tensor) -> Tensor:
        z = self._standard(inputs).double()
        return torch.cat([z**power for power in range(1, self.powers + 1)], dim=1)

    def _line(self, inputs: Tensor) -> Tensor:
        return self._buffer("intercept") + self._terms(inputs) @ self._buffer("slope")

    def _train(self, z: Tensor, targets: Tensor, weights: Tensor, training: Training, seed: int) -> None:
        members = training.members
        key = Stream.of(seed, 0, "train").key
        networks = BatchedMLP(members, z.shape[1], targets.shape[1], training.hidden, seed=key, device=z.device)
        generator = torch.Generator(z.device).manual_seed(key)
        _, learn, held_out = folds_of_members(len(z), min(5, len(z)), members, generator)
        parameters = list(networks.parameters())
        optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
        steps = min(training.steps, math.ceil(learn.shape[1] / 32))
        # zero is what a network of no use would predict
        lowest = _losses(torch.zeros_like(targets)[held_out], targets[held_out], weights[held_out])
        best = [parameter.detach().clone() for parameter in parameters]
        useful = torch.zeros(members, device=z.device)
        stalled = 0
        for epoch in range(training.epochs):
            order = torch.rand(learn.shape, generator=generator, device=z.device).argsort(1)
            for step, rows in enumerate(learn.gather(1, order).tensor_split(steps, 1)):
                done = (epoch * steps + step) / (training.epochs * steps)
                optimiser.param_groups[0]["lr"] = training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                _losses(networks(z[rows]), targets[rows], weights[rows]).sum().backward()
                nn.utils.clip_grad_norm_(parameters, 5.0 * members)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            with torch.no_grad():
                judged = _losses(networks(z[held_out]), targets[held_out], weights[held_out])
            better = judged < lowest
            lowest = torch.where(better, judged, lowest)
            useful = torch.where(better, torch.ones_like(useful), useful)
            for kept, parameter in zip(best, parameters, strict=True):
                kept.copy_(torch.where(better.reshape(-1, *[1] * (kept.ndim - 1)), parameter.detach(), kept))
            stalled = 0 if bool(better.any()) else stalled + 1
            if stalled >= training.patience:
                break
        with torch.no_grad():
            for parameter, kept in zip(parameters, best, strict=True):
                parameter.copy_(kept)
        self.networks = networks.requires_grad_(False).eval()
        self.register_buffer("useful", useful)


def squashed(z: Tensor) -> Tensor:
    """Values beyond ``FAR`` on a logarithmic scale, with one slope at the seam."""
    size = z.abs()
    return torch.where(size > FAR, z.sign() * (FAR + torch.log1p((size - FAR).clamp_min(0))), z)


def weighted_ridge(terms: Tensor, targets: Tensor, share: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    r"""Slope (f, d) and intercept (d,) of a weighted ridge regression; all in double precision.

    .. math:: \min_{a, B} \sum_i w_i \|y_i - a - B^\top z_i\|^2 + \lambda \sum_j v_j \|B_j\|^2,

    with weights that sum to one and :math:`v_j` the variance of the j-th term, so that units do not matter. Terms may
    be collinear: the solution is by the pseudo-inverse.
    """
    centre, level = share @ terms, share @ targets
    centred = terms - centre
    spread = inverse((share @ centred.square()).sqrt())
    scaled = centred * spread
    gram = (scaled * share[:, None]).T @ scaled
    moment = (scaled * share[:, None]).T @ (targets - level)
    gram = gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    slope = spread[:, None] * (torch.linalg.pinv(gram, rtol=1e-12, hermitian=True) @ moment)
    return slope, level - centre @ slope


def _losses(predicted: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean squared error of each member, with shape (K,)."""
    errors = (predicted - targets).square().mean(2)
    return (weights * errors).sum(1) / weights.sum(1).clamp_min(1e-30)
