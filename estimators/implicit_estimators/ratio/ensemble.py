r"""Several classifiers that disagree where the samples say little: a steadier log-ratio, and how far to believe it.

K networks, each with its own initial weights, order of batches and held-out fold, trained in one batched program. Their
log-ratios are averaged, not their probabilities:

.. math:: \log \hat r(x) = \frac{1}{K} \sum_k \log r_k(x)

which errs least in nats (the squared error of a mean is never above the mean squared error), is the same when p and q
are exchanged, and keeps its size in the tails. There, averaged probabilities give
:math:`-\log \frac{1}{K} \sum_k e^{-v_k}`, which is the log-ratio of the one most timid member.

References:
    | Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles (Lakshminarayanan et al., 2017)
    | https://arxiv.org/abs/1612.01474
    | Bagging Predictors (Breiman, 1996), for members that each miss a part of the rows
    | https://doi.org/10.1007/BF00058655
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_samples
from implicit_estimators.networks.batched import BatchedMLP, folds_of_members, train_members
from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.standardise import STANDARDISERS, restored
from implicit_estimators.networks.storage import joined, parted
from implicit_estimators.networks.train import History, Progress
from implicit_estimators.ratio.base import CHUNK, RatioEstimator
from implicit_estimators.ratio_losses import LogLoss, RatioLoss, ratio_loss
from implicit_estimators.seeds import stream

FOLDS = 5
"""Each network holds out one row in so many, for early stopping."""


class EnsembleRatio(RatioEstimator):
    r"""The mean log-ratio of several classifiers, and their disagreement.

    Rows are dealt into five folds, and each network holds one of them out for its early stopping. With five networks or
    more every row thus has a log-ratio by a network that did not learn from it, and :meth:`check` and
    :meth:`divergence` use all rows. They judge single networks so; their mean is better than its check.

    Args:
        networks: How many.
        hidden: Widths of the hidden layers.
        loss: "log", "brier", the name of an f-divergence (its variational bound), or a ``RatioLoss``.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        standardise: "moments"; "robust" (quantiles and a squash of the tails) for samples that vary over orders of
            magnitude; "ranks" for columns that live on several scales at once.
        epochs: Largest number of passes over the samples.
        batch_size: Samples in a step of one network, of p and q together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Epochs without a better held-out log loss before a network stops.

    Attributes:
        histories: How the training of each network went.

    Raises:
        ValueError: If there is no such loss or activation, the loss does not determine the ratio or is no mean over
            samples, or a number is out of its range.

    Example:
        >>> p = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = EnsembleRatio(hidden=(32,)).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
        >>> bool(ratio.spread([9.0]) > ratio.spread([0.5]))  # where there are no samples
        True
    """

    name = "ensemble"

    def __init__(
        self,
        networks: int = 5,
        hidden: Sequence[int] = (64, 64),
        loss: str | RatioLoss = "log",
        *,
        activation: str = "silu",
        standardise: str = "moments",
        epochs: int = 100,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        patience: int = 10,
    ) -> None:
        if networks < 2:
            raise ValueError(f"networks: expected at least 2; got {networks}")
        chosen = ratio_loss(loss)
        chosen.check_tells_ratio()
        if type(chosen).loss is not RatioLoss.loss:
            raise ValueError(f"loss: expected a mean over the samples of p and of q; {loss!r} is none")
        MLP(1, 1, hidden, activation=activation, device="meta")  # refuses widths and activations
        if standardise not in STANDARDISERS:
            raise ValueError(f"standardise: expected one of {', '.join(STANDARDISERS)}; got {standardise!r}")
        self.networks = networks
        self.hidden = tuple(hidden)
        self.loss = loss
        self.activation = activation
        self.standardise = standardise
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        standardiser = STANDARDISERS[self.standardise](p, q)
        module = BatchedMLP(
            self.networks, p.shape[1], 1, self.hidden, activation=self.activation, seed=seed, device=device
        )
        loss = ratio_loss(self.loss, prior=len(p) / (len(p) + len(q)))

        def values(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
            outputs = module(torch.cat([p, q], 1))[..., 0]
            return outputs[:, : p.shape[1]], outputs[:, p.shape[1] :]

        def losses(p: Tensor, q: Tensor) -> Tensor:
            value_p, value_q = values(p, q)
            return 2 * loss.prior * loss.at_p(value_p).mean(1) + 2 * (1 - loss.prior) * loss.at_q(value_q).mean(1)

        def log_losses(p: Tensor, q: Tensor) -> Tensor:
            value_p, value_q = (loss.log_ratio(value) for value in values(p, q))
            return LogLoss().at_p(value_p).mean(1) + LogLoss().at_q(value_q).mean(1)

        count = min(FOLDS, len(p), len(q))
        dealer = stream(seed, "split")
        folds, learn, aside = zip(
            *(folds_of_members(len(side), count, self.networks, dealer) for side in (p, q)), strict=True
        )
        inputs_p, inputs_q = (standardiser(side).float() for side in (p, q))
        self.histories: list[History] = train_members(
            module,
            losses,
            inputs_p,
            inputs_q,
            (learn[0].to(device), learn[1].to(device)),
            (aside[0].to(device), aside[1].to(device)),
            validation_losses=log_losses,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        self._module, self._standardiser = module.requires_grad_(False), standardiser
        self._fitted_loss = loss
        sides = [self._out_of_fold(side, fold, count) for side, fold in zip((p, q), folds, strict=True)]
        self.held_out = (sides[0][0], sides[1][0])
        self.held_out_log_ratio = (sides[0][1], sides[1][1])

    def _out_of_fold(self, samples: Tensor, fold: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The rows that some network held out, and their mean log-ratio by those that did, on the CPU."""
        values = self._members(samples).cpu()
        mine = torch.stack([fold == member % count for member in range(self.networks)])
        known = mine.any(0)
        means = (values * mine).sum(0) / mine.sum(0).clamp(min=1)
        return samples.cpu()[known], means[known]

    def _members(self, x: Tensor) -> Tensor:
        inputs = self._standardiser(x.to(self._standardiser.location.device)).float()
        outputs = [self._module(part)[..., 0] for part in inputs.split(max(1, CHUNK // self.networks))]
        return self._fitted_loss.log_ratio(torch.cat(outputs, 1)).to(x.device)

    def _log_ratio(self, x: Tensor) -> Tensor:
        return self._members(x).mean(0)

    def members(self, x: Any) -> Tensor:
        """The log-ratio by each network.

        Args:
            x: Points with shape (n, d), or (n,) for d = 1.

        Returns:
            Log-ratios in nats, with shape (networks, n).

        Raises:
            RuntimeError: If the estimator has not been fitted.
            TypeError: If ``x`` is not numeric.
            ValueError: If ``x`` has another width than the samples had, or holds NaN or infinity.
        """
        self._check_fitted()
        points = as_samples(x, "x", rows=0, width=self.width)
        if points.requires_grad and torch.is_grad_enabled():
            return self._members(points)
        with torch.no_grad():
            return self._members(points)

    def spread(self, x: Any) -> Tensor:
        """The standard deviation of the log-ratio over the networks, in nats, with shape (n,); see :meth:`members`.

        It tells how far the answer depends on the start and on the rows, not whether all networks err alike.
        """
        members = self.members(x)
        return members.std(0) if members.shape[1] else members[0]

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not isinstance(self.loss, str):
            raise TypeError(f"loss: only named losses can be saved; got {self.loss!r}")
        parts = {"networks": self._module.state_dict(), "standardiser": self._standardiser.state_dict()}
        return joined(parts), {"prior": self._fitted_loss.prior}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        state = parted(tensors)
        self._standardiser = restored(self.standardise, state["standardiser"])
        device = self._standardiser.location.device
        module = BatchedMLP(
            self.networks, self.width, 1, self.hidden, activation=self.activation, seed=0, device=device
        )
        module.load_state_dict(state["networks"])
        self._module = module.requires_grad_(False).eval()
        self._fitted_loss = ratio_loss(self.loss, prior=rest["prior"])

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"EnsembleRatio(networks={self.networks}, hidden={self.hidden}, loss={self.loss!r}; {state})"
