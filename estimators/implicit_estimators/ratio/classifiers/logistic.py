r"""A density ratio by logistic regression: a network whose logit is :math:`\log p/q`.

Label samples of p by 1 and of q by 0: the best classifier is :math:`D = \pi p / (\pi p + (1 - \pi) q)` with
:math:`\pi` the share of p among all samples, so its logit less :math:`\log \frac{\pi}{1 - \pi}` is the log-ratio.
The log score is bounded in its gradient and needs no care with large ratios.

References:
    | Inferences for case-control and semiparametric two-sample density ratio models (Qin, 1998)
    | https://doi.org/10.1093/biomet/85.3.619
    | Density Ratio Estimation in Machine Learning (Sugiyama, Suzuki and Kanamori, 2012)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import RatioLoss, ratio_loss


@dataclass(eq=False, repr=False)
class LogisticRatio(NetworkRatio):
    r"""A classifier's logit as the log-ratio.

    Args:
        loss: A name in ``RATIO_LOSSES``, or a ``RatioLoss``.

    Others and errors as of :class:`NetworkRatio`.

    Example:
        >>> import torch
        >>> p = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = LogisticRatio(hidden=(32,)).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.1  # where the densities cross
        tensor([True])
    """

    loss: str | RatioLoss = "log"

    name = "logistic"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """``loss``, with the share of p as the weight of p where it takes one."""
        return ratio_loss(self.loss, prior)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not isinstance(self.loss, str):
            raise TypeError(f"loss: only named losses can be saved; got {self.loss!r}")
        return super()._state()
