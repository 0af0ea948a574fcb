"""Train an ensemble in one program, each member with its own held-out rows, batches and best weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_simulators import Stream

LEAST_STEPS, LEAST_ROWS = 20, 16
"""Few simulations are cut into so many batches all the same, if each has so many rows: it is steps that teach."""

Progress = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How members are trained: AdamW at a falling rate, averaged weights, and the best of them kept.

    Args:
        epochs: Most passes over the rows.
        batch_size: Rows of a batch: more where an epoch would have more than ``steps``, fewer where it would have less
            than twenty.
        steps: Most batches of an epoch.
        learning_rate: Step size at the start; it falls as a cosine to zero.
        weight_decay: Decay of AdamW.
        patience: Epochs without a better held-out loss before a member is done.
        average: Decay of the moving average of the weights, which is what is judged and kept.
        validation: Share of the rows that is held out from a member, another share from each.
        clip: Largest norm of a member's gradient.
    """

    epochs: int = 80
    batch_size: int = 256
    steps: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    patience: int = 15
    average: float = 0.99
    validation: float = 0.1
    clip: float = 5.0


@dataclass
class Course:
    """How a training went.

    Attributes:
        training: Mean loss of each epoch, over members.
        validation: Held-out loss after each epoch, over members.
        best: The held-out loss of each member's kept weights.
        finite: Whether every loss was a number.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    finite: bool = True


def train_ensemble(
    ensemble: Ensemble,
    y: Tensor,
    c: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    groups: Tensor | None = None,
    fresh: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    progress: Progress | None = None,
) -> Course:
    r"""Minimise every member's :math:`-\log q_k(y \mid c)`, and leave the best weights in the ensemble.

    Args:
        ensemble: The members, on the rows' device.
        y: Rows with shape (n, d).
        c: Conditions with shape (n, k).
        recipe: The settings.
        seed: Seed of splits and batches.
        groups: Which simulation each row is of, with shape (n,): the rows of one are held out together. Counted from 0.
        fresh: Makes a batch of y anew each time it is used, such as counts with other uniform numbers added.
        progress: Called after each epoch with its number and the losses.

    Returns:
        How it went.

    Raises:
        ValueError: If there are fewer than two rows or groups.
    """
    members, device = len(ensemble), y.device
    random = Stream.of(seed, role="train").torch(device)
    training, held_out = _folds(len(y), members, recipe.validation, groups, random)
    n = training.shape[1]
    steps = max(1, min(recipe.steps, n // recipe.batch_size), min(LEAST_STEPS, n // LEAST_ROWS))
    weights = list(ensemble.stacked)
    averages = [weight.detach().clone() for weight in weights]
    best_weights = [weight.detach().clone() for weight in weights]
    # what the members are to begin with may be best: what is linear and normal, the coordinates have taken out already
    with torch.no_grad():
        best = _held_out(ensemble, y, c, held_out, fresh, seed)
    waited = torch.zeros(members, device=device)
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    course, updates = Course(), 0
    at_once = torch.arange(members, device=device)[:, None]
    try:
        for epoch in range(recipe.epochs):
            order = torch.argsort(torch.rand(training.shape, generator=random, device=device), 1)
            rows = training[at_once, order]
            total = torch.zeros((), device=device)
            for step, batch in enumerate(rows.tensor_split(steps, 1)):
                done = (epoch + step / steps) / recipe.epochs
                optimiser.param_groups[0]["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                target = y[batch] if fresh is None else fresh(y[batch], random)
                loss = -ensemble(target, c[batch], shared=False).mean(1)
                optimiser.zero_grad(set_to_none=True)
                loss.sum().backward()
                _clip(weights, recipe.clip)
                optimiser.step()
                updates += 1
                decay = min(recipe.average, updates / (updates + 10))
                torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - decay)
                total += loss.detach().mean()
            with torch.no_grad():
                _swap(weights, averages)
                judged = _held_out(ensemble, y, c, held_out, fresh, seed)
                _swap(weights, averages)
                better = judged < best - 1e-4
                best = torch.where(better, judged, best)
                waited = torch.where(better, 0, waited + 1)
                for kept, average in zip(best_weights, averages, strict=True):
                    kept[better] = average[better]
            course.training.append(float(total) / steps)
            course.validation.append(float(judged.mean()))
            if progress is not None:
                progress(epoch + 1, {"loss": course.training[-1], "validation": course.validation[-1]})
            if not math.isfinite(course.training[-1]):
                course.finite = False
                break
            if bool((waited >= recipe.patience).all()):
                break
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, best_weights, strict=True):
                weight.copy_(kept)
        course.best = best.tolist()
    return course


def _held_out(
    ensemble: Ensemble,
    y: Tensor,
    c: Tensor,
    rows: Tensor,
    fresh: Callable[[Tensor, torch.Generator], Tensor] | None,
    seed: int,
) -> Tensor:
    """Each member's mean loss on its own rows; what is random in them is the same each time."""
    random = Stream.of(seed, role="split").torch(y.device)
    parts = rows.split(4096, 1)
    losses = [
        -ensemble(y[part] if fresh is None else fresh(y[part], random), c[part], shared=False).sum(1) for part in parts
    ]
    return torch.nan_to_num(torch.stack(losses).sum(0) / rows.shape[1], nan=math.inf)


def _folds(n: int, members: int, share: float, groups: Tensor | None, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows to train and rows held out for each member: the latter are disjoint while there are enough."""
    count = n if groups is None else int(groups.max()) + 1
    aside = max(1, round(share * count))
    if count < 2:
        raise ValueError(f"budget: expected at least 2 simulations that did not fail; got {count}")
    order = torch.randperm(count, generator=random, device=random.device)
    training, held_out = [], []
    for k in range(members):
        turned = order.roll(-k * aside)
        held_out.append(turned[:aside])
        training.append(turned[aside:])
    kept, aside_rows = torch.stack(training), torch.stack(held_out)
    if groups is None:
        return kept, aside_rows
    each = n // count  # every simulation has as many rows
    by_group = torch.argsort(groups, stable=True).reshape(count, each)
    return by_group[kept].flatten(1), by_group[aside_rows].flatten(1)


def _clip(weights: list[torch.nn.Parameter], largest: float) -> None:
    """Scale each member's gradient down to the norm ``largest`` where it is greater."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = torch.linalg.vector_norm(torch.cat([part.flatten(1) for part in gradients], 1), dim=1, dtype=torch.float64)
    factor = (largest / norms.clamp_min(largest)).nan_to_num(0.0).to(gradients[0].dtype)
    torch._foreach_mul_(gradients, [factor.reshape(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients])


def _swap(weights: list[torch.nn.Parameter], others: list[Tensor]) -> None:
    for weight, other in zip(weights, others, strict=True):
        held = weight.detach().clone()
        weight.copy_(other)
        other.copy_(held)
