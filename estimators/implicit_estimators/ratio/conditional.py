r"""The ratio of two conditional densities, which for a simulator's parameters given its data is that of the posteriors.

.. math:: r(x \mid c) = \frac{p(x \mid c)}{q(x \mid c)} = \frac{p(x, c)}{q(x, c)} \cdot \frac{q(c)}{p(c)}

One estimator learns the joint ratio from pairs side by side. Where the conditions come from the same law on both
sides, that is all; where they do not, a second learns p(c)/q(c), which is divided out. Without q, the pairs are
compared with themselves shuffled: then q(x | c) is the marginal p(x), as in neural ratio estimation.

References:
    | Likelihood-free MCMC with Amortized Approximate Ratio Estimators (Hermans, Begy and Louppe, 2020)
    | https://arxiv.org/abs/1903.04057
"""

from __future__ import annotations

import copy
import os
from typing import Any, Self

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair, as_samples
from implicit_estimators.networks import storage
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.check import RatioCheck
from implicit_estimators.ratio.registry import RATIO_ESTIMATORS
from implicit_estimators.seeds import Seed, resolve_seed, stream


class ConditionalRatio:
    r"""Estimates :math:`\log p(x \mid c) / q(x \mid c)` from pairs (x, c), by any estimator of ratios.

    Args:
        base: An estimator with its settings; it is copied, and the copies are fitted.

    Raises:
        TypeError: If ``base`` is not an estimator.

    Attributes:
        base: The estimator, not fitted.
        joint: The fitted ratio of pairs (x, c) side by side.
        conditions: The fitted ratio p(c)/q(c), or None where the conditions are of one law.
        width: Columns of x; 0 before :meth:`fit`.

    Example:
        >>> from implicit_estimators.ratio import LogisticRatio
        >>> c = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> x = c + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = ConditionalRatio(LogisticRatio(hidden=(32,))).fit(x, condition=c, seed=0)
        >>> near, far = ratio.log_ratio([[1.0], [-2.0]], condition=[1.5])
        >>> bool(near > far)
        True
    """

    name = "conditional"

    def __init__(self, base: RatioEstimator) -> None:
        if not isinstance(base, RatioEstimator):
            raise TypeError(f"base: expected a RatioEstimator; got {type(base).__name__}")
        self.base = base
        self.joint = copy.deepcopy(base)
        self.conditions: RatioEstimator | None = None
        self.width = 0

    def fit(
        self,
        p: Any,
        q: Any = None,
        *,
        condition: Any,
        same_conditions: bool | None = None,
        seed: Seed = None,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Self:
        r"""Learn the ratio.

        Args:
            p: Samples x of the numerator, with shape (n, d) or (n,).
            q: Samples x of the denominator, with shape (m, d) or (m,); None for the marginal of ``p``.
            condition: The conditions of ``p`` and those of ``q`` as a tuple, each with as many rows as its samples;
                those of ``p`` alone where ``q`` is None.
            same_conditions: Whether both conditions are of one law; None takes them for it only if they are the same
                rows, in any order.
            seed: An int, a ``torch.Generator`` or None.
            device: Where to train.
            progress: ``progress(epoch, figures)``, called as training goes.

        Returns:
            The estimator itself.

        Raises:
            TypeError: If samples are not numeric, or ``condition`` is no tuple of two where ``q`` is given.
            ValueError: If widths differ, samples and conditions differ in length, a set has fewer than 2 rows, or
                values are NaN or infinite.
        """
        root = resolve_seed(seed)
        if q is None:
            if isinstance(condition, tuple) and len(condition) == 1:
                (condition,) = condition
            x_p, c_p = as_samples(p, "p", rows=2).detach(), as_samples(condition, "condition", rows=2).detach()
            shift = int(torch.randint(1, len(x_p), (), generator=stream(root, "draws")))
            x_q, c_q, same_conditions = x_p.roll(shift, 0), c_p, True
        else:
            if not isinstance(condition, tuple) or len(condition) != 2:
                raise TypeError(
                    f"condition: expected a tuple of the conditions of p and of q; got {type(condition).__name__}"
                )
            x_p, x_q = (side.detach() for side in as_pair(p, q, rows=2))
            c_p, c_q = (side.detach() for side in as_pair(*condition, ("condition of p", "condition of q"), rows=2))
        for name, x, c in (("p", x_p, c_p), ("q", x_q, c_q)):
            if len(x) != len(c):
                raise ValueError(
                    f"condition: expected one row for each of the {len(x)} samples of {name}; got {len(c)}"
                )
        if same_conditions is None:
            same_conditions = _same_rows(c_p, c_q)
        self.joint = copy.deepcopy(self.base).fit(
            _beside(x_p, c_p), _beside(x_q, c_q), seed=root, device=device, progress=progress
        )
        self.conditions = None
        if not same_conditions:
            self.conditions = copy.deepcopy(self.base).fit(c_p, c_q, seed=root, device=device, progress=progress)
        self.width = x_p.shape[1]
        return self

    def log_ratio(self, x: Any, condition: Any) -> Tensor:
        r"""Log p(x | c)/q(x | c), in nats.

        Args:
            x: Points with shape (n, d), or (n,) for d = 1; one row meets every condition.
            condition: Conditions with shape (n, k), or (n,) for k = 1; one row meets every point. With k > 1, one
                condition may come with shape (k,).

        Returns:
            Log-ratios with shape (n,) and dtype float32.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            TypeError: If points or conditions are not numeric.
            ValueError: If their widths are others than before, they differ in length, or hold NaN or infinity.
        """
        if not self.width:
            raise RuntimeError("ConditionalRatio: call fit(p, q, condition=...) first")
        k = self.joint.width - self.width
        points = _rows(x, "x", self.width)
        given = _rows(condition, "condition", k).to(points.device)
        if len(points) != len(given) and 1 not in (len(points), len(given)):
            raise ValueError(
                f"x, condition: expected as many rows in both, or one in either; got {len(points)} and {len(given)}"
            )
        n = len(given) if len(points) == 1 else len(points)
        found = self.joint.log_ratio(_beside(points.expand(n, -1), given.expand(n, -1)))
        return found if self.conditions is None else found - self.conditions.log_ratio(given).expand(n)

    def ratio(self, x: Any, condition: Any) -> Tensor:
        """p(x | c)/q(x | c), with shape (n,), in float64; see :meth:`log_ratio`."""
        return self.log_ratio(x, condition).double().exp()

    def check(self, *, seed: Seed = 0) -> RatioCheck:
        """Hold the ratio of the pairs against pairs that it was not learned from (see :class:`RatioCheck`).

        Raises:
            RuntimeError: If the estimator has not been fitted.
        """
        return self.joint.check(seed=seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        Raises:
            RuntimeError: If it has not been fitted.
            TypeError: If a setting is an object that has no name.
        """
        tensors: dict[str, Tensor] = {}
        config: dict[str, Any] = {"width": self.width}
        for role, part in (("joint", self.joint), ("conditions", self.conditions)):
            if part is not None:
                packed, settings = part._pack()
                tensors |= {f"{role}.{name}": value for name, value in packed.items()}
                config[role] = {"kind": part.name, **settings}
        storage.save(path, self.name, tensors, config)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Read an estimator that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds something else.
        """
        tensors, config = storage.load(path, cls.name, device)
        parts = {}
        for role in ("joint", "conditions"):
            if role in config:
                mine = {name.removeprefix(f"{role}."): x for name, x in tensors.items() if name.startswith(f"{role}.")}
                parts[role] = RATIO_ESTIMATORS[config[role]["kind"]]._unpack(mine, config[role])
        joint = parts["joint"]
        found = cls(type(joint)(**joint.settings()))
        found.joint, found.conditions, found.width = joint, parts.get("conditions"), config["width"]
        return found

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"ConditionalRatio({self.base!r}; {state})"


def _beside(x: Tensor, condition: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, condition.dtype)
    return torch.cat([x.to(dtype), condition.to(x.device, dtype)], 1)


def _rows(value: Any, name: str, width: int) -> Tensor:
    """Rows of a known width, where a row may come by itself."""
    if width > 1:
        value = value if isinstance(value, Tensor) or hasattr(value, "columns") else torch.as_tensor(value)
        if value.ndim == 1:
            value = value[None, :]
    return as_samples(value, name, rows=0, width=width)


def _same_rows(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return torch.equal(first, second) or torch.equal(*(rows.double().unique(dim=0) for rows in (first, second)))
