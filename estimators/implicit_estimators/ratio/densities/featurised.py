r"""A ratio in the coordinates of a flow that makes p and q together simple: any estimator, on easier samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.train import History, Progress, split
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.densities.coordinates import Coordinates
from implicit_estimators.ratio.densities.neural import WhiteFlow, check_flow
from implicit_estimators.ratio.registry import RATIO_ESTIMATORS


class FeaturisedRatio(RatioEstimator):
    r"""Another estimator's ratio of samples that a normalizing flow has mapped.

    .. math:: \frac{p(x)}{q(x)} = \frac{p'(f(x))}{q'(f(x))}

    for any invertible f, since both densities gain the same determinant. The flow f is trained by maximum likelihood on
    the even mixture of p and q, so that :math:`f(x)` of both together is nearly standard normal: of one scale, without
    tails, gaps or thin curved sheets. It never sees which sample is whose, and cannot spoil the ratio: a poor flow
    leaves the base estimator a harder task, and nothing worse. A share of each set is held out for the flow's early
    stopping and for :meth:`check`.

    The paper takes the flow's coordinates likewise; its conditional variant, in which f is trained to make the base
    estimator's task easy, is not this one.

    Args:
        base: A name in ``RATIO_ESTIMATORS``, or an estimator.
        base_settings: Settings of the base estimator where it is given by name.
        robust: Start the map by quantiles and squashed tails: for samples that vary over orders of magnitude.
        flow: "nsf" or "maf".
        transforms: How many autoregressive maps follow one another.
        hidden: Widths of the hidden layers of each.
        bins: Bins of each spline; of no use to "maf".
        epochs: Largest number of passes of the flow.
        batch_size: Samples in a step, of p and q together.
        learning_rate: Step size of AdamW at the start.
        patience: Epochs without a better held-out likelihood before the flow stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such flow, a number is out of its range, or settings are given for an estimator that
            has its own.

    References:
        | Featurized Density Ratio Estimation (Choi, Liao and Ermon, 2021)
        | https://arxiv.org/abs/2107.02212
    """

    name = "featurised"

    def __init__(
        self,
        base: str | RatioEstimator = "logistic",
        base_settings: Mapping[str, Any] | None = None,
        *,
        robust: bool = True,
        flow: str = "nsf",
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        epochs: int = 40,
        batch_size: int = 1024,
        learning_rate: float = 5e-3,
        patience: int = 6,
        validation: float = 0.1,
    ) -> None:
        check_flow(flow, transforms, hidden, bins, validation)
        if base_settings is not None and not isinstance(base, str):
            raise ValueError("base_settings: expected none with an estimator, which has its own")
        self.base = base
        self.base_settings = base_settings
        self.robust = robust
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
        estimator = self._estimator()
        learn, test = ([group[0] for group in part] for part in split([(p,), (q,)], self.validation, seed))
        self._standardiser = Standardiser.fit(*(x.double() for x in learn), robust=self.robust)
        self._coordinates = Coordinates.fit(*(self._standardiser(x.double()) for x in learn))
        self._flow: WhiteFlow | None = None
        if self._coordinates.width:
            self._flow = self._build(seed, device)
            self.history: History = self._flow.learn(
                [self._white(x) for x in learn],
                [self._white(x) for x in test],
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                patience=self.patience,
                seed=seed,
                progress=progress,
            )
        with torch.no_grad():
            # estimators want two rows; of two, one was held out
            latent = [self._map(x if len(x) > 1 else x.expand(2, -1)) for x in learn]
        self._base = estimator.fit(*latent, seed=seed, device=device, progress=progress)
        self.held_out = (test[0].cpu(), test[1].cpu())

    def _estimator(self) -> RatioEstimator:
        if not isinstance(self.base, str):
            return type(self.base)(**self.base.settings())  # the user's own stays as it was
        if self.base not in RATIO_ESTIMATORS:
            raise ValueError(f"base: expected one of {', '.join(RATIO_ESTIMATORS)}; got {self.base!r}")
        return RATIO_ESTIMATORS[self.base](**(self.base_settings or {}))

    def _build(self, seed: int, device: torch.device) -> WhiteFlow:
        width = self._coordinates.width
        return WhiteFlow(self.flow, width, self.transforms, self.hidden, self.bins, seed, device)

    def _white(self, x: Tensor) -> Tensor:
        return self._coordinates(self._standardiser(x.to(self._standardiser.location.device).double()))

    def _map(self, x: Tensor) -> Tensor:
        u = self._white(x)
        if self._flow is None:  # nothing varies
            return u.new_zeros(len(u), 1)
        return self._flow.map(u)[0]

    def _log_ratio(self, x: Tensor) -> Tensor:
        return self._base._log_ratio(self._map(x)).to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not isinstance(self.base, str):
            raise TypeError(f"base: only named base estimators can be saved; got {self.base!r}")
        tensors, rest = self._base._state()
        tensors = {f"base.{name}": value for name, value in tensors.items()}
        tensors |= self._coordinates.tensors("coordinates")
        tensors |= {f"standardiser.{name}": value for name, value in self._standardiser.state_dict().items()}
        if self._flow is not None:
            tensors |= {f"flow.{name}": value for name, value in self._flow.state_dict().items()}
        return tensors, {"base": rest, "latent": self._base.width}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._coordinates = Coordinates.restore(tensors, "coordinates")
        location, scale = tensors["standardiser.location"], tensors["standardiser.scale"]
        self._standardiser = Standardiser(location, scale, squash=self.robust)
        self._flow = None
        if self._coordinates.width:
            self._flow = self._build(0, self._coordinates.location.device)
            self._flow.load_state_dict(_under("flow.", tensors))
            self._flow.requires_grad_(False).eval()
        self._base = self._estimator()
        self._base.width = rest["latent"]
        self._base._restore(_under("base.", tensors), rest["base"])


def _under(start: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
