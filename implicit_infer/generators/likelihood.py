r"""Likelihood beside the comparisons: the same network, the same loop, and a loss that needs no critic.

.. math:: L(\theta) = - \mathbb{E}_p \log q_\theta(x), \qquad
    \mathbb{E}_p \log p(x) + L(\theta) = \mathrm{KL}(p \| q_\theta)

Discrete data are dequantised: with u uniform on one bin, the density of x + u bounds the probability of x,
:math:`\mathbb{E}_u \log q(x + u) \le \log \int q(x + u) \, du`, and a density can no longer grow without limit on the
points of a grid (Theis, van den Oord and Bethge, 2016).

References:
    | A note on the evaluation of generative models (Theis, van den Oord and Bethge, 2016)
    | https://arxiv.org/abs/1511.01844
    | RNADE: The real-valued neural autoregressive density-estimator (Uria, Murray and Larochelle, 2013)
    | https://arxiv.org/abs/1306.0186
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.seeds import Seed, generator
from implicit_infer.games.duel import Batch, Duel


@dataclass(frozen=True)
class MaximumLikelihood(Comparison):
    r"""Maximum likelihood, for networks with a density: the mean of -log q at the data.

    In nats; the network has a ``log_prob(x[, condition])``.

    It looks at no draws of the model. Where data have a point outside the model's support, it is infinite.

    Attributes:
        needs_density: Says to whoever plays the game to call :meth:`density_objective` in place of the objectives of
            a critic's outputs.

    Args:
        bin_width: Width of the bins of discrete data, which are then given as the lower edges of their bins and get
            fresh uniform noise in each batch; None for continuous data.

    Raises:
        ValueError: If the width is not positive.
    """

    bin_width: float | None = None

    name = "mle"
    trained = False
    needs_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bin_width is not None and not 0 < self.bin_width < math.inf:
            raise ValueError(f"bin_width: expected a positive number or None; got {self.bin_width}")

    def density_objective(self, generator: Any, batch: Batch, random: Seed = None) -> Tensor:
        """The scalar that the network minimises.

        Args:
            generator: The network, with ``log_prob``.
            batch: Data, and what they were drawn given; its noise is not used.
            random: Source of the dequantisation; in a loop, pass a ``torch.Generator``.

        Returns:
            The loss, with shape ().

        Raises:
            TypeError: If the network has no density.
        """
        if not hasattr(generator, "log_prob"):
            raise TypeError(
                f"generator: expected one with log_prob, such as a flow, for the likelihood; got "
                f"{type(generator).__name__}"
            )
        real = batch.real if self.bin_width is None else dequantised(batch.real, self.bin_width, random)
        if batch.condition is None:
            return -generator.log_prob(real).mean()
        return -generator.log_prob(real, batch.condition).mean()


def likelihood_duel(
    generator: nn.Module, comparison: MaximumLikelihood, draw: Callable[[], Batch], random: torch.Generator
) -> Duel:
    """The duel in which nobody answers: the generator descends the likelihood, and there is no critic.

    Args:
        generator: A network with ``log_prob``.
        comparison: The likelihood.
        draw: Fresh batches.
        random: Source of the dequantisation.

    Returns:
        The duel, for the loop that plays all others.
    """

    def loss(player: Any, _: Any, batch: Batch) -> Tensor:
        return comparison.density_objective(player, batch, random)

    return Duel(generator=generator, critic=None, generator_loss=loss, critic_loss=None, draw=draw)


def dequantised(data: Tensor, bin_width: float = 1.0, seed: Seed = None) -> Tensor:
    """Discrete data as points spread evenly over their bins.

    Args:
        data: The lower edges of the bins, of any shape.
        bin_width: Of each bin.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.

    Returns:
        ``data`` and uniform noise on [0, bin_width), in the same shape.
    """
    noise = torch.rand(data.shape, generator=generator(seed, data.device), device=data.device, dtype=data.dtype)
    return data + bin_width * noise


def bits_per_dimension(log_prob: Tensor, dimensions: int, bin_width: float = 1.0) -> Tensor:
    r"""What it costs to say x to the bin, in bits for each of its entries.

    .. math:: -\frac{\log_2 q(x)}{d} - \log_2 w

    A uniform law over K bins costs :math:`\log_2 K`: 8 for the 256 grey values of a pixel, 4.09 for 17. For continuous
    data, w is whatever resolution is asked for, and differences do not depend on it.

    Args:
        log_prob: Log-densities in nats, of any shape.
        dimensions: d, the entries of one x.
        bin_width: w, in the units that the density is of.

    Returns:
        Bits with the shape of ``log_prob``.

    Raises:
        ValueError: If a number is not positive.
    """
    if dimensions < 1 or not bin_width > 0:
        raise ValueError(f"dimensions, bin_width: expected positive numbers; got {dimensions}, {bin_width}")
    return -log_prob / (dimensions * math.log(2)) - math.log2(bin_width)


@dataclass
class HeldOut:
    """Watches the likelihood of data that the network does not learn from, and keeps the network that was best there.

    Pass it as ``watch`` to the loop: at each mark it writes the mean negative log-density of the averaged network on
    both sets into the history, as "held_out" and "learned_from", which part where the network begins to overfit.

    Attributes:
        held_out: Data with shape (n, *event_shape).
        learned_from: The same of the data that it learns from, or None.
        condition: What the held-out data were drawn given, or None.
        learned_condition: The same of the others.
        best: The lowest held-out value so far.
        best_step: Where it was.
        best_state: The network's tensors there.
    """

    held_out: Tensor
    learned_from: Tensor | None = None
    condition: Tensor | None = None
    learned_condition: Tensor | None = None
    best: float = math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, play: Any) -> dict[str, float]:
        """The figures of this mark."""
        module: Any = play.averaged
        value = negative_log_density(module, self.held_out, self.condition)
        figures = {"held_out": value}
        if self.learned_from is not None:
            figures["learned_from"] = negative_log_density(module, self.learned_from, self.learned_condition)
        if value < self.best:
            self.best, self.best_step = value, play.step
            self.best_state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        return figures

    def put_back(self, module: nn.Module) -> None:
        """Give a network the weights that were best; none are given if no value was finite."""
        if self.best_state:
            module.load_state_dict(self.best_state)


@torch.no_grad()
def negative_log_density(module: Any, data: Tensor, condition: Tensor | None = None, batch_size: int = 4096) -> float:
    """The mean of -log q over data, in nats, with the network as it is when it is used.

    Args:
        module: A network with ``log_prob``.
        data: With shape (n, *event_shape).
        condition: With n rows, or None.
        batch_size: Rows at a time.

    Returns:
        The mean; infinity if one point has no density.
    """
    return -float(log_densities(module, data, condition, batch_size).mean())


@torch.no_grad()
def log_densities(module: Any, data: Tensor, condition: Tensor | None = None, batch_size: int = 4096) -> Tensor:
    """Log q at data, with shape (n,), in float64: where a flow is stretched, single precision would not do."""
    precise = copy.deepcopy(module).double().eval()
    parts = []
    for start in range(0, len(data), batch_size):
        rows = data[start : start + batch_size].double()
        given = () if condition is None else (condition[start : start + batch_size].double(),)
        parts.append(precise.log_prob(rows, *given))
    return torch.cat(parts)
