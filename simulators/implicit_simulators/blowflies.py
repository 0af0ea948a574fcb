r"""Nicholson's blowflies: a delayed, noisy population that swings by itself, with two kinds of noise to tell apart.

.. math:: N_t = P\,N_{t-\tau}\,e^{-N_{t-\tau} / N_0}\,e_t + N_{t-1}\,e^{-\delta \varepsilon_t}, \quad
    e_t \sim \Gamma(\sigma_p^{-2}, \sigma_p^{-2}), \quad \varepsilon_t \sim \Gamma(\sigma_d^{-2}, \sigma_d^{-2})

Adults that hatch today come from eggs laid :math:`\tau` steps ago, and the more flies there were, the fewer of their
larvae found food; of yesterday's adults some survive. Both noises are gamma (shape, rate) with mean one.

This is the recursion that the codes of Wood and of Park et al. compute. Meeds & Welling print :math:`N_{t+1}` on the
left, a delay of one step more. Wood's article also draws hatches and survivors from Poisson and binomial
distributions with these means, which at thousands of flies adds little; neither code does.

References:
    | Statistical inference for noisy nonlinear ecological dynamic systems (Wood, 2010)
    | https://doi.org/10.1038/nature09319
    | GPS-ABC: Gaussian process surrogate approximate Bayesian computation (Meeds & Welling, 2014)
    | https://arxiv.org/abs/1401.2838
    | K2-ABC: approximate Bayesian computation with kernel embeddings (Park, Jitkrittum & Sejdinovic, 2016)
    | https://arxiv.org/abs/1502.02558
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, LogNormal

from implicit_simulators.base import Simulator
from implicit_simulators.streams import Stream

INITIAL = 180.0
"""Flies at every step before the first, in all of the published codes."""

PEAKS = (0.5, 1.5)
"""How deep, in standard deviations of the series, a trough must be on both sides of a peak that counts."""


class Blowflies(Simulator):
    r"""Adult flies in Nicholson's cage.

    The parameters are the egg production :math:`P`, the death rate :math:`\delta`, the population :math:`N_0` at which
    most flies hatch, the standard deviations :math:`\sigma_d, \sigma_p` of the noise in deaths and in production, and
    the delay :math:`\tau`, in the order and with the priors of Meeds & Welling as Park et al. give them:

    .. math:: \log P \sim N(2, 2^2), \quad \log\delta \sim N(-1, 0.4^2), \quad \log N_0 \sim N(5, 0.5^2), \quad
        \log\sigma_d, \log\sigma_p \sim N(-0.5, 1), \quad \log\tau \sim N(2, 1).

    :math:`\tau` is rounded to the nearest integer, and to one where that is zero, so that simulations are no smooth
    function of theta. They have shape (steps,): flies at the steps that follow ``burn_in`` unobserved ones. Nicholson's
    experiment has 180 counts, two days apart. Rows of theta that are not positive are NaN.

    Args:
        steps: Counts.
        burn_in: Steps before the first count.

    Raises:
        ValueError: If ``steps`` or ``burn_in`` is not a whole number or too small.
    """

    name = "blowflies"
    parameter_names = ("P", "delta", "N_0", "sigma_d", "sigma_p", "tau")
    reference_theta = (29.0, 0.2, 260.0, 0.6, 0.3, 7.0)

    def __init__(self, steps: int = 180, burn_in: int = 50) -> None:
        for argument, value, least in (("steps", steps, 5), ("burn_in", burn_in, 0)):
            if not (value == int(value) and value >= least):
                raise ValueError(f"{argument}: expected an int of at least {least}; got {value}")
        self.steps, self.burn_in = int(steps), int(burn_in)
        self.event_shape = torch.Size([self.steps])
        self.event_times = tuple(range(1, self.steps + 1))
        self.event_labels = ("adults",)
        self.event_unit = "flies"
        loc = torch.tensor([2.0, -1.0, 5.0, -0.5, -0.5, 2.0])
        scale = torch.tensor([2.0, 0.4, 0.5, 1.0, 1.0, 1.0])
        self.prior = Independent(LogNormal(loc, scale, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        values = theta.detach().cpu().double()
        values = torch.where((values > 0).all(1, keepdim=True), values, torch.nan)
        shape = (len(theta), self.burn_in + self.steps)
        streams = (stream, Stream.of(stream.key, role="observe"))
        hatching, dying = (
            _gamma(torch.rand(shape, generator=source.torch(), dtype=torch.float64), spread)
            for source, spread in zip(streams, (values[:, 4:5], values[:, 3:4]), strict=True)
        )
        return self._populations(values, hatching, dying).to(theta.dtype).to(theta.device)

    def _populations(self, theta: Tensor, hatching: Tensor, dying: Tensor) -> Tensor:
        """Flies with shape (n, steps), for both noises with shape (n, burn_in + steps)."""
        production, death, crowd = theta[:, 0], theta[:, 1], theta[:, 2]
        delay = theta[:, 5].round().clamp(1, hatching.shape[1] + 1).nan_to_num(1.0).long()
        survival = torch.exp(-death[:, None] * dying)
        # the first column is what was there before: the past as far back as anything asks
        path = torch.full((len(theta), hatching.shape[1] + 1), INITIAL, dtype=theta.dtype)
        for t in range(1, path.shape[1]):
            parents = path.gather(1, (t - delay).clamp_min(0)[:, None])[:, 0]
            hatched = production * parents * torch.exp(-parents / crowd) * hatching[:, t - 1]
            path[:, t] = hatched + path[:, t - 1] * survival[:, t - 1]
        return path[:, 1 + self.burn_in :]

    def summarize(self, x: Tensor) -> Tensor:
        r"""Meeds & Welling's ten statistics, with shape (n, 10).

        - the logs of the means of the four quarters of the ordered counts (in thousands, plus :math:`10^{-12}`);
        - the means of the four quarters of the ordered steps :math:`N_t - N_{t-1}` (in thousands);
        - the numbers of peaks of the series divided by its standard deviation, at two thresholds, 0.5 and 1.5: a peak
          is the highest point since the last trough once the series has fallen by the threshold below it, and a trough
          ends where it has risen by as much again.
        """
        flies = x.reshape(len(x), -1).double()
        steps = flies.diff().sort(1).values
        bounds = [_half_up(flies.shape[1] * quarter / 4) for quarter in range(5)]
        levels = [part.mean(1) for part in _parts(flies.sort(1).values, bounds)]
        moves = [part.mean(1) / 1000 for part in _parts(steps, [*bounds[:-1], steps.shape[1]])]
        spread = flies.std(1, correction=0, keepdim=True)
        scaled = flies / torch.where(spread > 0, spread, 1.0)
        peaks = [_count_peaks(scaled, threshold) for threshold in PEAKS]
        return torch.stack([*((level / 1000 + 1e-12).log() for level in levels), *moves, *peaks], 1).to(x.dtype)

    def settings(self) -> dict[str, Any]:
        """Steps and burn-in."""
        return {"steps": self.steps, "burn_in": self.burn_in}


def _gamma(uniform: Tensor, spread: Tensor) -> Tensor:
    """Gamma numbers with mean one and standard deviation ``spread`` (n, 1), by inversion of ``uniform`` (n, T)."""
    from scipy.special import gammaincinv

    shape = 1 / spread.numpy() ** 2
    return torch.from_numpy(gammaincinv(shape, uniform.numpy()) / shape)


def _half_up(value: float) -> int:
    """The nearest integer, halves upwards, as in the published code; Python rounds them to the even one."""
    return int(value + 0.5)


def _parts(ordered: Tensor, bounds: list[int]) -> list[Tensor]:
    return [ordered[:, start:end] for start, end in pairwise(bounds)]


def _count_peaks(series: Tensor, threshold: float) -> Tensor:
    """Peaks of each row of ``series`` (n, T), side by side; as in ``summarize``."""
    peaks = torch.zeros_like(series[:, 0])
    rising = torch.ones_like(peaks, dtype=torch.bool)
    highest, lowest = series[:, 0], series[:, 0]
    for now in series.T:
        highest, lowest = torch.maximum(highest, now), torch.minimum(lowest, now)
        peak = rising & (now < highest - threshold)
        trough = ~rising & (now > lowest + threshold)
        peaks = peaks + peak
        lowest, highest = torch.where(peak, now, lowest), torch.where(trough, now, highest)
        rising = (rising & ~peak) | trough
    return peaks
