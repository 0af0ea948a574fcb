r"""What every synthetic likelihood is: a number for each set of simulations, from their summaries.

A simulation that fails has no summaries and cannot be the observation. With m simulations of which m' did not fail,

.. math:: \log \hat p(s_o \mid \theta) = \log \frac{m'}{m} + \log \hat p(s_o \mid \theta, \text{no failure}),

and the second term is estimated from the m' alone. Leaving the first out would favour parameters where most simulations
fail. To add an estimator, copy ``normal.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LikelihoodEstimate:
    """A synthetic likelihood. Children are frozen dataclasses of their settings and write ``_estimate``."""

    def least(self, summaries: int) -> int:
        """The fewest simulations at a point that an estimate can be made of."""
        return 3

    def __call__(self, summaries: Tensor, observed: Tensor) -> Tensor:
        """Log-likelihoods of the observation's summaries.

        Args:
            summaries: Of m simulations at each of n parameters, with shape (n, m, k); failed ones NaN.
            observed: With shape (k,).

        Returns:
            Estimates with shape (n,) in double precision; minus infinity where fewer simulations are left than an
            estimate needs, or the estimate is not finite.
        """
        count = torch.isfinite(summaries).all(2).sum(1)
        enough = count >= self.least(summaries.shape[2])
        value = torch.full((len(summaries),), -torch.inf, dtype=torch.float64, device=summaries.device)
        if enough.any():
            estimate = self._estimate(summaries[enough].double(), observed.double())
            value[enough] = estimate + (count[enough].double() / summaries.shape[1]).log()
        return value.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)

    def _estimate(self, summaries: Tensor, observed: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _estimate(summaries, observed)")
