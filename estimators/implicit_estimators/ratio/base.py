"""The one face of every density-ratio estimator: ``fit(p, q)``, ``log_ratio(x)``, and its own check."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from implicit_estimators.divergences import Divergence, divergence
from implicit_estimators.estimate import Estimate
from implicit_estimators.inputs import as_pair, as_samples
from implicit_estimators.kl_bounds import KL_BOUNDS, kl_bound
from implicit_estimators.networks import storage
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.check import RatioCheck, check_ratio
from implicit_estimators.ratio.weights import importance_weights
from implicit_estimators.seeds import Seed, resolve_seed, stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

CHUNK = 2**17
"""Rows evaluated at a time."""


class RatioEstimator:
    r"""Estimates :math:`\log p(x) / q(x)` from samples of p and of q.

    A child sets ``name``, keeps each argument of its constructor as an attribute of that name, and writes ``_fit`` and
    ``_log_ratio``, and ``_state`` and ``_restore`` for :meth:`save` and :meth:`load`. ``_fit`` leaves samples that it
    did not learn from in ``held_out``; or, where fits are cheap, learns from all and calls :meth:`_cross_fit`.

    Attributes:
        name: Name in ``RATIO_ESTIMATORS``.
        width: Columns of the samples; 0 before :meth:`fit`.
        held_out: Samples of p and of q that were not learned from, with shapes (n, d) and (m, d), on the CPU.
        held_out_log_ratio: Log-ratios at ``held_out`` by estimators that did not learn from the row in question, with
            shapes (n,) and (m,); None where the estimator itself did not.
    """

    name: ClassVar[str]
    width: int = 0
    held_out: tuple[Tensor, Tensor]
    held_out_log_ratio: tuple[Tensor, Tensor] | None = None

    def settings(self) -> dict[str, Any]:
        """All settings by name; ``type(self)(**settings)`` is the same estimator, not fitted."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

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
        _warn_of_shared_rows(samples_p, samples_q)
        self.held_out_log_ratio = None
        self._fit(samples_p, samples_q, resolve_seed(seed), device, progress)
        self.width = samples_p.shape[1]
        return self

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} must write _fit(p, q, seed, device, progress)")

    def _log_ratio(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _log_ratio(x)")

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, and the JSON-able rest, that :meth:`_restore` makes the fitted estimator from."""
        raise NotImplementedError(f"{type(self).__name__} must write _state()")

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must write _restore(tensors, rest)")

    def _cross_fit(
        self, p: Tensor, q: Tensor, seed: int, fit: Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]], folds: int
    ) -> None:
        """Hold every row out in turn: ``fit(p, q)`` on the other folds gives log-ratios at the rows of one fold."""
        generator = stream(seed, "split")
        sides = []
        for samples in (p, q):
            place = torch.randperm(len(samples), generator=generator).to(samples.device)
            sides.append((samples, place % min(folds, len(p), len(q))))
        values = [samples.new_zeros(len(samples), dtype=torch.float32) for samples, _ in sides]
        for fold in range(min(folds, len(p), len(q))):
            log_ratio = fit(*(samples[place != fold] for samples, place in sides))
            for value, (samples, place) in zip(values, sides, strict=True):
                value[place == fold] = log_ratio(samples[place == fold]).float()
        self.held_out = (p.cpu(), q.cpu())
        self.held_out_log_ratio = (values[0].cpu(), values[1].cpu())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator, with the samples held out for its check, to one safetensors file.

        Raises:
            RuntimeError: If it has not been fitted.
            TypeError: If a setting is an object that has no name.
        """
        storage.save(path, self.name, *self._pack())

    def _pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and settings that :meth:`_unpack` makes the fitted estimator from."""
        self._check_fitted()
        tensors, rest = self._state()
        tensors = {f"state.{name}": value for name, value in tensors.items()}
        tensors |= {"held_out.p": self.held_out[0], "held_out.q": self.held_out[1]}
        if self.held_out_log_ratio is not None:
            values = self.held_out_log_ratio
            tensors |= {"held_out_log_ratio.p": values[0], "held_out_log_ratio.q": values[1]}
        return tensors, {"settings": self.settings(), "rest": rest}

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Read an estimator that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds something else.
        """
        return cls._unpack(*storage.load(path, cls.name, device))

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> Self:
        estimator = cls(**config["settings"])
        held_out = {name: tensors.pop(name).cpu() for name in list(tensors) if name.startswith("held_out")}
        estimator.held_out = (held_out["held_out.p"], held_out["held_out.q"])
        if "held_out_log_ratio.p" in held_out:
            estimator.held_out_log_ratio = (held_out["held_out_log_ratio.p"], held_out["held_out_log_ratio.q"])
        estimator.width = estimator.held_out[0].shape[1]
        estimator._restore({name.removeprefix("state."): value for name, value in tensors.items()}, config["rest"])
        return estimator

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

    def weights(self, x: Any, *, smooth: bool = False) -> Tensor:
        r"""Importance weights that turn samples of q into samples of p, scaled to mean 1.

        For covariate shift: p are the inputs to predict at, q those to learn from, and a learner that weighs its rows
        by this learns for p.

        Args:
            x: Samples of q with shape (n, d), or (n,) for d = 1.
            smooth: Pareto smooth the largest weights (Vehtari et al., 2024), which trades a little bias for variance.

        Returns:
            Weights with shape (n,), in float64.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            ValueError: If there are no samples, or samples are refused as by :meth:`log_ratio`.
        """
        return importance_weights(self.log_ratio(x), smooth)

    def outlier_scores(self, x: Any) -> Tensor:
        r"""How much of an outlier each point is: :math:`-\log r`, high where points like it are missing from p.

        Fit with p the samples known to be in order and q those in doubt, outliers among them: an inlier is about as
        frequent in both and has a score near 0, an outlier has a high one. (Hido et al. score by r, low for outliers.)

        Args:
            x: Points with shape (n, d), or (n,) for d = 1.

        Returns:
            Scores with shape (n,), in nats.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            ValueError: If points are refused as by :meth:`log_ratio`.

        References:
            | Statistical outlier detection using direct density ratio estimation (Hido et al., 2011)
            | https://doi.org/10.1007/s10115-010-0283-2
        """
        return -self.log_ratio(x)

    def divergence(self, name: str | Divergence, p: Any = None, q: Any = None) -> Estimate:
        r"""An f-divergence :math:`D_f(p \| q)` by the estimated ratio, in nats, at samples it has not seen.

        .. math:: \tfrac12 \mathbb{E}_p\left[\frac{2 f(r)}{1 + r}\right] +
            \tfrac12 \mathbb{E}_q\left[\frac{2 f(r)}{1 + r}\right]

        which is :math:`\mathbb{E}_q[f(r)]` sampled from the even mixture of p and q: no weight exceeds 2.

        For KL there are the bounds of ``KL_BOUNDS``, too, as functions of the estimated log-ratio.

        Args:
            name: A name in ``DIVERGENCES`` ("kl", "js", ...) or ``KL_BOUNDS`` ("nwj", "donsker-varadhan", "smile"), or
                a divergence.
            p: Fresh samples of p; those held out of the fit if None.
            q: Fresh samples of q; those held out of the fit if None.

        Returns:
            A float with ``standard_error``: the error from the finite samples, not that of the ratio; see
            :meth:`check` for that.

        Raises:
            ValueError: If there is no such divergence, or samples are refused as by :meth:`fit`.
        """
        if name in KL_BOUNDS and isinstance(name, str):
            return kl_bound(name, *self._test_samples(p, q)[1])
        chosen = divergence(name)
        _, log_ratios = self._test_samples(p, q)
        return Estimate.mean(*(chosen.balanced_integrand(side) for side in log_ratios))

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
        samples, log_ratios = self._test_samples(p, q)
        return check_ratio(*log_ratios, *samples, seed)

    def plot(self, p: Any = None, q: Any = None, *, seed: Seed = 0) -> Figure:
        """Draw what :meth:`check` looks at, and its verdict (see ``ratio.plot``).

        Args:
            p: Fresh samples of p; those held out of the fit if None.
            q: Fresh samples of q; those held out of the fit if None.
            seed: Seed of the check.

        Returns:
            A matplotlib figure that belongs to no window: ``figure.savefig("ratio.png")``.

        Raises:
            RuntimeError: If the estimator has not been fitted.
            ValueError: If only one of p and q is given, or samples are refused as by :meth:`fit`.
        """
        from implicit_estimators.ratio.plot import plot_ratio

        samples, log_ratios = self._test_samples(p, q)
        return plot_ratio(*log_ratios, check_ratio(*log_ratios, *samples, seed), title=self.name)

    def _test_samples(self, p: Any, q: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Samples that were not learned from, and the log-ratios there."""
        self._check_fitted()
        if (p is None) != (q is None):
            raise ValueError("p, q: expected samples of both, or of neither for those held out of the fit")
        samples = self.held_out if p is None else as_pair(p, q, rows=2, width=self.width)
        if p is None and self.held_out_log_ratio is not None:
            return samples, self.held_out_log_ratio
        return samples, (self.log_ratio(samples[0]), self.log_ratio(samples[1]))

    def _check_fitted(self) -> None:
        if not self.width:
            raise RuntimeError(f"{type(self).__name__}: call fit(p, q) first")

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"{type(self).__name__}({state})"


def _warn_of_shared_rows(p: Tensor, q: Tensor) -> None:
    """Rows that are in both sets are no independent samples, unless the values are discrete and every row repeats."""
    # equal rows have equal checksums, and unequal ones hardly ever
    weights = torch.linspace(1, 2, p.shape[1], dtype=torch.float64, device=p.device).sin()
    first, second = ((side.double() * weights).sum(1).unique() for side in (p, q))
    shared = int(torch.isin(first, second).sum())
    if shared > 0.1 * min(len(first), len(second)) and len(first) > 0.5 * len(p) and len(second) > 0.5 * len(q):
        logger.warning(
            "p, q: %d of %d rows of p are in q as well; the samples should be independent, and a ratio of samples to "
            "themselves is 1 up to noise",
            shared,
            len(p),
        )
