r"""The generator whose density is known: a normalizing flow, learned by likelihood or by comparison.

.. math:: \log q(x \mid c) = \log N(f(x, c); 0, I) + \log \left| \det \frac{\partial f}{\partial x} \right|,
    \quad x = f^{-1}(z, c), \; z \sim N(0, I)

:math:`f` takes a sample to its *code* and its inverse is the generator. Couplings (Real NVP) go both ways at the same
price; autoregressive maps are more flexible, and go from noise to samples one entry after the other. Maps are zuko's.

References:
    | Density estimation using Real NVP (Dinh, Sohl-Dickstein and Bengio, 2017)
    | https://arxiv.org/abs/1605.08803
    | Neural Spline Flows (Durkan, Bekasov, Murray and Papamakarios, 2019)
    | https://arxiv.org/abs/1906.04032
    | Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou and Murray, 2017)
    | https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.generators.networks.base import Bounds, Generator

KINDS = ("affine-coupling", "spline-coupling", "affine-autoregressive", "spline-autoregressive")
"""Kinds of map: Real NVP, neural spline couplings, MAF, and autoregressive neural splines (NSF)."""


class FlowGenerator(Generator):
    r"""An invertible network: :meth:`forward` makes samples of noise, :meth:`latent` takes them back to it.

    It starts as the identity in standard units, so its density at the start is the normal one with the data's
    location and scale. Samples of any shape are taken as rows. Between bounds, entries pass a logistic function:
    its density is that of samples strictly inside, and 0 elsewhere.

    Args:
        event_shape: Shape of one sample; an int d is (d,). The noise has as many entries.
        condition: Width of a condition; 0 for none.
        kind: A name in ``KINDS``. In one dimension all couplings are maps whose parameters depend on nothing but c.
        transforms: How many maps follow one another.
        hidden: Widths of the hidden layers of each.
        bins: Bins of each spline, over [-5, 5] in standard units; beyond them a spline is the identity.
        shuffle: Whether entries are split (or ordered) at random in each map; if not, they alternate.
        classes: See :class:`~implicit_infer.generators.networks.base.Generator`.
        embedding: The same.
        bounds: The same.
        seed: Seed of the initial weights and of the shuffling.
        dtype: Floating type of the weights; float32 if None.
        device: Where they lie.

    Raises:
        ValueError: If there is no such kind, or a number is not positive.

    Example:
        >>> import torch
        >>> flow = FlowGenerator(2, seed=0)
        >>> x = flow.sample(4, seed=0)
        >>> flow.log_prob(x).shape, flow.latent(x).shape
        (torch.Size([4]), torch.Size([4, 2]))
    """

    name = "flow"

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: int = 0,
        kind: str = "affine-coupling",
        transforms: int = 6,
        hidden: Sequence[int] = (64, 64),
        *,
        bins: int = 8,
        shuffle: bool = False,
        classes: int | None = None,
        embedding: int | None = None,
        bounds: Bounds = None,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}; got {kind!r}")
        if transforms < 1 or bins < 2 or any(width < 1 for width in hidden):
            raise ValueError(
                f"transforms, hidden, bins: expected positive ints and at least 2 bins; got {transforms}, "
                f"{tuple(hidden)}, {bins}"
            )
        shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        with forked(resolve_seed(seed)):
            super().__init__(shape, math.prod(shape), condition, classes, embedding, bounds)
            self.flow = _maps(kind, self.size, self.encoded_width, transforms, tuple(hidden), bins, shuffle)
        _start_as_identity(self.flow)
        self.config |= {
            "kind": kind,
            "transforms": transforms,
            "hidden": list(hidden),
            "bins": bins,
            "shuffle": shuffle,
        }
        del self.config["latent"]  # the width of a sample says it
        self.to(dtype=dtype, device=device)

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The inverse map of the noise, in standard units."""
        return self.flow.transform(condition).inv(z).reshape(-1, *self.event_shape)

    def latent(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        r"""The codes f(x, c) of samples: standard normal where the samples follow the flow's own law.

        Args:
            x: Samples with shape (n, \*event_shape).
            condition: What they were drawn given, with n rows, or None.

        Returns:
            Codes with shape (n, d), d the entries of a sample; not finite for samples outside the bounds.
        """
        rows, _ = self._standard(x)
        return self.flow.transform(self.encode(condition, len(x)))(rows)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        r"""The log-density of samples, differentiable in the weights and in the samples.

        Args:
            x: Samples with shape (n, \*event_shape).
            condition: What they were drawn given, with n rows, or None.

        Returns:
            Log-densities in nats with shape (n,); -inf outside the bounds.

        Raises:
            ValueError: If the shape is another.
        """
        rows, log_slope = self._standard(x)
        inside = log_slope.isfinite()
        rows = torch.where(inside[:, None], rows, 0)  # a gradient through what is outside would be NaN
        codes, log_determinant = self.flow.transform(self.encode(condition, len(x))).call_and_ladj(rows)
        normal = -0.5 * codes.square().sum(1) - 0.5 * self.size * math.log(2 * math.pi)
        return torch.where(inside, normal + log_determinant + log_slope, -math.inf)

    def _standard(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples as rows in standard units, and the log-slope of that, with shape (n,)."""
        if x.shape[1:] != self.event_shape:
            raise ValueError(f"x: expected shape (n, {', '.join(map(str, self.event_shape))}); got {tuple(x.shape)}")
        rows = x.flatten(1).to(self.location.dtype)
        log_slope = -self.scale.log().sum().expand(len(x))
        if self.bounds is not None:
            low, high = self.bounds
            share = (rows - low) / (high - low)
            inside = ((share > 0) & (share < 1)).all(1)
            share = torch.where(inside[:, None], share, 0.5)
            rows = torch.logit(share)
            # d logit(u) / du = 1 / (u (1 - u)), and logsigmoid is safe at both ends
            bent = -functional.logsigmoid(rows) - functional.logsigmoid(-rows) - math.log(high - low)
            log_slope = torch.where(inside, log_slope + bent.sum(1), -math.inf)
        return (rows - self.location.flatten()) / self.scale.flatten(), log_slope

    @torch.no_grad()
    def fit_scale(self, data: Tensor) -> None:
        r"""Take the location and the scale of the data; between bounds, those of the logits of the data.

        Args:
            data: With shape (n, \*event_shape), n at least 2, strictly inside the bounds where there are any.

        Raises:
            ValueError: If the shape is another, or a value is not inside the bounds.
        """
        super().fit_scale(data)
        if self.bounds is None:
            return
        low, high = self.bounds
        share = (data.double() - low) / (high - low)
        if not ((share > 0) & (share < 1)).all():
            raise ValueError(
                f"data: expected values strictly inside the bounds {self.bounds}; got {float(data.min())} to "
                f"{float(data.max())}"
            )
        self._take_scale(torch.logit(share))


def _maps(
    kind: str, features: int, context: int, transforms: int, hidden: tuple[int, ...], bins: int, shuffle: bool
) -> Any:
    import zuko

    settings: dict[str, Any] = {"transforms": transforms, "hidden_features": hidden}
    if kind.startswith("spline"):
        # zuko's smallest slope of 1e-3 is that of both kinds
        settings["univariate"] = partial(zuko.transforms.MonotonicRQSTransform, slope=1e-3)
        settings["shapes"] = [(bins,), (bins,), (bins - 1,)]
    if kind.endswith("coupling"):
        return zuko.flows.RealNVP(features, context, randmask=shuffle, **settings)
    return zuko.flows.MAF(features, context, randperm=shuffle, **settings)


@torch.no_grad()
def _start_as_identity(flow: Any) -> None:
    for transform in flow.transform.transforms:
        # one entry without a condition has its parameters themselves, and no network
        last = transform.hyper[-1] if hasattr(transform, "hyper") else transform
        for parameter in last.parameters():
            parameter.zero_()
