r"""How far to trust an emulator: a critic learns to tell real from emulated pairs (theta, x), and is tested.

A critic D learns on one half of the parameters; on the other half its preference for the simulator at each,

.. math:: T = \frac1n \sum_i D(\theta_i, x_i) - D(\theta_i, \tilde x_i),

has an expectation of at most the total variation between the two laws of pairs. If the emulator is exact,
:math:`x_i` and :math:`\tilde x_i` are exchangeable for each i, so that swapping them at random gives the law of T: the
p-value is exact at any sample size. Both sides share their parameters, so that only x given theta is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.ratio.classifiers.logistic import LogisticRatio
from implicit_simulators import Stream

FEWEST = 40
"""Pairs without which a critic learns nothing."""


@dataclass(frozen=True)
class EmulatorCheck:
    """What a held-out test says of an emulator.

    Attributes:
        p_value: Share of swaps (the observed one among them) with a preference at least as large.
        distance: The critic's preference for real simulations: a lower bound, within its error, of the total variation
            between the laws of pairs; 0 for an exact emulator, 1 for one that is always found out.
        standard_error: Of the distance.
        accuracy: Share of pairs in which the critic prefers the real simulation: 0.5 for an exact emulator.
        pairs: Parameters that the critic was tested on.
        bias: Mean of emulated less real x for each entry, in units of its conditional standard deviation, with shape
            (k,); averaged over parameters.
        bias_error: Its standard errors.
    """

    p_value: float
    distance: float
    standard_error: float
    accuracy: float
    pairs: int
    bias: Tensor
    bias_error: Tensor

    @property
    def told_apart(self) -> bool:
        """Whether the critic finds a difference (p below 0.01)."""
        return self.p_value < 0.01

    def __str__(self) -> str:
        error = 0.5 / self.pairs**0.5
        found = "tells emulated from real" if self.told_apart else "finds no difference"
        worst = int((self.bias.abs() / self.bias_error.clamp_min(1e-12)).argmax())
        return (
            f"a critic {found}: it is right of {self.accuracy:.1%} of {self.pairs} pairs (+- {error:.1%}; chance is "
            f"50%; p = {self.p_value:.3g}), a total variation of {self.distance:.3f} +- {self.standard_error:.3f} or "
            "more; largest mean error "
            f"{float(self.bias[worst]):.2g} +- {float(self.bias_error[worst]):.2g} standard deviations (entry {worst})"
        )


def check_pairs(
    c: Tensor,
    real: Tensor,
    made: Tensor,
    real_residuals: Tensor,
    made_residuals: Tensor,
    *,
    seed: int,
    permutations: int = 999,
) -> EmulatorCheck:
    """Test whether real and emulated simulations of the same parameters are of one law.

    Args:
        c: Conditions with shape (n, d).
        real: Simulations in the critic's units, with shape (n, k).
        made: Emulated ones.
        real_residuals: Simulations in units in which means are compared, with shape (n, k).
        made_residuals: Emulated ones.
        seed: Of the critic, and of the swaps.
        permutations: Random swaps.

    Returns:
        What came of it.

    Raises:
        ValueError: If there are fewer than 40 pairs.
    """
    n = len(c)
    if n < FEWEST:
        raise ValueError(f"simulations: expected at least {FEWEST} that did not fail; got {n}")
    half = n // 2
    rows = [torch.cat((c, side), 1) for side in (real, made)]
    critic = LogisticRatio(hidden=(64, 64)).fit(rows[0][:half], rows[1][:half], seed=seed)
    told = [torch.sigmoid(critic.log_ratio(side[half:])).double() for side in rows]
    gain = told[0] - told[1]
    signs = torch.randint(0, 2, (permutations, len(gain)), generator=Stream.of(seed, 1, "split").torch()) * 2.0 - 1
    swapped = (signs.double() @ gain) / len(gain)
    observed = gain.mean()
    bias = made_residuals - real_residuals
    return EmulatorCheck(
        p_value=(1 + int((swapped >= observed - 1e-12).sum())) / (permutations + 1),
        distance=float(observed),
        standard_error=float(gain.std() / len(gain) ** 0.5),
        accuracy=float(((gain > 0).double() + 0.5 * (gain == 0).double()).mean()),
        pairs=len(gain),
        bias=bias.mean(0),
        bias_error=bias.std(0) / n**0.5,
    )
