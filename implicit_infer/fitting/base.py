"""What every fit is, whoever made it: parameters by name, how sure they are, how they were found, and a warning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.fitting.question import FitQuestion
from implicit_simulators import Seed, Simulator, Stream, unconstrained
from implicit_simulators.base import as_tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass
class Trace:
    """The way that a fit went: one entry for each step that was noted.

    Attributes:
        simulations: Simulations spent by then.
        theta: The parameters then, each with shape (d,).
        figures: What the method says of the step (loss, entropy, ...), each a list as long.
    """

    simulations: list[int] = field(default_factory=list)
    theta: list[Tensor] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, simulations: int, theta: Tensor, **figures: float) -> None:
        """Add a step; every step of one fit has the same figures."""
        self.simulations.append(simulations)
        self.theta.append(theta.detach().cpu().clone())
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(float(value))


class Fit:
    r"""Fitted parameters of a simulator.

    Args:
        simulator: The simulator that was fitted.
        data: What it was fitted to, with shape (m, \*event_shape).
        theta: The estimate, with shape (d,).
        method: Name of the method.
        simulations: Simulations spent, failed ones included.
        trace: The way there.
        covariance: Estimated covariance of the estimate, with shape (d, d), or None where the method has none.
        draws: Draws that stand for the uncertainty (of a proposal, a bootstrap, a profile), with shape (k, d), or None.
        figures: What the method says of its own run: JSON-able.
        warnings: Sentences that a user should read.
    """

    def __init__(
        self,
        simulator: Simulator,
        data: Tensor,
        theta: Tensor,
        *,
        method: str,
        simulations: int,
        trace: Trace,
        covariance: Tensor | None = None,
        draws: Tensor | None = None,
        figures: dict[str, Any] | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        self.simulator = simulator
        self.data = data
        self.theta = theta.detach().cpu()
        self.method = method
        self.simulations = simulations
        self.trace = trace
        self.covariance = covariance
        self.draws = draws
        self.figures = dict(figures or {})
        self.warnings = list(warnings or [])

    @property
    def parameters(self) -> dict[str, float]:
        """The estimate by name."""
        return dict(zip(self.simulator.parameter_names, self.theta.tolist(), strict=True))

    @property
    def standard_errors(self) -> dict[str, float] | None:
        """Standard error of each parameter by name: of the draws, or from the covariance; None if neither is there."""
        if self.draws is not None:
            spread = self.draws.std(0)
        elif self.covariance is not None:
            spread = self.covariance.diagonal().clamp_min(0).sqrt()
        else:
            return None
        return dict(zip(self.simulator.parameter_names, spread.tolist(), strict=True))

    def sample(self, sample_shape: tuple[int, ...] | torch.Size = (), *, seed: Seed = None) -> Tensor:
        r"""Draw from the distribution that the method left over theta, with shape (\*sample_shape, d).

        Raises:
            NotImplementedError: If the method left none.
        """
        if self.draws is None:
            raise NotImplementedError(f"a fit by {self.method} is a point: it has no distribution over its parameters")
        shape = torch.Size(sample_shape)
        generator = Stream.of(seed, role="sample").torch()
        rows = torch.randint(len(self.draws), (shape.numel(),), generator=generator)
        return self.draws[rows].reshape(*shape, -1)

    def summary(self) -> DataFrame:
        """One row for each parameter: the estimate, its standard error and 95 % interval, and the prior's 90 % range.

        The interval is that of the draws where there are any, else two standard errors wide; columns that the method
        cannot fill hold NaN.
        """
        import pandas as pd

        prior = self.simulator.sample_prior(2000, 0).double()
        ends = torch.tensor([0.05, 0.95], dtype=torch.float64)
        table: dict[str, list[float]] = {"estimate": self.theta.tolist()}
        errors = self.standard_errors
        nothing = [float("nan")] * len(self.theta)
        table["standard error"] = nothing if errors is None else list(errors.values())
        if self.draws is not None:
            low, high = self.draws.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        else:
            half = 1.96 * torch.tensor(table["standard error"])
            low, high = self.theta - half, self.theta + half
        table |= {"2.5 %": low.tolist(), "97.5 %": high.tolist()}
        table |= dict(zip(("prior 5 %", "prior 95 %"), prior.quantile(ends, dim=0).tolist(), strict=True))
        return pd.DataFrame(table, index=pd.Index(self.simulator.parameter_names, name="parameter"))

    def plot(self, path: str | os.PathLike[str] | None = None, *, draws: int = 1000, seed: Seed = 0) -> Figure:
        """Draw the parameters' way, and data beside draws at the estimate.

        Args:
            path: Where to write the picture, by the ending of its name; nowhere if None.
            draws: Simulations at the estimate, which no budget counts.
            seed: Of these draws.

        Returns:
            A matplotlib figure.
        """
        from implicit_infer.fitting.picture import plot_fit

        figure = plot_fit(self, draws, seed)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to one safetensors file, which ``ii.load_fit`` reads.

        Raises:
            TypeError: If its figures or the simulator's settings are no JSON.
        """
        from implicit_infer.fitting.saving import save_fit

        save_fit(self, path)

    def __repr__(self) -> str:
        found = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters.items())
        return f"<fit of {self.simulator!r} by {self.method}: {found}; {self.simulations} simulations>"


