"""The training loop that every estimator shares: shuffled slices of tensors, early stopping, and the best weights back.

No loader, no host round-trip inside an epoch: batches are slices of one shuffled copy on the device, and losses are
summed there and read once. Rows that do not fit in memory come from a source (``sources.py``).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import torch
from torch import Tensor, nn

from implicit_estimators.networks.sources import Source
from implicit_estimators.seeds import Seed, resolve_seed, stream

Group = Sequence[Tensor]
"""Tensors whose rows belong together (theta and x of one simulation): they are shuffled and cut alike."""

Progress = Callable[[int, dict[str, float]], None]
"""``progress(epoch, figures)``, called after each epoch with its number from 1 and what there is to show."""

BatchLoss = Callable[..., Tensor]
"""``loss(*batch, generator=generator)``: the tensors of all groups in order, and a generator for whatever it draws."""


@dataclass
class History:
    """How a training went.

    Attributes:
        training: Mean loss of each epoch.
        validation: Validation loss after each epoch; empty if nothing was held out.
        best_epoch: The epoch (from 1) whose weights were kept.
        stopped: Why it ended: all epochs done, no better for ``patience`` epochs, or a loss that was not finite.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = 0
    stopped: Literal["epochs", "patience", "non-finite"] = "epochs"

    @property
    def epochs(self) -> int:
        """Epochs that were run."""
        return len(self.training)

    @property
    def best(self) -> float:
        """The loss that chose ``best_epoch``: validation where there is one, else training; NaN if none was finite."""
        losses = self.validation or self.training
        return losses[self.best_epoch - 1] if self.best_epoch else math.nan


def train(
    module: nn.Module,
    loss: BatchLoss,
    data: Sequence[Group] | Source,
    *,
    validation: Sequence[Group] | Source | float = 0.1,
    validation_loss: BatchLoss | None = None,
    epochs: int = 100,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    schedule: Literal["cosine", "constant"] = "cosine",
    patience: int | None = 20,
    clip: float | None = 5.0,
    average: float = 0.0,
    seed: Seed = None,
    progress: Progress | None = None,
) -> History:
    r"""Minimise ``loss`` over the parameters of ``module`` with AdamW, and leave the best weights in it.

    ``data`` is a list of groups. Rows of one group stay together; groups are independent and may differ in length:
    each is shuffled anew every epoch and cut into the same number of batches, so every row is seen once. A ratio
    between samples p and q trains on ``[(p,), (q,)]``, a conditional model on ``[(theta, x)]``.

    Args:
        module: The network; it stays on its device, and is left in evaluation mode.
        loss: ``loss(*tensors, generator=generator)`` of one batch, a scalar.
        data: Groups of tensors on the module's device, or a source of one group's batches.
        validation: Held-out groups of the same structure, or the share of each group to hold out; 0 for none.
        validation_loss: The loss that chooses the best weights, where it is another than the one that trains.
        epochs: Largest number of passes.
        batch_size: Rows in a batch, over all groups together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        schedule: "cosine" lowers the step size to 0 over ``epochs``; "constant" does not.
        patience: Stop after so many epochs without a better validation (else training) loss; None never stops.
        clip: Largest norm of the gradient, or None. The norm is taken in double precision, so that a gradient of any
            finite size still gives a step in its direction.
        average: Decay of an exponential moving average of the weights, per step; what is validated and kept is then
            the average. 0 keeps the weights themselves.
        seed: Seed of the split, the order of the batches and what the loss draws. Validation draws the same each time.
        progress: Called after each epoch with the losses.

    Returns:
        The history. If a loss was not finite, training stopped there, and the weights are the best before.

    Raises:
        ValueError: If the groups are empty or ragged, or a setting is out of its range.
    """
    _check(data, epochs, batch_size, learning_rate, average)
    root = resolve_seed(seed)
    held_out: Sequence[Group] | Source
    if isinstance(validation, (int, float)):
        data, held_out = split(data, float(validation), root)
    else:
        held_out = validation
    device = _device(data)
    shuffler, drawer = stream(root, "batches", device), stream(root, "draws", device)
    steps = _count(data, batch_size)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=_can_fuse(parameters))
    candidate = _Average(module, average) if average else None
    history, best, state = History(), math.inf, _snapshot(module)
    try:
        for epoch in range(epochs):
            module.train()
            total = torch.zeros((), device=device)
            for step, batch in enumerate(_batches(data, steps, shuffler)):
                if schedule == "cosine":
                    done = (epoch * steps + step) / (epochs * steps)
                    optimiser.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                value = loss(*batch, generator=drawer)
                value.backward()
                if clip is not None:
                    clip_gradients(parameters, clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                total += value.detach()
                if candidate is not None:
                    candidate.update()
            history.training.append(float(total) / steps)
            with candidate.in_place() if candidate is not None else contextlib.nullcontext():
                if held_out:
                    history.validation.append(evaluate(module, validation_loss or loss, held_out, seed=root))
                current = history.validation[-1] if held_out else history.training[-1]
                if current < best:
                    best, state, history.best_epoch = current, _snapshot(module), epoch + 1
            if progress is not None:
                figures = {"loss": history.training[-1]}
                progress(epoch + 1, figures | ({"validation": current} if held_out else {}))
            if not math.isfinite(history.training[-1] + current):
                history.stopped = "non-finite"
                break
            if patience is not None and epoch + 1 - history.best_epoch >= patience:
                history.stopped = "patience"
                break
    finally:  # on an interrupt too, what was best so far is left in the module
        module.load_state_dict(state)
        module.eval()
    return history


def evaluate(
    module: nn.Module, loss: BatchLoss, data: Sequence[Group] | Source, *, seed: int = 0, rows: int = 8192
) -> float:
    """Mean of ``loss`` over ``data`` in evaluation mode and without gradients, ``rows`` at a time."""
    module.eval()
    device = _device(data)
    chunks = _count(data, rows)
    drawer = stream(seed, "validate", device)
    with torch.no_grad():
        total = torch.zeros((), device=device)
        for batch in _batches(data, chunks, None):
            total += loss(*batch, generator=drawer)
    return float(total) / chunks


@overload
def split(data: Sequence[Group], share: float, seed: Seed = None) -> tuple[list[list[Tensor]], list[list[Tensor]]]: ...


@overload
def split(
    data: Sequence[Group] | Source, share: float, seed: Seed = None
) -> tuple[Sequence[Group] | Source, Sequence[Group] | Source]: ...


def split(
    data: Sequence[Group] | Source, share: float, seed: Seed = None
) -> tuple[Sequence[Group] | Source, Sequence[Group] | Source]:
    """Set aside a random ``share`` of the rows of each group (at least one row where the share is positive).

    Args:
        data: Groups of tensors, or a source.
        share: Share to set aside, in [0, 1).
        seed: An int, a ``torch.Generator`` or None.

    Returns:
        The groups that remain, and the groups set aside (an empty list if ``share`` is 0).

    Raises:
        ValueError: If ``share`` is out of range, or a group is too small to be split.
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation: expected a share in [0, 1); got {share}")
    if isinstance(data, Source):
        return data.split(share, resolve_seed(seed)) if share else (data, [])
    if share == 0:
        return [list(group) for group in data], []
    generator = stream(resolve_seed(seed), "split")
    remaining, aside = [], []
    for group in data:
        n = len(group[0])
        if n < 2:
            raise ValueError(f"data: expected at least 2 rows to hold out a share of {share}; got {n}")
        order = torch.randperm(n, generator=generator).to(group[0].device)
        first = min(n - 1, max(1, round(share * n)))
        aside.append([tensor[order[:first]] for tensor in group])
        remaining.append([tensor[order[first:]] for tensor in group])
    return remaining, aside


def clip_gradients(parameters: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients down to the norm ``largest`` where theirs is greater, without a host round-trip.

    The norm is summed in float64: in float32 the squares of gradients above 1e19 are infinite, and every such step
    would be multiplied by 0.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    factor = (largest / torch.linalg.vector_norm(torch.stack(norms)).clamp(min=largest)).to(gradients[0].dtype)
    for gradient in gradients:
        gradient.mul_(factor)


class _Average:
    """An exponential moving average of a module's parameters, which can stand in for them for a while."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = list(module.parameters())
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))  # the first steps are not worth remembering
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self.parameters):
            parameter.data, self.averages[i] = self.averages[i], parameter.data


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _device(data: Sequence[Group] | Source) -> torch.device:
    return data.device if isinstance(data, Source) else data[0][0].device


