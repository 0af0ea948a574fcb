r"""Flow matching posterior estimation: a vector field that carries noise to the posterior, learned by least squares.

Noise :math:`v_0 \sim N(0, I)` and a parameter :math:`v_1` of the joint law are joined by a straight line, and a network
learns the mean velocity of the lines that pass through a point at a time,

.. math::
    v_t = a_t v_0 + t v_1, \quad a_t = 1 - (1 - \sigma_{\min}) t, \qquad
    \min_\phi \; \mathbb{E} \, \| f_\phi(v_t, t, s) - (v_1 - (1 - \sigma_{\min}) v_0) \|^2,

with t of the law :math:`p_\alpha(t) = (1 + \alpha) t^\alpha` on [0, 1]: :math:`\alpha = 0` is uniform, and more
weight lies near t = 1, where the field has the posterior's details, the larger it is. (The paper writes
:math:`p_\alpha \propto t^{1 / (1 + \alpha)}`; its code draws :math:`t = U^{1 / (1 + \alpha)}`, which has the law above
and, as the paper says, is uniform at :math:`\alpha = 0`.) Draws solve :math:`\dot v = f(v, t, s)` from noise at t = 0,
and the density follows along the path with the trace of the Jacobian, exact since d is small,

.. math:: \log q(v_1 \mid x) = \log N(v_0; 0, I) - \int_0^1 \operatorname{tr} \partial_v f(v_t, t, s) \, dt.

The field is the one of a standard normal posterior with a network beside it that starts at zero,

.. math:: f(v, t, s) = \frac{t - (1 - \sigma_{\min}) a_t}{t^2 + a_t^2} v + g(v, t, s),

so that in the coordinates of :mod:`implicit_infer.posteriors.coordinates`, where v given x is standard normal in a
linear Gaussian model, training starts from the linear regression.

References:
    | Flow matching for scalable simulation-based inference (Wildberger et al., 2023)
    | https://arxiv.org/abs/2305.17161
    | Flow matching for generative modeling (Lipman et al., 2022)
    | https://arxiv.org/abs/2210.02747
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.train import train
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, training_rows
from implicit_infer.progress import track
from implicit_simulators import Stream

WAVES = 4
"""Frequencies of the time that the network sees."""

ROWS = 2**16
"""Rows that are solved at once."""

TIMES = 4
"""Times at which each held-out row is judged."""


class VectorField(nn.Module):
    """The field f of the module's docstring.

    Args:
        d: Width of v.
        k: Width of the summaries.
        hidden: Widths of the hidden layers; a layer of the width of the one before it adds to it.
        sigma_min: Standard deviation about a parameter at the end of its line, in [0, 1).
        seed: Seed of the initial weights; the last layer starts at zero.
    """

    def __init__(self, d: int, k: int, hidden: tuple[int, ...], sigma_min: float, seed: int) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.network = MLP(d + 1 + 2 * WAVES + k, d, hidden, activation="silu", residual=True, seed=seed)
        last = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, v: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The velocity with shape (n, d) at v (n, d), times t (n,) in [0, 1] and summaries s (n, k)."""
        a = 1 - (1 - self.sigma_min) * t
        normal = (t - (1 - self.sigma_min) * a) / (t.square() + a.square())
        phase = t[:, None] * (math.pi / 2 * 2.0 ** torch.arange(WAVES, device=t.device, dtype=t.dtype))
        # far from everything that was seen the straight part leads back
        inputs = torch.cat((10 * torch.tanh(v / 10), t[:, None], phase.sin(), phase.cos(), s), 1)
        return normal[:, None] * v + self.network(inputs)


@dataclass(frozen=True)
class FMPE(Method):
    r"""Flow matching posterior estimation; see the module for the loss.

    Args:
        hidden: Widths of the network's hidden layers.
        alpha: Exponent of the law of times, above -1; 0 is uniform.
        sigma_min: Standard deviation about a parameter at the end of its line, in [0, 1).
        solver_steps: Steps of the fourth-order Runge-Kutta solver.
        batch_size: Simulations of a batch.
        epochs: Epochs to train; the weights of the best one on the held-out simulations are kept.
        learning_rate: AdamW's step size, which falls by a cosine to zero over the epochs.
        weight_decay: AdamW's weight decay.
        patience: Epochs without a better validation loss before training stops early, or None.
        validation: Share of the simulations held out.

    Raises:
        ValueError: If a number is out of its range.
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128)
    alpha: float = 1.0
    sigma_min: float = 1e-4
    solver_steps: int = 24
    batch_size: int = 256
    epochs: int = 300
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    patience: int | None = 50
    validation: float = 0.1

    name = "fmpe"

    def __post_init__(self) -> None:
        if not self.alpha > -1 or not 0 <= self.sigma_min < 1 or self.solver_steps < 1:
            raise ValueError(
                "alpha, sigma_min, solver_steps: expected a number above -1, one in [0, 1) and a positive int; got "
                f"{self.alpha}, {self.sigma_min}, {self.solver_steps}"
            )

    def infer(self, question: Question) -> FMPEPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        coordinates = coordinates_of(question.simulator, runs)

        def free(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            s = coordinates.summaries(x)
            return coordinates.free(coordinates.transform.inv(theta), s), s

        data = training_rows(runs, free, question.device)
        field = VectorField(
            coordinates.parameters_dim, coordinates.summaries_dim, self.hidden, self.sigma_min, question.seed
        ).to(question.device)

        def loss(v: Tensor, s: Tensor, *, generator: torch.Generator) -> Tensor:
            return matching_loss(field, v, s, self.alpha, generator)

        def judged(v: Tensor, s: Tensor, *, generator: torch.Generator) -> Tensor:
            return matching_loss(field, v.repeat(TIMES, 1), s.repeat(TIMES, 1), self.alpha, generator)

        with track("training fmpe", total=self.epochs, show=question.progress) as bar:
            history = train(
                field,
                loss,
                [data] if isinstance(data, tuple) else data,
                validation=self.validation,
                validation_loss=judged,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                patience=self.patience,
                average=0.995,
                seed=question.seed,
                progress=lambda epoch, figures: bar.update(1, **figures),
            )
        return FMPEPosterior(
            question.simulator,
            question.observed,
            coordinates=coordinates,
            field=field.cpu().eval(),
            solver_steps=self.solver_steps,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "epochs": history.epochs,
                "validation_loss": history.best,
            },
            warnings=["training stopped at a loss that was not finite"] if history.stopped == "non-finite" else [],
        )


def matching_loss(field: VectorField, v: Tensor, s: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """The least squares of the module's docstring at parameters v (n, d) and summaries s (n, k); shape ()."""
    t = torch.rand(len(v), generator=generator, device=v.device, dtype=v.dtype) ** (1 / (1 + alpha))
    noise = torch.randn(v.shape, generator=generator, device=v.device, dtype=v.dtype)
    rest = 1 - field.sigma_min
    at = (1 - rest * t)[:, None] * noise + t[:, None] * v
    return (field(at, t, s) - (v - rest * noise)).square().sum(1).mean()


