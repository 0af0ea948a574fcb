r"""A density ratio in steps: waymarks between p and q, a classifier between neighbours, and the sum of their logits.

.. math:: \log \frac{p(x)}{q(x)} = \sum_{k=0}^{m-1} \log \frac{p_k(x)}{p_{k+1}(x)}, \quad p_0 = p, \; p_m = q

Where p and q hardly overlap, a classifier is right and knows nothing of how right it is; neighbours do overlap. The
bridges share one network with an output for each, and every pair of samples gives one sample of every waymark: what
they have in common cancels in the loss of a bridge. Pairs are drawn anew in each epoch.

References:
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020)
    | https://arxiv.org/abs/2006.12204
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_estimators.divergences import softplus
from implicit_estimators.inputs import as_samples
from implicit_estimators.networks.pair import Pair
from implicit_estimators.networks.scales import Scales
from implicit_estimators.networks.skip import SkipMLP
from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.storage import joined, parted
from implicit_estimators.networks.train import History, Progress, train
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.bridges.waymarks import Way, Waymarks, bridge_losses

MOST = 48
"""Bridges that are built unless more are asked for."""


class TelescopingRatio(RatioEstimator):
    r"""The sum of the logits of bridges between p and q.

    Samples are standardised together. The waymarks are spaced so that each step has about the same divergence: first
    by means and covariances, then by what a small network, trained for a moment, can tell apart of held-out samples.
    The bridges are trained together, and the weights that are kept are those with the least held-out loss of all
    bridges (which, unlike the log loss of the whole way, does see a ratio that is too large or too small by a factor).

    Good for log-ratios of tens of nats, where p and q may be told apart without error. The more columns, the more
    samples and steps it takes.

    Args:
        bridges: Number m of bridges; chosen by ``nats`` if None.
        nats: Divergence of neighbours that is aimed at where ``bridges`` is None.
        mixing: "linear", or "columns": from q one column after another (no more bridges than columns).
        heads: "network", or "quadratic": each bridge is linear in the columns and their products, which holds the truth
            where p and q are normal, and is not generic.
        hidden: Widths of the hidden layers; two of 64 to 256, by the number of columns, if None.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        robust: Standardise by quantiles and squash tails: for samples that vary over orders of magnitude.
        epochs: Passes over the samples; chosen by the numbers of samples and columns if None.
        batch_size: Samples in a step, of p and q together, each used for all waymarks; chosen by their number if None.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW; chosen by the number of samples if None.
        patience: Epochs without a better held-out loss before it stops; None goes on to the end.
        pilot: Steps of the small network that corrects the spacing; 0 leaves it to means and covariances.
        validation: Share of each set to hold out.

    Attributes:
        waymarks: The waymarks of standardised samples.
        bridge_losses: Held-out log loss of each bridge in nats, with shape (m,); 0.693 if nothing can be told.
        history: How the training went; losses are means over the bridges, of p's and q's side together.

    Raises:
        ValueError: If a setting is out of its range or no such name exists.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> p, q = 0.01 * torch.randn(2000, 1, generator=draw), torch.randn(2000, 1, generator=draw)
        >>> ratio = TelescopingRatio(hidden=(32, 32), epochs=60).fit(p, q, seed=0)
        >>> abs(ratio.divergence("kl") - 4.1) < 0.6  # log 100 - 1/2
        True
    """

    name = "telescoping"

    def __init__(
        self,
        bridges: int | None = None,
        *,
        nats: float = 0.5,
        mixing: Literal["linear", "columns"] = "linear",
        heads: Literal["network", "quadratic"] = "network",
        hidden: Sequence[int] | None = None,
        activation: str = "silu",
        robust: bool = False,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float | None = None,
        patience: int | None = None,
        pilot: int = 100,
        validation: float = 0.1,
    ) -> None:
        if bridges is not None and bridges < 1:
            raise ValueError(f"bridges: expected a positive number; got {bridges}")
        if not nats > 0:
            raise ValueError(f"nats: expected a positive number; got {nats}")
        for what, value, known in (
            ("mixing", mixing, ("linear", "columns")),
            ("heads", heads, ("network", "quadratic")),
        ):
            if value not in known:
                raise ValueError(f"{what}: expected one of {', '.join(known)}; got {value!r}")
        SkipMLP(1, 1, hidden or (), activation=activation, device="meta")  # refuses widths and activations
        if not 0 < validation < 1:
            raise ValueError(f"validation: expected a share inside (0, 1); got {validation}")
        self.bridges = bridges
        self.nats = nats
        self.mixing: Literal["linear", "columns"] = mixing
        self.heads: Literal["network", "quadratic"] = heads
        self.hidden = None if hidden is None else tuple(hidden)
        self.activation = activation
        self.robust = robust
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.pilot = pilot
        self.validation = validation

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        pair = Pair.of(p, q, self.validation, seed, lambda p, q: Standardiser.fit(p, q, robust=self.robust))
        self._standardiser, learned, held_out = pair.standardiser, pair.learned, pair.held_out
        scales = Scales.fit(learned[0][0], learned[1][0])
        self.waymarks = self._place(learned, held_out, scales, seed)
        network = self._build(scales, self.waymarks.bridges, seed)
        rows = max(len(samples) for samples in pair.raw)
        batch = self.batch_size or 2 * min(512 if self.waymarks.bridges <= 8 else 256, max(32, rows // 8))
        steps = 500 * max(0.6, (rows / 10_000) ** 0.3) * max(1.0, p.shape[1] / 40) ** 0.75
        self.history: History = _learn(
            network,
            self.waymarks,
            learned,
            validation=held_out,
            epochs=self.epochs or math.ceil(steps / _steps(learned, batch)),
            batch_size=batch,
            learning_rate=self.learning_rate,
            weight_decay=(0.3 if rows < 30_000 else 0.1) if self.weight_decay is None else self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        self._network = network.requires_grad_(False)
        self.held_out = pair.test
        self.bridge_losses = _held_out_losses(network, self.waymarks, held_out)

    def held_out_waymarks(self) -> Tensor:
        """Samples of the waymarks that were not learned from, in the units of p and q: shape (m + 1, n, d), float64.

        Raises:
            RuntimeError: If the estimator has not been fitted.
        """
        self._check_fitted()
        location, scale = (self._standardiser.get_buffer(name).cpu().double() for name in ("location", "scale"))
        exact = Standardiser(location, scale, squash=self.robust)
        return exact.inverse(self.waymarks.cpu()(*(exact(side.double()) for side in self.held_out)))

    def held_out_bridge_loss(self, log_ratio: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Held-out log loss of bridges by another estimator, to be compared with ``bridge_losses``: the same samples.

        Where the log loss of the whole way cannot tell two ratios apart, the sum of these losses can.

        Args:
            log_ratio: ``log_ratio(k, x)`` estimates log p_k(x) / p_{k+1}(x) at x of shape (n, d), in the units of the
                samples: shape (n,).

        Returns:
            The losses in nats, with shape (m,).

        Raises:
            RuntimeError: If the estimator has not been fitted.
        """
        return bridge_losses(self.held_out_waymarks(), log_ratio)

    def log_ratios(self, x: Any) -> Tensor:
        """Log-ratio of each bridge at points of shape (n, d), whose sum is :meth:`log_ratio`: shape (n, m).

        Raises:
            RuntimeError: If the estimator has not been fitted.
            TypeError: If ``x`` is not numeric.
            ValueError: If ``x`` has another width than the samples had, or holds NaN or infinity.
        """
        self._check_fitted()
        return self._bridges(as_samples(x, "x", rows=0, width=self.width))

    def _bridges(self, x: Tensor) -> Tensor:
        return self._network(self._standardiser(x.to(self._standardiser.location.device)).float()).to(x.device)

    def _log_ratio(self, x: Tensor) -> Tensor:
        return self._bridges(x).sum(1)

    def _place(
        self, learned: list[tuple[Tensor]], held_out: list[tuple[Tensor]], scales: Scales, seed: int
    ) -> Waymarks:
        """Waymarks at equal distances."""
        device, width = learned[0][0].device, learned[0][0].shape[1]
        way = Way(learned[0][0], learned[1][0])
        count = self.bridges or way.bridges(self.nats, MOST)
        if self.mixing == "columns":
            return Waymarks.columns(count, width).to(device)
        for _ in range(2 if self.pilot and self.bridges != 1 else 0):
            marks = Waymarks.linear(way.log_odds(count), width).to(device)
            network = nn.Sequential(scales, SkipMLP(scales.outputs, count, (64, 64), seed=seed, device=device))
            steps = _steps(learned, 512)
            _learn(
                network,
                marks,
                learned,
                validation=0,
                epochs=math.ceil(self.pilot / steps),
                batch_size=512,
                learning_rate=5e-3,
                patience=None,
                average=0.9,
                seed=seed,
            )
            way.stretch(_held_out_losses(network, marks, held_out))
            before, count = count, self.bridges or way.bridges(self.nats, MOST)
            if count <= 1.25 * before:  # a step that is told without error may be longer still
                break
        return Waymarks.linear(way.log_odds(count), width).to(device)

    def _build(self, scales: Scales, bridges: int, seed: int | None) -> nn.Module:
        device = scales.location.device
        if self.heads == "quadratic":
            return _Quadratic(scales.width, bridges).to(device)
        layer = 64 if scales.width <= 4 else 128 if scales.width <= 16 else 256
        hidden = (layer, layer) if self.hidden is None else self.hidden
        network = SkipMLP(scales.outputs, bridges, hidden, activation=self.activation, seed=seed, device=device)
        return nn.Sequential(scales, network)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        modules = {"network": self._network, "standardiser": self._standardiser, "waymarks": self.waymarks}
        parts = {name: module.state_dict() for name, module in modules.items()}
        return joined(parts) | {"bridge_losses": self.bridge_losses}, {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        parts = parted(tensors)
        self.bridge_losses = tensors["bridge_losses"].cpu()
        self._standardiser = Standardiser(**parts["standardiser"], squash=self.robust)
        self.waymarks = Waymarks(**parts["waymarks"])
        state = parts["network"]
        scales = {key.removeprefix("0."): value for key, value in state.items() if key.startswith("0.")}
        if self.heads == "quadratic":
            network: nn.Module = _Quadratic(self.width, self.waymarks.bridges).to(self._standardiser.location.device)
        else:
            network = self._build(Scales(**scales, width=self.width), self.waymarks.bridges, None)
        network.load_state_dict(state)
        self._network = network.requires_grad_(False).eval()

    def __repr__(self) -> str:
        if not self.width:
            return "TelescopingRatio(not fitted)"
        return f"TelescopingRatio({self.waymarks.bridges} bridges; fitted to {self.width} columns)"


class _Quadratic(nn.Module):
    """A quadratic function for each bridge."""

    def __init__(self, width: int, bridges: int) -> None:
        super().__init__()
        self.form, self.line = nn.Linear(width, bridges * width, bias=False), nn.Linear(width, bridges)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        forms = self.form(x).unflatten(-1, (self.line.out_features, -1))
        return (forms * x[..., None, :]).sum(-1) + self.line(x)


def _learn(network: nn.Module, marks: Waymarks, data: list[tuple[Tensor]], **settings: Any) -> History:
    """Train the outputs of ``network`` to tell each waymark from the next."""
    k = torch.arange(marks.bridges, device=marks.weights_p.device)

    def loss(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
        outputs = network(marks(p, q))  # (m + 1, n, m)
        return softplus(-outputs[k, :, k]).mean() + softplus(outputs[k + 1, :, k]).mean()

    return train(network, loss, data, **settings)


def _held_out_losses(network: nn.Module, marks: Waymarks, held_out: list[tuple[Tensor]]) -> Tensor:
    with torch.no_grad():
        return bridge_losses(marks(held_out[0][0], held_out[1][0]), lambda k, x: network(x)[:, k]).cpu()


def _steps(data: list[tuple[Tensor]], batch_size: int) -> int:
    """Steps of an epoch of ``train``."""
    lengths = [len(group[0]) for group in data]
    return min(math.ceil(sum(lengths) / batch_size), *lengths)