class FitMethod:
    """Answers a ``FitQuestion`` with a ``Fit``. Children are frozen dataclasses of their settings.

    Attributes:
        name: The method's name in ``ii.fit_methods()`` and on the command line.
        compares: Whether the method holds draws against data by a ``Comparison``, which it then has as the setting
            ``comparison``.
        needs_gradients: Whether the simulator must be differentiable.
    """

    name: ClassVar[str]
    compares: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False

    def fit(self, question: FitQuestion) -> Fit:
        """Answer the question, spending at most ``question.budget`` simulations."""
        raise NotImplementedError(f"{type(self).__name__} must write fit(question)")

    def settings(self) -> dict[str, Any]:
        """All settings by name, for reports."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}


def check_fit_method(method: FitMethod, simulator: Simulator) -> None:
    """Refuse a method that the simulator cannot serve.

    Raises:
        ValueError: If the method follows gradients through the simulator, and the simulator has none.
    """
    if method.needs_gradients and not simulator.differentiable:
        raise ValueError(
            f"method: {method.name!r} follows gradients through the simulator, and {simulator.name} has none "
            f"(differentiable is False); take one that does not, such as 'avo'"
        )


def check_start(simulator: Simulator, start: Any) -> Tensor | None:
    """``start`` as parameters with shape (d,) inside the prior's support, or None.

    Args:
        simulator: The simulator.
        start: Numbers in the order of the parameters, or a mapping from all of their names; None for none.

    Raises:
        ValueError: If names or shape do not fit, a value is not finite, or it lies outside of the prior's support.
        TypeError: If it is not numeric.
    """
    if start is None:
        return None
    if isinstance(start, Mapping):
        if set(start) != set(simulator.parameter_names):
            raise ValueError(
                f"start: expected {', '.join(simulator.parameter_names)}; got {', '.join(map(str, start))}"
            )
        start = [start[name] for name in simulator.parameter_names]
    theta = as_tensor(start, "start").detach().cpu().reshape(-1)
    if len(theta) != simulator.dim:
        raise ValueError(f"start: expected {simulator.dim} numbers; got {len(theta)}")
    row = simulator.check_theta(theta[None])
    support: Any = simulator.prior.support
    # the open interior: a value on the border has no place in unconstrained space
    inside = support.check(row) and torch.isfinite(unconstrained(simulator.prior).inv(row)).all()
    if not bool(inside):
        raise ValueError(f"start: expected parameters inside the prior's support; got {theta.tolist()}")
    return theta


def check_data(simulator: Simulator, data: Any) -> Tensor:
    r"""``data`` as a finite tensor of shape (m, \*event_shape); a single observation is taken as m = 1.

    Raises:
        ValueError: If it has another shape, no rows, or holds NaN or infinity.
    """
    if isinstance(data, str):
        return simulator.observation(data)[None]
    data = as_tensor(data, "data")
    if data.shape == simulator.event_shape:
        data = data[None]
    if data.ndim == 1 and simulator.event_shape in (torch.Size([]), torch.Size([1])):
        data = data.reshape(-1, *simulator.event_shape)
    if data.shape[1:] != simulator.event_shape or not len(data):
        expected = ", ".join(map(str, ("m", *simulator.event_shape)))
        raise ValueError(f"data: {simulator.name} expects shape ({expected}); got {tuple(data.shape)}")
    if not torch.isfinite(data).all():
        bad = int((~torch.isfinite(data)).sum())
        raise ValueError(f"data: expected finite values; {bad} of {data.numel()} are NaN or infinite")
    return data
