r"""The classifier between true parameters and draws of q at the same data, whose logit is :math:`\log p/q`.

It sees v and s of :mod:`implicit_infer.posteriors.coordinates`, and where v lies among the draws of q: with location m
and scale :math:`\sigma` of some of them at that x,

.. math:: h(\theta, x) = g(w, v, \log \sigma, s), \quad w = (v - m) / \sigma,

so that a q that is much narrower at one x than at another is seen at one magnification.

Several networks are trained in one batched program. Each learns from all folds of the simulations but two: one tells
it when to stop, and the other judges it, so that every simulation is judged by a network that has never seen it. What
corrects is the mean of the logits of all.

References:
    | Bias correction of learned generative models using likelihood-free importance weighting (Grover et al., 2019)
    | https://arxiv.org/abs/1906.09531
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.networks.batched import BatchedMLP, train_members
from implicit_estimators.networks.train import Progress
from implicit_infer.posteriors.corrected_certificate import Certificate
from implicit_simulators import Stream

CHUNK = 2**16
"""Rows that all networks see at once."""

FAR = 8.0
"""Standard deviations beyond which inputs are squashed: there a network need only know which side it is on."""


@dataclass(frozen=True)
class Classifier:
    """Settings of the classifier.

    Args:
        networks: How many, and into how many folds the simulations are dealt; at least 3.
        hidden: Widths of the hidden layers.
        contrasts: Draws of q for each simulation.
        described_by: Draws of q that its location and scale at an x are taken of; at least 2.
        epochs: Largest number of passes.
        batch_size: Rows of a network in a step, truths and draws together.
        learning_rate: AdamW's step size at the start.
        weight_decay: AdamW's weight decay.
        patience: Epochs without a better held-out loss before a network stops.

    Raises:
        ValueError: If a count is too small.
    """

    networks: int = 6
    hidden: tuple[int, ...] = (64, 64)
    contrasts: int = 4
    described_by: int = 32
    epochs: int = 60
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    patience: int = 8

    def __post_init__(self) -> None:
        for name, least in (("networks", 3), ("contrasts", 1), ("described_by", 2), ("epochs", 1), ("patience", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}; got {getattr(self, name)}")

    def fit(
        self,
        joint: Tensor,
        drawn: Tensor,
        seed: int,
        progress: Progress | None = None,
    ) -> tuple[LogRatio, Certificate]:
        """Learn to tell truths from draws.

        Args:
            joint: Inputs at the true parameters, with shape (n, f), on the device where to train.
            drawn: Inputs at ``contrasts`` draws for each, with shape (n, M, f).
            seed: Seed of the weights, the folds and the order of the batches.
            progress: Called after each epoch.

        Returns:
            The log-ratio and what held-out rows say of it.

        Raises:
            ValueError: If there are fewer simulations than networks.
        """
        n, contrasts, width = drawn.shape
        if n < 2 * self.networks:
            raise ValueError(
                f"runs: expected at least {2 * self.networks} simulations that did not fail to judge {self.networks} "
                f"networks by; got {n}"
            )
        device = joint.device
        module = BatchedMLP(self.networks, width, 1, self.hidden, activation="silu", seed=seed, device=device)
        fold = torch.randperm(n, generator=Stream.of(seed, role="split").torch()) % self.networks
        member = torch.arange(self.networks)[:, None]
        judged, stops = fold == member, fold == (member + 1) % self.networks
        learn, aside = _stacked(~(judged | stops)).to(device), _stacked(stops).to(device)

        def draws_of(rows: Tensor) -> Tensor:
            return (rows[..., None] * contrasts + torch.arange(contrasts, device=device)).flatten(1)

        def losses(p: Tensor, q: Tensor) -> Tensor:
            logits = module(torch.cat((p, q), 1))[..., 0]
            return softplus(-logits[:, : p.shape[1]]).mean(1) + softplus(logits[:, p.shape[1] :]).mean(1)

        train_members(
            module,
            losses,
            joint,
            drawn.flatten(0, 1),
            (learn, draws_of(learn)),
            (aside, draws_of(aside)),
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        ratio = LogRatio(module.requires_grad_(False))
        mine = fold.to(device)
        held_joint = ratio.members(joint).gather(0, mine[None])[0]
        held_drawn = ratio.members(drawn.flatten(0, 1)).unflatten(1, (n, contrasts))
        held_drawn = held_drawn.gather(0, mine[None, :, None].expand(1, n, contrasts))[0]
        certificate = Certificate.of(held_joint, held_drawn)
        ratio.factor = certificate.factor
        return ratio, certificate


class LogRatio:
    r""":math:`\lambda` times the mean logit of the networks.

    Args:
        module: The networks.
        factor: :math:`\lambda`; 0 corrects nothing.
    """

    def __init__(self, module: BatchedMLP, factor: float = 1.0) -> None:
        self.module = module
        self.factor = factor

    @torch.no_grad()
    def members(self, inputs: Tensor) -> Tensor:
        """Logits of each of the K networks, with shape (K, n), at inputs (n, f)."""
        parts = [self.module(part)[..., 0] for part in inputs.split(CHUNK)]
        return torch.cat(parts, 1)

    def __call__(self, inputs: Tensor) -> Tensor:
        r"""The log-ratio with shape (\*,) at inputs (\*, f)."""
        return self.factor * self.members(inputs.reshape(-1, inputs.shape[-1])).mean(0).reshape(inputs.shape[:-1])


def described(v: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale of draws v of shape (R, B, d), each with shape (B, d)."""
    return v.mean(0), v.std(0).clamp_min(1e-4)


def inputs_of(v: Tensor, location: Tensor, scale: Tensor, s: Tensor) -> Tensor:
    """What the networks see, with shape (B, m, 3 d + k).

    Args:
        v: Parameters with shape (B, m, d): m for each observation.
        location: m of the module's docstring, with shape (B, d).
        scale: The scale there, likewise.
        s: Summaries with shape (B, k).
    """
    w = (v - location[:, None]) / scale[:, None]
    given = torch.cat((scale.log(), s), 1)[:, None].expand(-1, v.shape[1], -1)
    return torch.cat((FAR * torch.tanh(w / FAR), FAR * torch.tanh(v / FAR), given), 2)


def _stacked(masks: Tensor) -> Tensor:
    """The rows that each mask (K, n) holds, (K, longest); shorter ones have their first rows twice."""
    parts = [mask.nonzero()[:, 0] for mask in masks]
    longest = max(map(len, parts))
    return torch.stack([torch.cat((part, part[: longest - len(part)])) for part in parts])
