"""The one face of every density-ratio estimator: ``fit(p, q)``, ``log_ratio(x)``, and its own check."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from implicit_estimators.divergences import Divergence, divergence
from implicit_estimators.estimate import Estimate
from implicit_estimators.inputs import as_pair, as_samples
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.check import RatioCheck, check_ratio
from implicit_estimators.seeds import Seed, resolve_seed

CHUNK = 2**17
"""Rows evaluated at a time."""


class RatioEstimator:
    r"""Estimates :math:`\log p(x) / q(x)` from samples of p and of q.

    A child sets ``name`` and writes ``_fit`` and ``_log_ratio``; ``_fit`` leaves samples that it did not learn from in
    ``held_out``.

    Attributes:
        name: Name in ``RATIO_ESTIMATORS``.
        width: Columns of the samples; 0 before :meth:`fit`.
        held_out: Samples of p and of q that were not learned from, with shapes (n, d) and (m, d), on the CPU.
    """

    name: ClassVar[str]
    width: int = 0
    held_out: tuple[Tensor, Tensor]

    def fit(
        self,
        p: Any,
        q: Any,
        *,
        seed: Seed = None,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Self:
        """Learn the ratio of the density that ``p`` was drawn from to that of ``q``.

        Args:
            p: Samples of the numerator, with shape (n, d) or (n,): tensor, array or frame.
            q: Samples of the denominator, with shape (m, d) or (m,).
            seed: An int, a ``torch.Generator`` or None.
            device: Where to train.
            progress: ``progress(epoch, figures)``, called as training goes.

        Returns:
            The estimator itself.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If widths differ, a set has fewer than 2 rows, or values are NaN or infinite.
        """
        samples_p, samples_q = as_pair(p, q, rows=2)
        device = torch.device(device)
        samples_p, samples_q = samples_p.detach().to(device), samples_q.detach().to(device)
        self._fit(samples_p, samples_q, resolve_seed(seed), device, progress)
        self.width = samples_p.shape[1]
        return self

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} must write _fit(p, q, seed, device, progress)")

    def _log_ratio(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _log_ratio(x)")

    def log_ratio(self, x: Any) -> Tensor:
        """Log p(x)/q(x), in nats.

        Args:
            x: Points with shape (n, d), or (n,) for d = 1. If it is a tensor that requires a gradient, so does the
                result.

        Returns:
            Log-ratios with shape (n,) and dtype float32, on the device of ``x``.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            TypeError: If ``x`` is not numeric.
            ValueError: If ``x`` has another width than the samples had, or holds NaN or infinity.
        """
        self._check_fitted()
        points = as_samples(x, "x", rows=0, width=self.width)
        if points.requires_grad and torch.is_grad_enabled():
            return self._log_ratio(points)
        with torch.no_grad():
            return torch.cat([self._log_ratio(part) for part in points.split(CHUNK)])

    def ratio(self, x: Any) -> Tensor:
        """p(x)/q(x), with shape (n,), in float64 (where 10^300 fits); see :meth:`log_ratio`."""
        return self.log_ratio(x).double().exp()

    def divergence(self, name: str | Divergence, p: Any = None, q: Any = None) -> Estimate:
        r"""An f-divergence :math:`D_f(p \| q)` by the estimated ratio, in nats, at samples it has not seen.

        .. math:: \tfrac12 \mathbb{E}_p\left[\frac{2 f(r)}{1 + r}\right] +
            \tfrac12 \mathbb{E}_q\left[\frac{2 f(r)}{1 + r}\right]

        which is :math:`\mathbb{E}_q[f(r)]` sampled from the even mixture of p and q: no weight exceeds 2.

        Args:
            name: A name in ``DIVERGENCES`` ("kl", "js", ...) or a divergence.
            p: Fresh samples of p; those held out of the fit if None.
            q: Fresh samples of q; those held out of the fit if None.

        Returns:
            A float with ``standard_error``: the error from the finite samples, not that of the ratio; see
            :meth:`check` for that.

        Raises:
            ValueError: If there is no such divergence, or samples are refused as by :meth:`fit`.
        """
        chosen = divergence(name)
        samples = self._test_samples(p, q)
        return Estimate.mean(*(chosen.balanced_integrand(self.log_ratio(side)) for side in samples))

    def check(self, p: Any = None, q: Any = None, *, seed: Seed = 0) -> RatioCheck:
        """Hold the ratio against samples that it was not learned from (see :class:`RatioCheck`).

        Args:
            p: Fresh samples of p; those held out of the fit if None.
            q: Fresh samples of q; those held out of the fit if None.
            seed: Seed of the classifier that looks for remaining differences.

        Returns:
            The check; ``check().verdict`` is the answer in words.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            ValueError: If only one of p and q is given, or samples are refused as by :meth:`fit`.
        """
        samples_p, samples_q = self._test_samples(p, q)
        return check_ratio(self.log_ratio(samples_p), self.log_ratio(samples_q), samples_p, samples_q, seed)

    def _test_samples(self, p: Any, q: Any) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        if (p is None) != (q is None):
            raise ValueError("p, q: expected samples of both, or of neither for those held out of the fit")
        if p is None:
            return self.held_out
        return as_pair(p, q, rows=2, width=self.width)

    def _check_fitted(self) -> None:
        if not self.width:
            raise RuntimeError(f"{type(self).__name__}: call fit(p, q) first")