class FMPEPosterior(Posterior):
    """Draws by solving an equation from noise, with the density that its divergence gives; amortised over x."""

    def __init__(
        self, *args: Any, coordinates: Coordinates, field: VectorField, solver_steps: int, **about: Any
    ) -> None:
        super().__init__(*args, **about)
        self.coordinates = coordinates
        self.field = field
        # finer towards t = 1, where the field has the posterior's details
        self.times = torch.sin(torch.linspace(0, math.pi / 2, solver_steps + 1))

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        s = self.coordinates.summaries(x)
        noise = torch.randn((n * len(s), self.coordinates.parameters_dim), generator=stream.torch())
        rows = torch.arange(n * len(s)) % len(s)
        draws = []
        with track("sampling", total=len(rows), show=progress) as bar:
            for some, start in zip(rows.split(ROWS), noise.split(ROWS), strict=True):
                given = s[some]
                v = self.carry(start, given)
                draws.append(self.coordinates.transform(self.coordinates.bound(v, given)))
                bar.update(len(some))
        return torch.cat(draws).reshape(n, len(s), -1)

    def carry(self, v: Tensor, s: Tensor) -> Tensor:
        """Where noise v (n, d) at time 0 is at time 1, given summaries (n, k)."""
        return runge_kutta(lambda y, t: self.field(y, t, s), v, self.times)

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        s = self.coordinates.summaries(x[None])
        inside, legal = self.coordinates.legal(theta)
        parts = []
        for some in legal.split(ROWS):
            given = s.expand(len(some), -1)
            v = self.coordinates.free(self.coordinates.transform.inv(some), given)
            parts.append(self.log_density(v, given) + self.coordinates.log_det(some))
        return torch.where(inside, torch.cat(parts), -torch.inf)

    def log_density(self, v: Tensor, s: Tensor) -> Tensor:
        """The log density of v (n, d) given summaries (n, k), with shape (n,)."""
        d = v.shape[1]

        def moving(state: Tensor, t: Tensor) -> Tensor:
            velocity, trace = divergence(lambda y: self.field(y, t, s), state[:, :d])
            return torch.cat((velocity, trace[:, None]), 1)

        start = torch.cat((v, torch.zeros_like(v[:, :1])), 1)
        end = runge_kutta(moving, start, self.times.flip(0))
        # run backwards, the integral of the trace comes out with the other sign
        noise = end[:, :d]
        return -0.5 * noise.square().sum(1) - 0.5 * math.log(2 * math.pi) * d + end[:, d]


def divergence(field: Any, v: Tensor) -> tuple[Tensor, Tensor]:
    """A field at v (n, d), and the trace of its Jacobian there (n,), exactly."""
    with torch.enable_grad():
        v = v.detach().requires_grad_(True)
        velocity = field(v)
        trace = torch.zeros(len(v), dtype=v.dtype, device=v.device)
        for i in range(v.shape[1]):
            (row,) = torch.autograd.grad(velocity[:, i].sum(), v, retain_graph=i + 1 < v.shape[1])
            trace = trace + row[:, i]
    return velocity.detach(), trace.detach()


def runge_kutta(field: Any, y: Tensor, times: Tensor) -> Tensor:
    r"""Solve :math:`\dot y = f(y, t)` by the classical Runge-Kutta method of fourth order.

    Args:
        field: f(y, t) for y of shape (n, d) and times of shape (n,).
        y: The start, at ``times[0]``.
        times: Where the steps end, increasing or decreasing, with shape (steps + 1,).

    Returns:
        The solution at ``times[-1]``.
    """
    ones = torch.ones(len(y), dtype=y.dtype, device=y.device)
    for now, then in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        h = then - now
        k1 = field(y, now * ones)
        k2 = field(y + h / 2 * k1, (now + h / 2) * ones)
        k3 = field(y + h / 2 * k2, (now + h / 2) * ones)
        k4 = field(y + h * k3, then * ones)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y
