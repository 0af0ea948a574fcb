r"""The ratio of two normalizing flows: densities of any smooth shape, however far p and q are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.train import History, Progress, split
from implicit_estimators.ratio.densities.coordinates import Coordinates
from implicit_estimators.ratio.densities.gaussian import axes_of, shrinking_first
from implicit_estimators.ratio.densities.neural import WhiteFlow, check_flow
from implicit_estimators.ratio.densities.normal import SHRINKAGES, UNBIASED, Normal
from implicit_estimators.ratio.densities.plug_in import PlugInRatio


class FlowRatio(PlugInRatio):
    r"""The ratio of two densities, each a normal density bent by a normalizing flow.

    .. math:: \log \hat p(x) = \log N(f(w); 0, I) + \log |\det f'(w)| + \log |\det A|, \quad w = A^\top (x - m)

    and the same for q. Rows of each set are whitened by its own normal density, and the flow f, trained by maximum
    likelihood, starts as the identity: so it starts at
    :class:`~implicit_estimators.ratio.densities.gaussian.GaussianRatio`, and stays there if held-out rows are no more
    likely elsewhere. A share of each set is held out for that, for early stopping, and for :meth:`check`. No sample of
    q is needed to learn p: nothing hinges on overlap. But each density errs where it has no samples, and errors of both
    add up: where p and q differ little, a classifier tells more.

    Args:
        flow: "nsf" (rational-quadratic splines) or "maf" (affine maps: fewer weights).
        transforms: How many autoregressive maps follow one another.
        hidden: Widths of the hidden layers of each.
        bins: Bins of each spline; of no use to "maf".
        epochs: Largest number of passes over each set.
        batch_size: Samples in a step.
        learning_rate: Step size of AdamW at the start.
        patience: Epochs without a better held-out likelihood before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such flow, or a number is out of its range.

    References:
        | Neural Spline Flows (Durkan, Bekasov, Murray and Papamakarios, 2019)
        | https://arxiv.org/abs/1906.04032
    """

    name = "flow"

    def __init__(
        self,
        flow: str = "nsf",
        *,
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        epochs: int = 40,
        batch_size: int = 512,
        learning_rate: float = 5e-3,
        patience: int = 6,
        validation: float = 0.1,
    ) -> None:
        check_flow(flow, transforms, hidden, bins, validation)
        self.flow = flow
        self.transforms = transforms
        self.hidden = tuple(hidden)
        self.bins = bins
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation = validation

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        (learn_p, learn_q), (test_p, test_q) = (
            [group[0] for group in part] for part in split([(p,), (q,)], self.validation, seed)
        )
        shrink = shrinking_first(learn_p, learn_q)[0]
        self._coordinates = Coordinates.fit(learn_p, learn_q)
        axes = axes_of(self._coordinates, shrink)
        self._normals, self._flows = [], []
        self.histories: list[History] = []
        for learned, held_out in ((learn_p, test_p), (learn_q, test_q)):
            u = self._coordinates(learned)
            normal = Normal.fit(u, axes, seed, SHRINKAGES if shrink else UNBIASED)
            self._normals.append(normal)
            if not self._coordinates.width:
                continue
            flow = self._build(u.shape[1], seed, device)
            history = flow.learn(
                [normal.whiten(u)],
                [normal.whiten(self._coordinates(held_out))],
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                patience=self.patience,
                seed=seed,
                progress=progress,
            )
            self._flows.append(flow)
            self.histories.append(history)
        self.held_out = (test_p.cpu(), test_q.cpu())
        with torch.no_grad():
            self.held_out_log_densities = (self._one(0, test_p).cpu(), self._one(1, test_q).cpu())

    def _build(self, width: int, seed: int, device: torch.device) -> WhiteFlow:
        return WhiteFlow(self.flow, width, self.transforms, self.hidden, self.bins, seed, device)

    def _one(self, which: int, x: Tensor) -> Tensor:
        u, normal = self._coordinates(x), self._normals[which]
        if not self._flows:  # nothing varies
            return normal.log_density(u)
        constant = normal.log_determinant + self._coordinates.log_determinant
        return self._flows[which].log_density(normal.whiten(u)) + constant

    def _log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._one(0, x), self._one(1, x)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self._coordinates.tensors("coordinates") | self._held_out_state()
        for side, normal in zip("pq", self._normals, strict=True):
            tensors |= normal.tensors(f"{side}.normal")
        for i, flow in enumerate(self._flows):
            tensors |= {f"{'pq'[i]}.flow.{name}": value for name, value in flow.state_dict().items()}
        return tensors, {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._restore_held_out(tensors)
        self._coordinates = Coordinates.restore(tensors, "coordinates")
        self._normals = [Normal.restore(tensors, f"{side}.normal") for side in "pq"]
        self._flows = []
        for side in "pq" if self._coordinates.width else "":
            flow = self._build(self._coordinates.width, 0, self._coordinates.location.device)
            start = f"{side}.flow."
            flow.load_state_dict({n.removeprefix(start): value for n, value in tensors.items() if n.startswith(start)})
            self._flows.append(flow.requires_grad_(False).eval())
