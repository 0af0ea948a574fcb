r"""A density ratio by a network whose output a ratio loss drives to :math:`\log p/q`: what its small children share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.pair import Pair
from implicit_estimators.networks.standardise import STANDARDISERS, restored
from implicit_estimators.networks.storage import joined, parted
from implicit_estimators.networks.train import History, Progress, train
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio_losses import LogLoss, RatioLoss


@dataclass(eq=False, repr=False)
class NetworkRatio(RatioEstimator):
    r"""A network under a ratio loss; a child says under which, by writing ``ratio_loss``.

    Samples are standardised together, a share of each set is held out for early stopping (by the log loss, whatever
    loss trains) and for :meth:`check`, and the weights that are kept are a running average over the steps.

    Good where p and q overlap. Where they hardly do (log-ratios beyond about 5 for most samples), the classifier is
    right and yet the ratio is only known to be large: ``check()`` then says "uninformative".

    To add one, copy a child: a dataclass whose fields are its settings, besides those it inherits.

    Args:
        hidden: Widths of the hidden layers.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        standardise: "moments"; "robust" (quantiles and a squash of the tails) for samples that vary over orders of
            magnitude, or a narrow peak in a wide bulk; "ranks" for skewed and clustered columns.
        epochs: Largest number of passes over the samples.
        batch_size: Samples in a step, of p and q together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Epochs without a better held-out log loss before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such activation, standardisation or loss, the loss does not determine the ratio, or a
            number is out of its range.

    References:
        | Acceleration of Stochastic Approximation by Averaging (Polyak and Juditsky, 1992), for the averaged weights
    """

    hidden: Sequence[int] = (64, 64)
    _: KW_ONLY
    activation: str = "silu"
    standardise: str = "moments"
    epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    patience: int = 10
    validation: float = 0.2

    def __post_init__(self) -> None:
        self.hidden = tuple(self.hidden)
        self.ratio_loss(0.5).check_tells_ratio()
        MLP(1, 1, self.hidden, activation=self.activation, device="meta")  # refuses widths and activations
        if self.standardise not in STANDARDISERS:
            raise ValueError(f"standardise: expected one of {', '.join(STANDARDISERS)}; got {self.standardise!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected a share inside (0, 1); got {self.validation}")

    def ratio_loss(self, prior: float) -> RatioLoss:
        """The loss to train with, where ``prior`` is the share of p among the samples."""
        raise NotImplementedError(f"{type(self).__name__} must write ratio_loss(prior)")

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        pair = Pair.of(p, q, self.validation, seed, STANDARDISERS[self.standardise])
        network = MLP(p.shape[1], 1, self.hidden, activation=self.activation, seed=seed, device=device)
        # the share of p makes every sample count the same, whichever set it is from
        prior = len(p) / (len(p) + len(q))
        loss = replace(self.ratio_loss(prior))

        def on_batch(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            return loss.loss(network(p)[:, 0], network(q)[:, 0])

        def log_loss(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            outputs = network(p)[:, 0], network(q)[:, 0]
            shift = loss.log_normaliser(*outputs)
            return LogLoss().loss(*(loss.log_ratio(output) - shift for output in outputs))

        self.history: History = train(
            network,
            on_batch,
            pair.learned,
            validation=pair.held_out,
            validation_loss=log_loss,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        self._network, self._standardiser, self._prior = network.requires_grad_(False), pair.standardiser, prior
        self._fitted_loss = loss
        with torch.no_grad():
            self._shift = loss.log_normaliser(*(network(side[0])[:, 0] for side in pair.held_out))
        self.held_out = pair.test

    def _log_ratio(self, x: Tensor) -> Tensor:
        inputs = self._standardiser(x.to(self._standardiser.location.device)).float()
        return (self._fitted_loss.log_ratio(self._network(inputs)[:, 0]) - self._shift).to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        parts = {"network": self._network.state_dict(), "standardiser": self._standardiser.state_dict()}
        return joined(parts), {"prior": self._prior, "shift": self._shift}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        state = parted(tensors)
        self._standardiser = restored(self.standardise, state["standardiser"])
        device = self._standardiser.location.device
        network = MLP(self.width, 1, self.hidden, activation=self.activation, device=device)
        network.load_state_dict(state["network"])
        self._network = network.requires_grad_(False).eval()
        self._prior, self._shift = rest["prior"], rest["shift"]
        self._fitted_loss = self.ratio_loss(self._prior)

    def __repr__(self) -> str:
        own = [field.name for field in fields(self) if field.name not in NetworkRatio.__dataclass_fields__]
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("hidden", *own))
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"{type(self).__name__}({settings}; {state})"