def _batches(data: Sequence[Group] | Source, steps: int, shuffler: torch.Generator | None) -> Iterator[list[Tensor]]:
    """Cut every group into ``steps`` nearly equal parts, after a shuffle if there is a generator."""
    if isinstance(data, Source):
        yield from data.batches(steps, shuffler)
        return
    parts = []
    for group in data:
        order = None if shuffler is None else torch.randperm(len(group[0]), generator=shuffler, device=shuffler.device)
        parts += [(tensor if order is None else tensor[order]).tensor_split(steps) for tensor in group]
    for batch in zip(*parts, strict=True):
        yield list(batch)


def _count(data: Sequence[Group] | Source, batch_size: int) -> int:
    """Batches of an epoch: as many as ``batch_size`` asks for, and few enough that each has a row of every group."""
    lengths = [len(data)] if isinstance(data, Source) else [len(group[0]) for group in data]
    return (
        min(math.ceil(sum(lengths) / batch_size), *lengths) if len(lengths) > 1 else math.ceil(lengths[0] / batch_size)
    )


def _can_fuse(parameters: Sequence[Tensor]) -> bool:
    return all(parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") for parameter in parameters)


def _check(data: Sequence[Group] | Source, epochs: int, batch_size: int, learning_rate: float, average: float) -> None:
    if isinstance(data, Source):
        if not len(data):
            raise ValueError("data: expected at least one row; the source has none")
    elif not data or not all(len(group) for group in data):
        raise ValueError("data: expected at least one group of at least one tensor")
    for group in () if isinstance(data, Source) else data:
        lengths = [len(tensor) for tensor in group]
        if min(lengths) != max(lengths) or not lengths[0]:
            raise ValueError(f"data: expected the tensors of a group to have one positive length; got {lengths}")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs, batch_size: expected positive ints; got {epochs}, {batch_size}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate: expected a positive number; got {learning_rate}")
    if not 0 <= average < 1:
        raise ValueError(f"average: expected a decay in [0, 1); got {average}")
