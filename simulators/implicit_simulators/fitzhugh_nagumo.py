r"""FitzHugh-Nagumo: a neuron that fires, driven by noise in its slow recovery alone, whose voltage is recorded.

.. math:: dV_t = \tfrac{1}{\varepsilon} (V_t - V_t^3 - U_t)\,dt, \qquad
    dU_t = (\gamma V_t - U_t + \beta)\,dt + \sigma\,dW_t

The noise reaches the voltage V only through the recovery U: the model is hypoelliptic. Euler's method loses that (its
voltage is noiseless for a step, its covariance singular) and can explode; the splitting of Buckwar et al. keeps it. A
linear equation with all of the noise,

.. math:: d\begin{pmatrix} V \\ U \end{pmatrix} = A \begin{pmatrix} V \\ U \end{pmatrix} dt
    + \begin{pmatrix} 0 \\ \sigma \end{pmatrix} dW, \quad
    A = \begin{pmatrix} 0 & -1/\varepsilon \\ \gamma & -1 \end{pmatrix},

is solved exactly for a step h, between two exact half steps of the rest,

.. math:: V \mapsto \frac{V}{\sqrt{e^{-h/\varepsilon} + V^2 (1 - e^{-h/\varepsilon})}}, \quad U \mapsto U + \beta h / 2.

References:
    | A splitting method for SDEs with locally Lipschitz drift: illustration on the FitzHugh-Nagumo model (Buckwar,
      Samson, Tamborrino & Tubikanec, 2022)
    | https://arxiv.org/abs/2101.01027
    | Inference for the stochastic FitzHugh-Nagumo model from real action potential data via approximate Bayesian
      computation (Samson, Tamborrino & Tubikanec, 2025)
    | https://arxiv.org/abs/2405.17972
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.paths import paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.streams import Stream

SUPPORT, GRID = 5.0, 1000
"""The density in the summaries is that of voltages from -5 to 5, at 1,000 places."""

TAPER = 0.1
"""Part of the series that is faded in, and out, before its spectrum is estimated."""


class FitzHughNagumo(Simulator):
    r"""The voltage of a neuron.

    The parameters are the time scales' ratio :math:`\varepsilon`, the excitability :math:`\gamma`, the input
    :math:`\beta` and the noise :math:`\sigma`, with the priors

    .. math:: \varepsilon \sim U(0.01, 0.5), \quad \gamma \sim U(0.01, 6), \quad \beta \sim U(0.01, 6), \quad
        \sigma \sim U(0.01, 1).

    Samson et al. leave out the corner :math:`\gamma < \varepsilon / 4`, one part in a hundred, where the linear part
    does not oscillate and their formulas for its solution do not hold; here it is solved as it is.

    Simulations have shape (duration / interval,): V at times ``interval``, ``2 * interval``, ..., from V = U = 0.
    As published, ``duration`` is 200, ``step`` 0.02, and ``interval`` 0.02, 0.04 or 0.08. Rows of theta that are not
    positive are NaN.

    Args:
        duration: Length of the record.
        interval: Time between two records.
        step: Step of the method, h.

    Raises:
        ValueError: If ``step`` is not positive, ``interval`` is not a multiple of it, or ``duration`` of ``interval``.
    """

    name = "fitzhugh-nagumo"
    parameter_names = ("epsilon", "gamma", "beta", "sigma")
    differentiable = True
    releases_gil = True
    reference_theta = (0.1, 1.5, 0.8, 0.3)

    def __init__(self, duration: float = 200.0, interval: float = 0.08, step: float = 0.02) -> None:
        if not 0 < step < math.inf:
            raise ValueError(f"step: expected a positive number; got {step}")
        self.substeps = _multiple("interval", interval, "step", step)
        self.records = _multiple("duration", duration, "interval", interval)
        self.duration, self.interval, self.step = float(duration), float(interval), float(step)
        self.event_shape = torch.Size([self.records])
        self.event_times = tuple(self.interval * (i + 1) for i in range(self.records))
        self.event_labels = ("voltage",)
        self.prior = Independent(
            Uniform(torch.full((4,), 0.01), torch.tensor([0.5, 6.0, 6.0, 1.0]), validate_args=False), 1
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        legal = (theta > 0).all(1, keepdim=True)
        inside = torch.where(legal, theta, theta.new_tensor(self.reference_theta))
        solution, root = self._linear(inside)
        decay = torch.exp(-self.step / inside[:, 0])
        shift = 0.5 * self.step * inside[:, 2]
        columns = torch.cat(
            (solution.flatten(0, 1).T, root[:, 0, :1], root[:, 1], torch.stack((decay, 1 - decay, shift), 1)), 1
        )
        start, steps = torch.zeros_like(theta[:, :2]), self.records * self.substeps
        path = paths(_process(), columns, start, steps, stream.key, every=self.substeps)[:, :, 0]
        return torch.where(legal, path, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over steps; the seconds that took."""
        return _process().prepare()

    def _linear(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r"""What the linear part does in a step: :math:`e^{A h}` (2, 2, n), and the root of its covariance (n, 2, 2).

        By Van Loan's block exponential, which holds whether A oscillates or not.
        """
        epsilon, gamma, _, sigma = theta.double().unbind(1)
        zero, one = torch.zeros_like(epsilon), torch.ones_like(epsilon)
        a = torch.stack((zero, -1 / epsilon, gamma, -one), 1).reshape(-1, 2, 2)
        noise = torch.stack((zero, zero, zero, one), 1).reshape(-1, 2, 2)
        blocks = torch.cat((torch.cat((-a, noise), 2), torch.cat((torch.zeros_like(a), a.mT), 2)), 1)
        # a row that is NaN would make LAPACK's and torch's exponentials of the others depend on it
        blocks = torch.where(torch.isfinite(blocks).all((1, 2), keepdim=True), blocks, torch.zeros_like(blocks))
        exponential = torch.linalg.matrix_exp(self.step * blocks)
        solution = exponential[:, 2:, 2:].mT
        covariance = solution @ exponential[:, :2, 2:]
        first = covariance[:, 0, 0].sqrt()
        across = covariance[:, 1, 0] / first
        second = (covariance[:, 1, 1] - across**2).sqrt()
        root = torch.stack((first, zero, across, second), 1).reshape(-1, 2, 2) * sigma[:, None, None]
        return solution.permute(1, 2, 0).to(theta.dtype), root.to(theta.dtype)

    def summarize(self, x: Tensor) -> Tensor:
        r"""The invariant density and the spectrum of the voltage, with shape (n, 1000 + records // 2).

        What Samson et al. compare, as R's ``density`` and ``spectrum`` estimate it: a density by normal kernels with
        Silverman's bandwidth :math:`0.9 \min(s, \mathrm{IQR} / 1.34)\, T^{-1/5}`, at 1,000 places from -5 to 5; and the
        periodogram of the detrended, tapered series, smoothed over 0.3 times as many frequencies as the record has time
        units. Both are multiplied by the distance between two places, so that sums of absolute differences are their
        integrals.
        """
        x = x.reshape(len(x), -1)
        return torch.cat((_density(x.double()), _spectrum(x.double(), int(0.3 * self.duration))), 1).to(x)

    def settings(self) -> dict[str, Any]:
        """Duration, interval and step."""
        return {"duration": self.duration, "interval": self.interval, "step": self.step}


def _split(
    v: float,
    u: float,
    vv: float,
    vu: float,
    uv: float,
    uu: float,
    first: float,
    across: float,
    second: float,
    decay: float,
    growth: float,
    shift: float,
    z1: float,
    z2: float,
) -> tuple[float, ...]:
    """One step, for the compiled loop: half of the rest, the linear part with its noise, the other half."""
    v = v / math.sqrt(decay + growth * v * v)
    u = u + shift
    v, u = vv * v + vu * u + first * z1, uv * v + uu * u + across * z1 + second * z2
    return v / math.sqrt(decay + growth * v * v), u + shift


def _process() -> StepProcess:
    return step_process(_split, states=2, noise=("normal", "normal"), record=(0,))


def _multiple(name: str, value: float, unit_name: str, unit: float) -> int:
    count = value / unit
    if not (0.5 < count < math.inf and abs(count - round(count)) < 1e-6 * count):
        raise ValueError(f"{name}: expected a positive multiple of {unit_name}, {unit}; got {value}")
    return round(count)


def _density(x: Tensor) -> Tensor:
    """Kernel density times the grid's step, with shape (n, GRID): counts on the grid, smoothed by way of Fourier."""
    n, count = x.shape
    step = 2 * SUPPORT / (GRID - 1)
    quartiles = torch.quantile(x, torch.tensor([0.25, 0.75], dtype=x.dtype, device=x.device), dim=1)
    spread, range_ = x.std(1), (quartiles[1] - quartiles[0]) / 1.34
    narrow = torch.where(range_ > 0, torch.minimum(spread, range_), spread)
    bandwidth = 0.9 * torch.where(narrow > 0, narrow, 1.0) * count**-0.2
    # each voltage is shared by the two places about it; twice the grid, so that smoothing does not go round the ends
    place = ((x + SUPPORT) / step).clamp(-GRID / 2, 1.5 * GRID) + GRID / 2
    left = place.floor().clamp(0, 2 * GRID - 2)
    counts = x.new_zeros(n, 2 * GRID)
    counts.scatter_add_(1, left.long(), 1 - (place - left))
    counts.scatter_add_(1, left.long() + 1, place - left)
    frequency = 2 * math.pi * torch.fft.rfftfreq(2 * GRID, step, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (bandwidth[:, None] * frequency) ** 2)
    smooth = torch.fft.irfft(torch.fft.rfft(counts / count) * kernel, 2 * GRID)
    return smooth[:, GRID // 2 : GRID // 2 + GRID].clamp_min(0)


def _spectrum(x: Tensor, span: int) -> Tensor:
    """Smoothed periodogram times the step in frequency, with shape (n, T // 2), at frequencies 1 / T, ..., 1 / 2."""
    count = x.shape[1]
    time = torch.arange(count, dtype=x.dtype, device=x.device) - (count - 1) / 2
    x = x - x.mean(1, keepdim=True)
    x = x - time * (x @ time)[:, None] / (time**2).sum().clamp_min(1)
    fade = math.floor(count * TAPER)
    window = torch.ones_like(time)
    if fade:
        ramp = 0.5 * (
            1 - torch.cos(math.pi * (2 * torch.arange(fade, dtype=x.dtype, device=x.device) + 1) / (2 * fade))
        )
        window[:fade], window[count - fade :] = ramp, ramp.flip(0)
    power = torch.fft.fft(x * window).abs() ** 2 / count
    power[:, 0] = (power[:, 1] + power[:, -1]) / 2 if count > 1 else power[:, 0]
    # the modified Daniell kernel: a flat window whose two ends weigh half
    m = min(span // 2, (count - 1) // 2)
    if m:
        weights = torch.zeros_like(time)
        weights[: m + 1] = 1 / (2 * m)
        weights[count - m :] = 1 / (2 * m)
        weights[m] = weights[count - m] = 1 / (4 * m)
        power = torch.fft.irfft(torch.fft.rfft(power) * torch.fft.rfft(weights), count).clamp_min(0)
    used = 1 - 5 / 8 * 2 * TAPER if fade else 1.0
    return power[:, 1 : count // 2 + 1] / used / count
