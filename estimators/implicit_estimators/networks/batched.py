r"""Several perceptrons of one shape as one program: their weights are stacked, and a step trains all of them at once.

Small networks spend much of a step outside of arithmetic. K of them in one batched product pay for that once, and each
still has its own initial weights, rows, order of batches, clipping and early stopping: what comes out are K networks
that know nothing of one another.

References:
    | Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles (Lakshminarayanan et al., 2017)
    | https://arxiv.org/abs/1612.01474
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import ACTIVATIONS, MLP
from implicit_estimators.networks.train import History, Progress
from implicit_estimators.seeds import Seed, resolve_seed, stream


class BatchedMLP(nn.Module):
    r"""K multilayer perceptrons on the last axis, each with its own weights.

    Args:
        members: K, the number of perceptrons.
        inputs: Width of the input.
        outputs: Width of the output.
        hidden: Widths of the hidden layers; () is a linear map.
        activation: A name in ``ACTIVATIONS``.
        seed: Seed of the initial weights, which are those of K ``MLP``; torch's global generator is left as it was.
        device: Where the weights lie.

    Raises:
        ValueError: If a number or width is not positive or the activation is unknown.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "silu",
        seed: Seed = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members: expected a positive int; got {members}")
        draw = stream(resolve_seed(seed), "initialise")
        singles = [MLP(inputs, outputs, hidden, activation=activation, seed=draw) for _ in range(members)]
        linear = [[layer for layer in single.modules() if isinstance(layer, nn.Linear)] for single in singles]
        layers = list(zip(*linear, strict=True))
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.detach().T for layer in same]).contiguous() for same in layers
        )
        self.biases = nn.ParameterList(torch.stack([layer.bias.detach()[None] for layer in same]) for same in layers)
        self.activation = ACTIVATIONS[activation]()
        self.to(device=device)

    def forward(self, x: Tensor) -> Tensor:
        r"""Map x of shape (K, n, inputs), or (n, inputs) for all alike, to shape (K, n, outputs)."""
        if x.ndim == 2:
            x = x.expand(len(self.weights[0]), *x.shape)
        *inner, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in inner:
            x = self.activation(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(last[1], x, last[0])


MemberLosses = Callable[[Tensor, Tensor], Tensor]
"""``losses(p, q)``: the loss of each member, with shape (K,), at its own rows of p and q, with shape (K, b, d)."""


def train_members(
    module: nn.Module,
    losses: MemberLosses,
    p: Tensor,
    q: Tensor,
    learn: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    *,
    validation_losses: MemberLosses | None = None,
    epochs: int = 100,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    patience: int = 20,
    clip: float = 5.0,
    average: float = 0.0,
    seed: Seed = None,
    progress: Progress | None = None,
) -> list[History]:
    r"""Minimise each member's loss as ``networks.train.train`` would, all in one program, and leave the best weights.

    Members that have stopped leave the batch, so that the others go on faster.

    Args:
        module: The networks; the first axis of every parameter is the member.
        losses: The members' losses of one batch.
        p: Rows of the first set, with shape (n, d), on the module's device.
        q: Rows of the second, with shape (m, d).
        learn: Indices of the rows of p and of q that each member learns from, with shapes (K, n') and (K, m').
        held_out: Indices of the rows that choose its best weights, of the same structure.
        validation_losses: The losses that choose, where they are others than those that train.
        epochs: Largest number of passes.
        batch_size: Rows of a member in a step, of p and q together.
        learning_rate: Step size of AdamW at the start; it falls to 0 over ``epochs`` by a cosine.
        weight_decay: Decay of AdamW.
        patience: A member stops after so many epochs without a better held-out loss.
        clip: Largest norm of a member's gradient.
        average: Decay of an exponential moving average of the weights, per step; the average is what is kept.
        seed: Seed of the order of the batches.
        progress: Called after each epoch with the mean losses of the members that are still learning.

    Returns:
        The history of each member.

    Raises:
        ValueError: If a setting is out of its range.
    """
    if epochs < 1 or batch_size < 1 or not learning_rate > 0 or not 0 <= average < 1:
        raise ValueError(
            "epochs, batch_size, learning_rate, average: expected positive numbers, and a decay in [0, 1); got "
            f"{epochs}, {batch_size}, {learning_rate}, {average}"
        )
    shuffler = stream(resolve_seed(seed), "batches", p.device)
    parameters: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    averages = [parameter.detach().clone() for parameter in parameters]
    best = [parameter.detach().clone() for parameter in parameters]
    count = len(parameters[0])
    histories, lowest = [History() for _ in range(count)], [math.inf] * count
    active = list(range(count))
    steps = min(math.ceil(sum(rows.shape[1] for rows in learn) / batch_size), *(rows.shape[1] for rows in learn))
    updates = 0
    try:
        for epoch in range(epochs):
            totals = torch.zeros(len(active), device=p.device)
            for step, (rows_p, rows_q) in enumerate(_batches(learn, active, steps, shuffler)):
                done = (epoch * steps + step) / (epochs * steps)
                optimiser.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                values = losses(p[rows_p], q[rows_q])
                values.sum().backward()
                _clip_each(parameters, clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                totals += values.detach()
                updates += 1
                decay = min(average, updates / (updates + 10))  # the first steps are not worth remembering
                for mean, parameter in zip(averages, parameters, strict=True):
                    mean.lerp_(parameter.detach(), 1 - decay)
            _swap(parameters, averages)
            with torch.no_grad():
                judged = (validation_losses or losses)(p[held_out[0][active]], q[held_out[1][active]]).tolist()
            training = (totals / steps).tolist()
            going = []
            for place, member in enumerate(active):
                history = histories[member]
                history.training.append(training[place])
                history.validation.append(judged[place])
                if judged[place] < lowest[member]:
                    lowest[member], history.best_epoch = judged[place], epoch + 1
                    for kept, parameter in zip(best, parameters, strict=True):
                        kept[member] = parameter.detach()[place]
                if not math.isfinite(training[place] + judged[place]):
                    history.stopped = "non-finite"
                elif epoch + 1 - history.best_epoch >= patience:
                    history.stopped = "patience"
                else:
                    going.append(place)
            _swap(parameters, averages)
            if progress is not None:
                progress(epoch + 1, {"loss": sum(training) / len(active), "validation": sum(judged) / len(active)})
            if not going:
                break
            if len(going) < len(active):
                active = [active[place] for place in going]
                averages = [mean[going] for mean in averages]
                parameters = _keep(module, optimiser, going)
    finally:  # on an interrupt too, what was best so far is left in the module
        _replace(module, best)
        module.eval()
    return histories


def _batches(
    learn: tuple[Tensor, Tensor], active: list[int], steps: int, shuffler: torch.Generator
) -> zip[tuple[Tensor, Tensor]]:
    """The active members' rows of p and of q, each member's in an order of its own, cut into ``steps`` parts."""
    parts = []
    for rows in learn:
        mine = rows[active]
        order = torch.rand(mine.shape, generator=shuffler, device=mine.device).argsort(1)
        parts.append(mine.gather(1, order).tensor_split(steps, 1))
    return zip(*parts, strict=True)


def _clip_each(parameters: Sequence[Tensor], largest: float) -> None:
    """Scale each member's gradient down to the norm ``largest`` where it is greater (in float64: see ``train``)."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64) for gradient in gradients]
    factor = largest / torch.linalg.vector_norm(torch.stack(norms), dim=0).clamp(min=largest)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.dtype).reshape(-1, *[1] * (gradient.ndim - 1)))


def _swap(parameters: Sequence[Tensor], others: list[Tensor]) -> None:
    for i, parameter in enumerate(parameters):
        parameter.data, others[i] = others[i], parameter.data


def _keep(module: nn.Module, optimiser: torch.optim.Optimizer, places: list[int]) -> list[Tensor]:
    """Take the other members out of the parameters and of the optimiser's moments; the parameters that remain."""
    old = list(optimiser.param_groups[0]["params"])
    new = _replace(module, [parameter.detach()[places] for parameter in old])
    for before, after in zip(old, new, strict=True):
        state = optimiser.state.pop(before)
        optimiser.state[after] = {
            name: value[places] if value.shape == before.shape else value for name, value in state.items()
        }
    optimiser.param_groups[0]["params"] = new
    return new


def _replace(module: nn.Module, values: Sequence[Tensor]) -> list[Tensor]:
    """Give ``module`` parameters with other values and shapes: autograd remembers the shapes of those it has seen."""
    new: list[Tensor] = []
    for (name, _), value in zip(list(module.named_parameters()), values, strict=True):
        path, _, leaf = name.rpartition(".")
        new.append(nn.Parameter(value))
        setattr(module.get_submodule(path), leaf, new[-1])
    return new


def folds_of_members(rows: int, folds: int, members: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Deal ``rows`` into ``folds`` at random; member k holds out fold k modulo ``folds`` and learns from the others.

    Folds differ by at most one row; where a member has one fewer than another, one of its rows is there twice.

    Args:
        rows: Number of rows, at least ``folds``.
        folds: Number of folds, at least 2.
        members: Number of members.
        generator: What deals.

    Returns:
        The fold of each row, with shape (rows,); the rows that each member learns from, and those that it holds out,
        with shapes (members, l) and (members, h).
    """
    fold = torch.randperm(rows, generator=generator, device=generator.device) % folds
    learn = [(fold != member % folds).nonzero()[:, 0] for member in range(members)]
    aside = [(fold == member % folds).nonzero()[:, 0] for member in range(members)]
    return fold, _stack(learn), _stack(aside)


def _stack(parts: list[Tensor]) -> Tensor:
    longest = max(map(len, parts))
    return torch.stack([torch.cat([part, part[: longest - len(part)]]) for part in parts])
