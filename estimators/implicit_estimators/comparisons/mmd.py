r"""Generative moment matching: the model descends the maximum mean discrepancy itself. Nothing to train.

.. math:: L_G = \mathrm{MMD}_k^2(p, q) = \mathbb{E}[k(x, x')] + \mathbb{E}[k(y, y')] - 2 \, \mathbb{E}[k(x, y)]

There is no game, and so nothing that could cycle; but a fixed kernel sees differences of the size of its bandwidths
in few dimensions only, and what lies further from all data than the widest bandwidth has no gradient.

The paper descends the biased statistic, or its root; here it is the unbiased one by default, whose gradient is that of
the population on average at any batch size.

References:
    | Generative Moment Matching Networks (Li, Swersky and Zemel, 2015)
    | https://arxiv.org/abs/1502.02761
    | Training generative neural networks via MMD optimization (Dziugaite, Roy and Ghahramani, 2015)
    | https://arxiv.org/abs/1505.03906
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.discrepancies.mmd import mmd_squared
from implicit_estimators.kernels import Gaussian, Kernel, ladder, median_distance

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MMDMatching(Comparison):
    """The squared maximum mean discrepancy of batches.

    Args:
        kernel: The kernel; None places five Gaussians around the median distance of the first batch of data. They stay
            where they are, for a loss that changed with every batch would be no loss, and they are part of what the
            comparison remembers (``state_dict``).
        unbiased: Whether each sample's pair with itself is left out.
    """

    kernel: Kernel | None = None
    unbiased: bool = True
    _placed: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    name = "mmd"
    trained = False

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The discrepancy.

        Args:
            at_data: Samples of the data, with shape (n, d).
            at_model: Draws of the model, with shape (m, d).

        Returns:
            The loss, with shape (), in the draws' precision.

        Raises:
            ValueError: If a batch has fewer rows than the statistic needs, or the widths differ.
        """
        x, y = matrices(at_data, at_model, 2 if self.unbiased else 1)
        return mmd_squared(x, y, self.kernel_for(x), self.unbiased).to(at_model.dtype)

    def kernel_for(self, data: Tensor) -> Kernel:
        """The kernel, placed by ``data`` where none has been given or placed yet."""
        if self.kernel is not None:
            return self.kernel
        if "median" not in self._placed:
            self._placed["median"] = median_distance(data, data[:0], seed=0)
            logger.info("mmd: bandwidths placed around %.4g, the median distance of data", self._placed["median"])
        return Gaussian(ladder(self._placed["median"]))

    def state_dict(self) -> dict[str, Tensor]:
        """The median distance that bandwidths were placed by, if any were."""
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in self._placed.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back."""
        self._placed.clear()
        self._placed.update({key: float(value) for key, value in state.items()})


def matrices(at_data: Tensor, at_model: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Outputs of a critic, or samples, as rows of numbers.

    Args:
        at_data: With shape (n,) or (n, d).
        at_model: With shape (m,) or (m, d).
        rows: How many there are to be, at least.

    Returns:
        Both, with shapes (n, d) and (m, d).

    Raises:
        ValueError: If the shapes are others.
    """
    x, y = (side[:, None] if side.ndim == 1 else side for side in (at_data, at_model))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < rows:
        raise ValueError(
            f"at_data, at_model: expected at least {rows} rows of one width each; got shapes {tuple(at_data.shape)}, "
            f"{tuple(at_model.shape)}"
        )
    return x, y
