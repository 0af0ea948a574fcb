r"""Lotka-Volterra: hares and lynxes by ODE, SDE, jumps or leaps, with the measurement model of the Stan study.

.. math:: \frac{du}{dt} = (\alpha - \beta v)\,u, \qquad \frac{dv}{dt} = (-\gamma + \delta u)\,v

Populations u (hare) and v (lynx) are in thousands of pelts, time in years. Every year both are observed with
log-normal errors: :math:`\log x_{t,s} \sim N(\log z_{t,s}, \sigma_s^2)`.

References:
    | Predator-prey population dynamics: the Lotka-Volterra model in Stan (Carpenter, 2018)
    | https://mc-stan.org/users/documentation/case-studies/lotka-volterra-predator-prey.html
    | The chemical Langevin equation (Gillespie, 2000)
    | https://doi.org/10.1063/1.481811
    | Efficient step size selection for the tau-leaping simulation method (Cao, Gillespie & Petzold, 2006)
    | https://doi.org/10.1063/1.2159468
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import LogNormal

from implicit_simulators.base import Simulator
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.engines.ode import rk4, rk4_sensitivities
from implicit_simulators.priors import Product, TruncatedNormal
from implicit_simulators.streams import Stream

DYNAMICS = ("ode", "sde", "jump", "tau")
YEARS = tuple(range(1900, 1921))
STOICHIOMETRY = [[1, 0], [-1, 0], [0, 1], [0, -1]]
REACTANTS = [[1, 0], [1, 1], [1, 1], [0, 1]]


class LotkaVolterra(Simulator):
    r"""Predators and prey over twenty years.

    The parameters are :math:`\alpha, \beta, \gamma, \delta` (per year; :math:`\beta, \delta` also per thousand), the
    initial populations (thousands) and the standard deviations of the two log-normal errors, with the priors

    .. math:: \alpha, \gamma \sim N_+(1, 0.5), \quad \beta, \delta \sim N_+(0.05, 0.05), \quad
        u_0 \sim \mathrm{LogN}(\log 30, 1), \quad v_0 \sim \mathrm{LogN}(\log 5, 1), \quad
        \sigma_u, \sigma_v \sim \mathrm{LogN}(0, 0.5).

    ``dynamics`` chooses how the populations move between observations:

    - ``"ode"``: deterministic; the likelihood is known (``log_likelihood``).
    - ``"sde"``: the chemical Langevin equation, with noise of relative size :math:`1/\sqrt{\Omega u}`.
    - ``"jump"``: the exact Markov jump process on :math:`\Omega u, \Omega v` individuals with the four reactions
      hare birth :math:`\alpha u`, predation :math:`\beta u v`, lynx birth :math:`\delta u v`, lynx death
      :math:`\gamma v`. The ODE is the limit of both as :math:`\Omega \to \infty`.
    - ``"tau"``: the jump process in leaps over many events: slower at the default :math:`\Omega`, three times as fast
      at 100, four hundred times at 10,000.

    Simulations have shape (21, 2): the years 1900-1920, hare then lynx, in thousands.

    Args:
        dynamics: ``"ode"``, ``"sde"``, ``"jump"`` or ``"tau"``.
        system_size: Individuals per thousand pelts, :math:`\Omega`; not used by the ODE.
        substeps: Integration steps a year (ODE, SDE). At the default, the largest error over the posterior of the
            pelts is below 1e-6 in log population.
        max_events: Jumps, or leaps, after which a trajectory counts as failed (prey that explodes once predators die
            out).
        epsilon: The part by which rates may change in a leap; the bias falls with it.

    Raises:
        ValueError: If ``dynamics`` is unknown or a number is not positive.
    """

    name = "lotka-volterra"
    parameter_names = ("alpha", "beta", "gamma", "delta", "hare_0", "lynx_0", "sigma_hare", "sigma_lynx")
    event_shape = torch.Size([len(YEARS), 2])
    event_times = YEARS
    event_labels = ("hare", "lynx")
    event_unit = "thousand pelts"
    observations: ClassVar[tuple[str, ...]] = ("hudson-bay",)

    def __init__(
        self,
        dynamics: str = "ode",
        system_size: float = 10.0,
        substeps: int | None = None,
        max_events: int = 200_000,
        epsilon: float = 0.03,
    ) -> None:
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {', '.join(DYNAMICS)}; got {dynamics!r}")
        substeps = {"ode": 25, "sde": 100}.get(dynamics, 1) if substeps is None else substeps
        for argument, value in (("system_size", system_size), ("substeps", substeps), ("max_events", max_events)):
            if not value > 0:
                raise ValueError(f"{argument}: expected a positive number; got {value}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon: expected a number in (0, 1); got {epsilon}")
        self.dynamics, self.system_size, self.substeps, self.max_events = dynamics, system_size, substeps, max_events
        self.epsilon = epsilon
        self.differentiable = dynamics in ("ode", "sde")
        self.releases_gil = not self.differentiable
        self.prior = Product(
            [
                TruncatedNormal(torch.tensor([1.0, 0.05, 1.0, 0.05]), torch.tensor([0.5, 0.05, 0.5, 0.05])),
                LogNormal(torch.tensor([30.0, 5.0, 1.0, 1.0]).log(), torch.tensor([1.0, 1.0, 0.5, 0.5])),
            ]
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        theta = theta if self.differentiable else theta.detach()
        if self.dynamics == "ode":
            populations = self._ode(theta).exp()
        elif self.dynamics == "sde":
            populations = self._sde(theta, stream.torch(theta.device))
        else:
            populations = self._counts(theta, stream)
        # a stream of its own: a row's errors do not depend on how much noise other rows took
        generator = Stream.of(stream.key, role="observe").torch(theta.device)
        noise = row_normal(populations.shape, generator, theta.dtype)
        return populations * torch.exp(theta[:, None, 6:8] * noise)

    def _ode(self, theta: Tensor) -> Tensor:
        """Log populations with shape (n, 21, 2): in logs they stay positive, and are no stiffer than the rates."""
        alpha, beta, gamma, delta = theta[:, :4].unbind(1)
        rate = torch.stack((alpha, -gamma), 1)
        coupling = torch.stack((-beta, delta), 1)

        def field(z: Tensor) -> Tensor:
            return rate + coupling * z.exp().flip(1)

        times = torch.arange(len(YEARS), dtype=torch.float64)
        return rk4(field, theta[:, 4:6].log(), times, self.substeps)

    def _sde(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Populations with shape (n, 21, 2); coefficients see max(z, 0) (full truncation, Lord et al. 2010)."""
        from implicit_simulators.engines.sde import euler_maruyama

        rate = theta[:, [0, 2]]
        coupling = theta[:, [1, 3]]
        sign = theta.new_tensor([1.0, -1.0])

        def drift(z: Tensor) -> Tensor:
            z = z.clamp_min(0)
            return sign * (rate * z - coupling * z.prod(1, keepdim=True))

        def diffusion(z: Tensor) -> Tensor:
            z = z.clamp_min(0)
            # the floor keeps the square root's gradient finite at zero; it moves an extinct species by nothing visible
            intensity = (rate * z + coupling * z.prod(1, keepdim=True)) / self.system_size
            return torch.where(z > 0, intensity.clamp_min(1e-12).sqrt(), torch.zeros_like(z))

        times = torch.arange(len(YEARS), dtype=torch.float64)
        return euler_maruyama(drift, diffusion, theta[:, 4:6], times, self.substeps, generator).clamp_min(0)

    def _engine(self) -> Any:
        return _jump_engine() if self.dynamics == "jump" else _leap_engine(self.epsilon)

    def _counts(self, theta: Tensor, stream: Stream) -> Tensor:
        """Populations with shape (n, 21, 2), from counts; NaN after ``max_events``."""
        import numpy as np

        parameters = theta[:, :4].detach().cpu().double().numpy().copy()
        parameters[:, [1, 3]] /= self.system_size
        initial = np.rint(theta[:, 4:6].detach().cpu().double().numpy() * self.system_size)
        times = np.arange(len(YEARS), dtype=np.float64)
        states, _ = self._engine()(parameters, initial, times, stream.key, self.max_events)
        return torch.as_tensor(states / self.system_size, dtype=theta.dtype).to(theta.device)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over events or leaps; the seconds that took."""
        if self.differentiable:
            return 0.0
        seconds: float = self._engine().prepare()
        return seconds

    def summarize(self, x: Tensor) -> Tensor:
        r"""Log pelts and an integral-matching fit of the differential equations, with shape (n, 52).

        Integrated, :math:`\log u(t) = \log u_0 + \alpha t - \beta \int_0^t v` is linear in its unknowns. For each
        species the regression of the log pelts on t and on the trapezoidal integral of the other species' pelts gives
        three coefficients and the log of the residual standard deviation, beside the log of the whole integral.

        Below ten pelts and above a billion, populations are not told apart.

        References:
            | Optimal rate of direct estimators in systems of ordinary differential equations linear in functions of
              the parameters (Dattner & Klaassen, 2015)
            | https://doi.org/10.1214/15-EJS1053
        """
        logs = x.clamp(1e-2, 1e6).log()
        fits = [_integral_matching(logs[:, :, i], logs[:, :, 1 - i].exp()) for i in (0, 1)]
        return torch.cat((logs.flatten(1), *fits), 1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""The log likelihood under ``dynamics="ode"``, with shape (n,), differentiable in theta.

        .. math:: \log p(x \mid \theta) = \sum_{t,s} \log \mathrm{LogN}(x_{t,s}; \log z_{t,s}(\theta), \sigma_s)

        On a CPU the solution and its exact derivative come from compiled code in double precision
        (:func:`implicit_simulators.engines.ode.rk4_sensitivities`), elsewhere from torch.

        Args:
            theta: Parameters with shape (n, 8).
            x: Observation with shape (21, 2) or (n, 21, 2).

        Raises:
            ValueError: If ``dynamics`` is not ``"ode"`` (the likelihood is then unknown) or a shape is wrong.
        """
        if self.dynamics != "ode":
            raise ValueError(f'log_likelihood: known only for dynamics="ode"; this simulator has {self.dynamics!r}')
        theta = self.check_theta(theta)
        log_populations = _Solution.apply(theta, self.substeps) if theta.device.type == "cpu" else self._ode(theta)
        # written out: torch's LogNormal costs six times the solver
        log_x, sigma = x.to(theta).log(), theta[:, None, 6:8]
        terms = -0.5 * ((log_x - log_populations) / sigma).square() - sigma.log() - log_x
        return terms.sum((1, 2)) - 0.5 * math.log(2 * math.pi) * len(YEARS) * 2

    def _observation(self, name: str) -> Tensor:
        from implicit_simulators.observations import load

        frame = load(name)
        return torch.tensor(frame[["hare", "lynx"]].to_numpy(), dtype=torch.float32)

    def settings(self) -> dict[str, Any]:
        """The dynamics and its numerical settings."""
        if self.dynamics == "ode":
            return {"dynamics": "ode", "substeps": self.substeps}
        settings: dict[str, Any] = {"dynamics": self.dynamics, "system_size": self.system_size}
        if self.dynamics == "sde":
            return settings | {"substeps": self.substeps}
        settings["max_events"] = self.max_events
        return settings | ({"epsilon": self.epsilon} if self.dynamics == "tau" else {})


