r"""A density ratio by telling samples apart: a network whose logit is :math:`\log p/q`.

Label samples of p by 1 and of q by 0: the best classifier is :math:`D = \pi p / (\pi p + (1 - \pi) q)` with
:math:`\pi` the share of p among all samples, so its logit less :math:`\log \frac{\pi}{1 - \pi}` is the log-ratio.
Trained with the log or Brier score, which are bounded in their gradients, it needs no care with large ratios.

References:
    | Inferences for case-control and semiparametric two-sample density ratio models (Qin, 1998)
    | https://doi.org/10.1093/biomet/85.3.619
    | Density Ratio Estimation in Machine Learning (Sugiyama, Suzuki and Kanamori, 2012)
    | Acceleration of Stochastic Approximation by Averaging (Polyak and Juditsky, 1992), for the averaged weights
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.train import History, Progress, split, train
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio_losses import LogLoss, RatioLoss, ratio_loss


class LogisticRatio(RatioEstimator):
    r"""A classifier's logit as the log-ratio.

    Samples are standardised together, a share of each set is held out for early stopping (by the log loss, whatever
    loss trains) and for :meth:`check`, and the weights that are kept are a running average over the steps.

    Good where p and q overlap. Where they hardly do (log-ratios beyond about 5 for most samples), the classifier is
    right and yet the ratio is only known to be large: ``check()`` then says "uninformative".

    Args:
        hidden: Widths of the hidden layers.
        loss: "log", "brier", the name of an f-divergence (its variational bound), or a ``RatioLoss``.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        robust: Standardise by quantiles and squash tails: for samples that vary over orders of magnitude.
        epochs: Largest number of passes over the samples.
        batch_size: Samples in a step, of p and q together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Epochs without a better held-out log loss before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such loss or activation, the loss does not determine the ratio (total variation),
            or a number is out of its range.

    Example:
        >>> p = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = LogisticRatio(hidden=(32,)).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.1  # where the densities cross
        tensor([True])
    """

    name = "logistic"

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        loss: str | RatioLoss = "log",
        *,
        activation: str = "silu",
        robust: bool = False,
        epochs: int = 100,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        patience: int = 10,
        validation: float = 0.2,
    ) -> None:
        chosen = ratio_loss(loss)
        chosen.log_ratio(torch.zeros(1))  # refuses losses that do not determine the ratio
        MLP(1, 1, hidden, activation=activation, device="meta")  # refuses widths and activations
        if not 0 < validation < 1:
            raise ValueError(f"validation: expected a share inside (0, 1); got {validation}")
        self.hidden = tuple(hidden)
        self.loss = loss
        self.activation = activation
        self.robust = robust
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation = validation

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        (learn_p, learn_q), (test_p, test_q) = (
            [group[0] for group in part] for part in split([(p,), (q,)], self.validation, seed)
        )
        standardiser = Standardiser.fit(learn_p, learn_q, robust=self.robust)
        network = MLP(p.shape[1], 1, self.hidden, activation=self.activation, seed=seed, device=device)
        # the share of p makes every sample count the same, whichever set it is from
        loss = ratio_loss(self.loss, prior=len(p) / (len(p) + len(q)))

        def on_batch(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            return loss.loss(network(p)[:, 0], network(q)[:, 0])

        def log_loss(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            return LogLoss().loss(loss.log_ratio(network(p)[:, 0]), loss.log_ratio(network(q)[:, 0]))

        learned, held_out = (
            [(standardiser(samples).float(),) for samples in side] for side in ((learn_p, learn_q), (test_p, test_q))
        )
        self.history: History = train(
            network,
            on_batch,
            learned,
            validation=held_out,
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
        self._network, self._standardiser = network.requires_grad_(False), standardiser
        self._fitted_loss = loss
        self.held_out = (test_p.cpu(), test_q.cpu())

    def _log_ratio(self, x: Tensor) -> Tensor:
        inputs = self._standardiser(x.to(self._standardiser.location.device)).float()
        return self._fitted_loss.log_ratio(self._network(inputs)[:, 0]).to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not isinstance(self.loss, str):
            raise TypeError(f"loss: only named losses can be saved; got {self.loss!r}")
        tensors = {f"network.{name}": value for name, value in self._network.state_dict().items()}
        tensors |= {f"standardiser.{name}": value for name, value in self._standardiser.state_dict().items()}
        return tensors, {"prior": self._fitted_loss.prior}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        location, scale = tensors.pop("standardiser.location"), tensors.pop("standardiser.scale")
        self._standardiser = Standardiser(location, scale, squash=self.robust)
        network = MLP(self.width, 1, self.hidden, activation=self.activation, device=location.device)
        network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()})
        self._network = network.requires_grad_(False).eval()
        self._fitted_loss = ratio_loss(self.loss, prior=rest["prior"])

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"LogisticRatio(hidden={self.hidden}, loss={self.loss!r}; {state})"
