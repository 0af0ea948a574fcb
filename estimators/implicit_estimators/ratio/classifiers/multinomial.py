r"""A density ratio by classification into many classes: p, q, and auxiliary distributions between and around them.

Where p and q share no samples, a classifier of the two tells them apart without knowing by how much. Let
:math:`m_1 \dots m_K` be distributions that can be sampled and overlap with both, and :math:`h_c` the logits of a
classifier into all K + 2 classes, each of weight 1. The best ones are log-densities up to a function of x that all
share, so that

.. math:: \log \frac{p(x)}{q(x)} = h_p(x) - h_q(x).

Unlike a chain of ratios (telescoping), one network is trained on, and hence good at, samples of all classes at once:
no link of a chain is evaluated where it has not been trained.

References:
    | Estimating the Density Ratio between Distributions with High Discrepancy using Multinomial Logistic Regression
    | (Srivastava, Han, Xu, Rhodes and Gutmann, 2023)
    | https://arxiv.org/abs/2305.00869
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.pair import Pair
from implicit_estimators.networks.standardise import STANDARDISERS, restored
from implicit_estimators.networks.storage import joined, parted
from implicit_estimators.networks.train import History, Progress, train
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.seeds import stream

AUXILIARIES = ("mixing", "cauchy", "both")

RIDGE = 1e-9
"""Weight of the squared coefficients of a map that is solved for."""


@dataclass(eq=False, repr=False)
class MultinomialRatio(RatioEstimator):
    r"""The difference of the logits of p and q in a classifier that knows of auxiliary distributions, too (MDRE).

    Auxiliary samples are drawn anew for each batch, in standardised coordinates. A share of p and q is held out; the
    cross-entropy of all classes there, not the log loss of p against q, says when to stop. Without hidden layers the
    problem is convex and is solved to the end (L-BFGS, float64, auxiliary samples drawn once), which the coefficients
    of far-apart sets, in the hundreds, need; settings of the training have no effect then.

    Args:
        hidden: Widths of the hidden layers; () leaves the linear map, or with ``quadratic`` the quadratic one. The
            classes of "mixing" are Gaussian where p and q are, and the quadratic map then contains the truth.
        auxiliary: "mixing": the convex combinations :math:`(1 - a_k) x_p + a_k x_q` of independent samples, with
            :math:`a_k = k / (K + 1)`, K = ``classes``; "cauchy": one heavy-tailed class that covers both (multivariate
            Cauchy, as wide as the pooled samples); or "both".
        classes: Number of mixing classes.
        quadratic: Add to the logits a quadratic form of the standardised columns: for those who know that p and q are
            nearly Gaussian.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        standardise: A name in ``networks.standardise.STANDARDISERS``.
        epochs: Largest number of passes over the samples.
        batch_size: Samples of p and q in a step.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Epochs without a better held-out cross-entropy before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such auxiliary, activation or standardisation, or a number is out of its range.
    """

    hidden: Sequence[int] = (64, 64)
    _: KW_ONLY
    auxiliary: str = "mixing"
    classes: int = 3
    quadratic: bool = False
    activation: str = "silu"
    standardise: str = "moments"
    epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    patience: int = 10
    validation: float = 0.2

    name = "multinomial"

    def __post_init__(self) -> None:
        self.hidden = tuple(self.hidden)
        if self.auxiliary not in AUXILIARIES:
            raise ValueError(f"auxiliary: expected one of {', '.join(AUXILIARIES)}; got {self.auxiliary!r}")
        if self.classes < 1:
            raise ValueError(f"classes: expected a positive int; got {self.classes}")
        if self.standardise not in STANDARDISERS:
            raise ValueError(f"standardise: expected one of {', '.join(STANDARDISERS)}; got {self.standardise!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected a share inside (0, 1); got {self.validation}")
        self._logits(1, "meta")

    def _logits(self, width: int, device: torch.device | str, seed: int | None = None) -> _Logits:
        auxiliaries = {"mixing": self.classes, "cauchy": 1, "both": self.classes + 1}[self.auxiliary]
        network = MLP(width, auxiliaries + 2, self.hidden, activation=self.activation, seed=seed, device=device)
        return _Logits(network, self.quadratic)

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        pair = Pair.of(p, q, self.validation, seed, STANDARDISERS[self.standardise])
        network = self._logits(p.shape[1], device, seed)

        def cross_entropy(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            sets = [p, q, *self._auxiliaries(p, q, generator)]
            # class by class, so that each has weight 1 however many samples there are of it
            losses = [-network(rows).log_softmax(1)[:, label].mean() for label, rows in enumerate(sets)]
            return torch.stack(losses).mean()

        self._standardiser, self.held_out = pair.standardiser, pair.test
        if not self.hidden:
            rows = [pair.standardiser(samples).double() for samples in pair.raw]
            self._network = self._solved(network, rows, stream(seed, "draws", device), progress)
            return
        self.history: History = train(
            network,
            cross_entropy,
            pair.learned,
            validation=pair.held_out,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        self._network = network.requires_grad_(False)

    def _solved(
        self, network: _Logits, rows: list[Tensor], generator: torch.Generator, progress: Progress | None
    ) -> _Logits:
        network.double().train()
        sets = [*rows, *self._auxiliaries(rows[0], rows[1], generator)]
        parameters = list(network.parameters())
        optimiser = torch.optim.LBFGS(parameters, max_iter=500, history_size=30, line_search_fn="strong_wolfe")
        loss = torch.zeros(())

        def closure() -> Tensor:
            nonlocal loss
            optimiser.zero_grad()
            parts = [-network(part).log_softmax(1)[:, label].mean() for label, part in enumerate(sets)]
            # a ridge too weak to matter unless classes are separable, where nothing else ends the growth
            ridge = RIDGE * torch.stack([parameter.square().sum() for parameter in parameters]).sum()
            loss = torch.stack(parts).mean() + ridge
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        if progress is not None:
            progress(1, {"loss": float(loss.detach())})
        return network.requires_grad_(False).eval()

    def _auxiliaries(self, p: Tensor, q: Tensor, generator: torch.Generator) -> list[Tensor]:
        n = max(len(p), len(q))
        sets = []
        if self.auxiliary != "cauchy":
            for k in range(1, self.classes + 1):
                share = k / (self.classes + 1)
                rows = [
                    side[torch.randint(len(side), (n,), generator=generator, device=side.device)] for side in (p, q)
                ]
                sets.append((1 - share) * rows[0] + share * rows[1])
        if self.auxiliary != "mixing":
            normal = torch.randn((n, p.shape[1] + 1), generator=generator, device=p.device, dtype=p.dtype)
            sets.append(normal[:, 1:] / normal[:, :1].abs().clamp(min=1e-3))  # one divisor: the multivariate Cauchy
        return sets

    def _log_ratio(self, x: Tensor) -> Tensor:
        inputs = self._standardiser(x.to(self._standardiser.location.device))
        logits = self._network(inputs.float() if self.hidden else inputs.double())
        return (logits[:, 0] - logits[:, 1]).float().to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return joined({"network": self._network.state_dict(), "standardiser": self._standardiser.state_dict()}), {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        parts = parted(tensors)
        self._standardiser = restored(self.standardise, parts["standardiser"])
        network = self._logits(self.width, self._standardiser.location.device)
        network = network if self.hidden else network.double()
        network.load_state_dict(parts["network"])
        self._network = network.requires_grad_(False).eval()

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"MultinomialRatio(hidden={self.hidden}, auxiliary={self.auxiliary!r}; {state})"


class _Logits(nn.Module):
    """A perceptron's outputs, and for each a quadratic form of the inputs if wanted."""

    def __init__(self, network: MLP, quadratic: bool) -> None:
        super().__init__()
        self.network = network
        self.forms: nn.Parameter | None = None
        if quadratic:
            width, outputs = network.config["inputs"], network.config["outputs"]
            device = next(network.parameters()).device
            self.forms = nn.Parameter(torch.zeros(outputs, width, width, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Logits with shape (n, classes)."""
        logits = self.network(x)
        if self.forms is None:
            return logits
        near = x.clamp(-1e4, 1e4)  # squares of what lies at the end of the range would leave it
        return logits + torch.einsum("ni,cij,nj->nc", near, self.forms, near)