def _integral_matching(logs: Tensor, other: Tensor) -> Tensor:
    """Regress log pelts (n, T) on time and on the integral of the other species' pelts (n, T): five numbers each."""
    n, count = logs.shape
    integral = torch.nn.functional.pad((other[:, 1:] + other[:, :-1]).cumsum(1) / 2, (1, 0))
    total = integral[:, -1:]
    time = torch.linspace(0, 1, count, dtype=torch.float64, device=logs.device).expand(n, count)
    design = torch.stack((torch.ones_like(time), time, (integral / total).double()), 2)
    # the ridge decides where a constant population makes the two regressors one
    gram = design.mT @ design + 1e-4 * torch.eye(3, dtype=torch.float64, device=logs.device)
    coefficients = torch.linalg.solve(gram, design.mT @ logs.double()[..., None])
    residual = logs.double() - (design @ coefficients)[..., 0]
    spread = (residual.std(1, keepdim=True) + 1e-3).log()
    return torch.cat((coefficients[..., 0], spread, total.double().log()), 1).to(logs.dtype)


class _Solution(torch.autograd.Function):
    """Log populations and their exact derivative from the compiled solver, for a CPU."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, substeps: int) -> Tensor:
        import numpy as np

        values = theta.detach().double().numpy()
        times = np.arange(len(YEARS), dtype=np.float64)
        z, s = _ode_engine()(values[:, :4].copy(), np.log(values[:, 4:6]), times, substeps)
        s[..., 4:6] /= values[:, None, None, 4:6]  # from the log initial state to the initial state
        ctx.sensitivity = torch.from_numpy(s)
        ctx.width = theta.shape[1]
        return torch.from_numpy(z).to(theta.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        inner = torch.einsum("ntk,ntkp->np", grad.double(), ctx.sensitivity).to(grad.dtype)
        return torch.nn.functional.pad(inner, (0, ctx.width - inner.shape[1])), None


@lru_cache(maxsize=1)
def _ode_engine() -> Any:
    """The compiled ODE in log populations with its Jacobians; compiled at the first call in a process."""
    import numba
    import numpy as np

    @numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)
    def field(z, p, dz, jz, jp):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        u, v = np.exp(z[0]), np.exp(z[1])
        dz[0], dz[1] = p[0] - p[1] * v, -p[2] + p[3] * u
        jz[0, 1], jz[1, 0] = -p[1] * v, p[3] * u
        jp[0, 0], jp[0, 1], jp[1, 2], jp[1, 3] = 1.0, -v, -1.0, u

    return rk4_sensitivities(field, k=2, m=4)


def _rates(u: float, v: float, a: float, b: float, c: float, d: float) -> tuple[float, ...]:
    return a * u, b * u * v, d * u * v, c * v


def _jump_engine() -> Any:
    """The compiled jump process; compiled at the first call in a process."""
    from implicit_simulators.engines.jump import jump_process

    return jump_process(_rates, STOICHIOMETRY)


def _leap_engine(epsilon: float) -> Any:
    """The same in leaps."""
    from implicit_simulators.engines.tau_leap import tau_leap

    return tau_leap(_rates, STOICHIOMETRY, REACTANTS, epsilon)
