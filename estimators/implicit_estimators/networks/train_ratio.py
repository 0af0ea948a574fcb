r"""How plain ratio networks are trained: candidates from the batch itself, all members at once, AdamW on their rows.

On the CPU the gradients are written out by hand (:mod:`~implicit_estimators.networks.small_engine`); elsewhere autograd
finds them. Both take the same steps from the same seed, up to rounding. Members know nothing of one another: each has
its own initial weights, order of rows, clipping and early stopping, so that it comes out as if it were trained alone.

References:
    | Decoupled weight decay regularization (Loshchilov & Hutter, 2019)
    | https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from implicit_estimators.networks.candidate_losses import CandidateLoss
from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_estimators.networks.small_engine import SmallEngine
from implicit_estimators.networks.train import History, Progress
from implicit_estimators.seeds import Seed, resolve_seed, stream

HELD_OUT_CANDIDATES = 2**15
"""Most candidates of a member whose values are held at once, where the loss of held-out rows is taken."""


@dataclass(frozen=True)
class RatioTraining:
    r"""Settings of a training.

    Args:
        epochs: Largest number of passes.
        batch_size: Rows of a batch.
        learning_rate: Step size of AdamW at the start; it falls to 0 over ``epochs`` by a cosine.
        weight_decay: Decay of AdamW.
        patience: A member stops after so many epochs without a better held-out loss; None never stops.
        clip: Largest norm of a member's gradient.
        by_hand: Whether gradients are written by hand; None where the network lies on the CPU.

    Raises:
        ValueError: If a setting is out of its range.
    """

    epochs: int = 200
    batch_size: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = 20
    clip: float = 5.0
    by_hand: bool | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs, batch_size: expected a positive int and one of at least 2; got {self.epochs}, "
                f"{self.batch_size}"
            )
        if not self.learning_rate > 0 or not self.weight_decay >= 0 or not self.clip > 0:
            raise ValueError(
                "learning_rate, weight_decay, clip: expected positive numbers, and a decay of at least 0; got "
                f"{self.learning_rate}, {self.weight_decay}, {self.clip}"
            )


def train_ratio(
    network: RatioNetwork,
    loss: CandidateLoss,
    theta: Tensor,
    s: Tensor,
    learn: Tensor,
    held_out: Tensor,
    training: RatioTraining | None = None,
    *,
    seed: Seed = None,
    progress: Progress | None = None,
) -> list[History]:
    r"""Minimise ``loss`` over the candidates of each batch, and leave the weights that are best on held-out rows.

    Rows of a batch are shuffled, so that the theta of the rows before and after a row are draws of its marginal; which
    of them compete is drawn anew for each batch, and is the same for all rows of it and all members.

    Args:
        network: The networks, on the device of the data.
        loss: The loss of candidates.
        theta: Parameters with shape (n, d), or (K, n, d) where each member sees others.
        s: Summaries with shape (n, k).
        learn: Indices of the rows to learn from, with shape (n',), at least 2.
        held_out: Indices of those that choose the best weights, at least 2.
        training: The settings.
        seed: Seed of the order of rows, which member m shuffles with a stream (seed, m), and of the candidates.
        progress: Called after each epoch with the mean losses of the members that are still learning.

    Returns:
        The history of each member.

    Raises:
        ValueError: If there are fewer than two rows to learn from or held out, or the data have other shapes.
    """
    training = training or RatioTraining()
    if min(len(learn), len(held_out)) < 2:
        raise ValueError(
            f"learn, held_out: expected at least 2 rows of each; got {len(learn)} and {len(held_out)} rows"
        )
    if theta.shape[-1] != network.parameters_width or s.shape[-1] != network.summaries_width:
        raise ValueError(
            f"theta, s: expected {network.parameters_width} and {network.summaries_width} columns; got "
            f"{theta.shape[-1]} and {s.shape[-1]}"
        )
    return _Training(network, loss, theta, s, learn, held_out, training, resolve_seed(seed)).run(progress)


class _Training:
    """A training on its way."""

    def __init__(
        self,
        network: RatioNetwork,
        loss: CandidateLoss,
        theta: Tensor,
        s: Tensor,
        learn: Tensor,
        held_out: Tensor,
        training: RatioTraining,
        root: int,
    ) -> None:
        self.network, self.loss, self.training, self.root = network, loss, training, root
        self.members, device = network.members, network.weights.device
        self.theta = (theta if theta.ndim == 3 else theta[None]).expand(self.members, -1, -1)
        self.s, self.learn, self.held_out = s, learn, held_out
        self.shufflers = [stream(root, "batches", device, network.first + member) for member in range(self.members)]
        # offsets are python ints, which slices are made of: they never come from the device
        self.rivals = stream(root, "draws")
        self.active = list(range(self.members))
        by_hand = training.by_hand if training.by_hand is not None else device.type == "cpu"
        self.gradients: type[_ByHand] | type[_Autograd] = _ByHand if by_hand else _Autograd
        self.stepper: _Stepper = self.gradients(network, loss)

    def run(self, progress: Progress | None) -> list[History]:
        network, settings = self.network, self.training
        histories, lowest = [History() for _ in range(self.members)], [math.inf] * self.members
        best = network.weights.detach().clone()
        optimiser = _AdamW(network.weights.detach(), settings)
        steps = max(1, min(math.ceil(len(self.learn) / settings.batch_size), len(self.learn) // 2))
        try:
            for epoch in range(settings.epochs):
                totals = torch.zeros(len(self.active), device=best.device)
                for step, (theta, s) in enumerate(self._batches(steps)):
                    done = (epoch * steps + step) / (settings.epochs * steps)
                    rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                    values, gradient = self.stepper.step(theta, s, self._offsets(self.rivals, theta.shape[1]))
                    totals += values
                    optimiser.step(network.weights.detach(), gradient, rate)
                judged, training = self._judge().tolist(), (totals / steps).tolist()
                going = []
                for place, member in enumerate(self.active):
                    history = histories[member]
                    history.training.append(training[place])
                    history.validation.append(judged[place])
                    if judged[place] < lowest[member]:
                        lowest[member], history.best_epoch = judged[place], epoch + 1
                        best[member] = network.weights.detach()[place]
                    if not math.isfinite(training[place] + judged[place]):
                        history.stopped = "non-finite"
                    elif settings.patience is not None and epoch + 1 - history.best_epoch >= settings.patience:
                        history.stopped = "patience"
                    else:
                        going.append(place)
                if progress is not None:
                    count = len(self.active)
                    progress(epoch + 1, {"loss": sum(training) / count, "validation": sum(judged) / count})
                if not going:
                    break
                if len(going) < len(self.active):
                    self._keep(going)
                    optimiser.keep(going)
        finally:  # on an interrupt too, what was best so far is left in the network
            network.weights = nn.Parameter(best)
            network.eval()
        return histories

    def _keep(self, going: list[int]) -> None:
        """Those that have stopped leave the program, so that the others go on faster."""
        self.active = [self.active[place] for place in going]
        self.network.weights = nn.Parameter(self.network.weights.detach()[going])
        self.stepper = self.gradients(self.network, self.loss)

    def _batches(self, steps: int) -> list[tuple[Tensor, Tensor]]:
        """The epoch's batches: each member's rows in an order of its own, cut into ``steps`` nearly equal parts."""
        device, n = self.learn.device, len(self.learn)
        orders = [torch.randperm(n, generator=self.shufflers[member], device=device) for member in self.active]
        rows = [self.learn[order] for order in orders]
        theta = torch.stack([self.theta[member][mine] for member, mine in zip(self.active, rows, strict=True)])
        s = torch.stack([self.s[mine] for mine in rows])
        return list(zip(theta.tensor_split(steps, 1), s.tensor_split(steps, 1), strict=True))

    def _offsets(self, generator: torch.Generator, batch: int) -> list[int]:
        """0, and distinct offsets: nobody competes with itself or twice."""
        count = min(self.loss.candidates, batch) - 1
        if count == 1:
            return [0, int(torch.randint(1, batch, (), generator=generator))]
        return [0, *(torch.randperm(batch - 1, generator=generator)[:count] + 1).tolist()]

    def _judge(self) -> Tensor:
        """The loss of each active member on the held-out rows, with the same candidates every time."""
        n = len(self.held_out)
        parts = min(max(1, n * self.loss.candidates // HELD_OUT_CANDIDATES), n // 2)
        generator = stream(self.root, "validate")
        total = torch.zeros(len(self.active), device=self.s.device)
        for rows in self.held_out.tensor_split(parts):
            s = self.s[rows].expand(len(self.active), -1, -1)
            h = self.stepper.values(self.theta[self.active][:, rows], s, self._offsets(generator, len(rows)))
            total += self.loss.value(h) * (len(rows) / n)
        return total


class _Stepper(Protocol):
    """Losses and gradients of a batch, however they are found."""

    def step(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]: ...

    def values(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> Tensor: ...


class _ByHand:
    """By the engine, with one set of buffers for each size of batch."""

    def __init__(self, network: RatioNetwork, loss: CandidateLoss) -> None:
        self.network, self.loss = network, loss
        self.engines: dict[tuple[int, int], SmallEngine] = {}

    def _engine(self, batch: int, candidates: int) -> SmallEngine:
        if (batch, candidates) not in self.engines:
            self.engines[batch, candidates] = SmallEngine(self.network, batch, candidates)
        return self.engines[batch, candidates]

    @torch.no_grad()
    def step(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
        engine = self._engine(theta.shape[1], len(offsets))
        h = engine.forward(theta, s, offsets)
        return self.loss.value(h), engine.backward(theta, s, offsets, self.loss.gradient(h))

    def values(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> Tensor:
        return self._engine(theta.shape[1], len(offsets)).forward(theta, s, offsets)


class _Autograd:
    """By autograd, on any device."""

    def __init__(self, network: RatioNetwork, loss: CandidateLoss) -> None:
        self.network, self.loss = network, loss

    def step(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            values = self.loss.value(self.network.candidates(theta, s, offsets))
            (gradient,) = torch.autograd.grad(values.sum(), [self.network.weights])
        return values.detach(), gradient

    @torch.no_grad()
    def values(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> Tensor:
        return self.network.candidates(theta, s, offsets)


class _AdamW:
    """AdamW on rows of weights, each clipped by itself, in place."""

    def __init__(self, weights: Tensor, settings: RatioTraining) -> None:
        self.settings = settings
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.scale = torch.empty_like(weights)
        self.steps = 0

    def step(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        settings = self.settings
        self.steps += 1
        # in float64: in float32 the squares of gradients above 1e19 are infinite, and the step would be 0
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True, dtype=torch.float64)
        gradient.mul_((settings.clip / norm.clamp_(min=settings.clip)).to(gradient.dtype))
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        torch.sqrt(self.square, out=self.scale)
        self.scale.div_(math.sqrt(1 - 0.999**self.steps)).add_(1e-8)
        if settings.weight_decay:
            weights.mul_(1 - rate * settings.weight_decay)
        weights.addcdiv_(self.mean, self.scale, value=-rate / (1 - 0.9**self.steps))

    def keep(self, places: list[int]) -> None:
        self.mean, self.square = self.mean[places], self.square[places]
        self.scale = torch.empty_like(self.mean)
