r"""A critic that took no part in the training says how far draws are from data: a bound of Wasserstein's distance.

.. math:: W_1(p, q) = \sup_{\| c \|_L \le 1} \mathbb{E}_p\, c(x) - \mathbb{E}_q\, c(x)

A fresh critic learns to tell one part of the data from draws of the finished model, under WGAN-GP's penalty, and its
score is taken on *another* part and on fresh draws. No critic scores more than the distance but by its slope: the
penalty only charges slopes above 1 (two-sided, a critic can get stuck with the slope -1 that it starts with), so the
score on held-out rows is divided by the largest of them that is seen, where that is above 1, and is then, up to noise,
a lower bound: some 15 % below the distance of two shifted normal laws. The score on the critic's own rows is higher:
the difference is what the critic itself has overfitted.

Because the critic learns from validation data, it also sees what the model has *memorised*: near its training data
such a model scores as well as ever, and far from the validation data it cannot. A score on the training data that is
lower than that on the test data is a sign of it (Danihelka et al., 2017).

References:
    | Comparison of Maximum Likelihood and GAN-based training of Real NVPs (Danihelka et al., 2017)
    | https://arxiv.org/abs/1705.05263
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017)
    | https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_samples
from implicit_estimators.networks import MLP
from implicit_estimators.penalties import WassersteinPenalty, slopes
from implicit_estimators.seeds import Seed, resolve_seed, stream


@dataclass(frozen=True)
class CriticScore:
    r"""What an independent critic makes of a model.

    Attributes:
        distance: The score on held-out rows over the largest slope that is seen if that is above 1, in the units of
            the data: about :math:`W_1` from below.
        standard_error: Of ``distance``, from the number of held-out rows; it leaves out how much another critic
            would differ.
        learned: The score on the rows that the critic learned from, in the same units: above ``distance`` by what it
            overfitted.
        train: The score on the rows that the *model* learned from, with its draws held out, if they were given.
        slope: The largest slope of the critic on segments between held-out rows and draws.
    """

    distance: float
    standard_error: float
    learned: float
    train: float | None
    slope: float

    def __float__(self) -> float:
        return self.distance

    @property
    def overfit(self) -> float | None:
        """How much nearer the model is to the data that it learned from than to other data; None without them."""
        return None if self.train is None else self.distance - self.train


def independent_critic(
    validation: Any,
    test: Any,
    draws: Any,
    *,
    train: Any = None,
    hidden: Sequence[int] = (128, 128),
    steps: int = 500,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight: float = 10.0,
    test_share: float = 0.5,
    seed: Seed = 0,
    device: torch.device | str = "cpu",
) -> CriticScore:
    r"""Train a fresh critic on validation data against draws of a model, and score it on test data.

    Samples are scaled by one number, the root mean square of the validation data's spread, so that distances keep
    their meaning: nothing is whitened.

    Args:
        validation: Data that the model has not learned from, for the critic to learn from, with shape (n, d) or any
            other event shape, which is flattened.
        test: More of them, for its score.
        draws: Draws of the model: some for the critic to learn from, and ``test_share`` of them for its score.
        train: The data that the model learned from, to be scored by the same critic, or None.
        hidden: Widths of the critic's hidden layers.
        steps: Steps of Adam, with rates (0, 0.9) as in WGAN-GP; its step size falls to 0 by a cosine.
        batch_size: Rows of each side in a step.
        learning_rate: Step size at the start.
        weight: Of the one-sided gradient penalty.
        test_share: Share of the draws that the critic does not learn from.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where the critic is trained.

    Returns:
        Its scores.

    Raises:
        ValueError: If shapes differ, a set has fewer than 2 rows, or a number is out of its range.
        TypeError: If samples are not numeric.

    Example:
        >>> import torch
        >>> x = torch.randn(3, 200, 2, generator=torch.Generator().manual_seed(0))
        >>> 1.5 < independent_critic(x[0], x[1], x[2] + torch.tensor([2.0, 0.0]), steps=100).distance < 2.3
        True
    """
    if steps < 1 or batch_size < 1 or not learning_rate > 0 or not weight > 0 or not 0 < test_share < 1:
        raise ValueError(
            "steps, batch_size, learning_rate, weight, test_share: expected positive numbers and a share inside "
            f"(0, 1); got {steps}, {batch_size}, {learning_rate}, {weight}, {test_share}"
        )
    known = _rows(validation, "validation", None, device)
    held_out, drawn = (_rows(x, name, known.shape[1], device) for x, name in ((test, "test"), (draws, "draws")))
    learned_by_model = None if train is None else _rows(train, "train", known.shape[1], device)
    root = resolve_seed(seed)
    centre, unit = known.mean(0), _spread(known)
    order = torch.randperm(len(drawn), generator=stream(root, "split", device), device=drawn.device)
    kept = min(max(1, round(test_share * len(drawn))), len(drawn) - 1)
    scaled = {
        "known": (known - centre) / unit,
        "held_out": (held_out - centre) / unit,
        "draws": (drawn[order[kept:]] - centre) / unit,
        "fresh": (drawn[order[:kept]] - centre) / unit,
    }
    critic = _train(scaled["known"], scaled["draws"], hidden, steps, batch_size, learning_rate, weight, root)
    with torch.no_grad():
        values = {name: critic(rows).squeeze(-1).double() for name, rows in scaled.items()}
        at_train = None if learned_by_model is None else critic((learned_by_model - centre) / unit).squeeze(-1).double()
    slope = _largest_slope(critic, scaled["held_out"], scaled["fresh"], root)
    factor = unit / max(1.0, slope)
    model, noise = values["fresh"].mean(), values["fresh"].var() / len(values["fresh"])
    return CriticScore(
        distance=factor * float(values["held_out"].mean() - model),
        standard_error=factor * math.sqrt(float(values["held_out"].var() / len(values["held_out"]) + noise)),
        learned=factor * float(values["known"].mean() - values["draws"].mean()),
        train=None if at_train is None else factor * float(at_train.mean() - model),
        slope=slope,
    )


def _rows(value: Any, name: str, width: int | None, device: torch.device | str) -> Tensor:
    if isinstance(value, Tensor) and value.ndim > 2:
        value = value.flatten(1)
    return as_samples(value, name, rows=2, width=width).to(device, torch.float32)


def _spread(rows: Tensor) -> float:
    spread = float(rows.var(0).mean().sqrt())
    return spread if spread > 0 else 1.0


def _train(
    data: Tensor,
    draws: Tensor,
    hidden: Sequence[int],
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight: float,
    root: int,
) -> MLP:
    # leaky layers: a smooth activation would have to be stretched to reach slope 1 everywhere
    critic = MLP(data.shape[1], 1, hidden, activation="leaky_relu", seed=root, device=data.device)
    penalty = WassersteinPenalty(weight, one_sided=True)
    batches = stream(root, "batches", data.device)
    optimiser = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.0, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        real, fake = (
            rows[torch.randint(len(rows), (batch_size,), generator=batches, device=rows.device)]
            for rows in (data, draws)
        )
        loss = critic(fake).mean() - critic(real).mean() + penalty.penalty(critic, real, fake, batches)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return critic.requires_grad_(False)


def _largest_slope(critic: MLP, data: Tensor, draws: Tensor, root: int) -> float:
    n = max(len(data), len(draws))
    random = stream(root, "validate", data.device)
    real, fake = (rows[torch.randint(len(rows), (n,), generator=random, device=rows.device)] for rows in (data, draws))
    share = torch.rand((n, 1), generator=random, device=data.device)
    return float(slopes(critic, torch.lerp(real, fake, share)).max().detach())
