r"""L-GSO: follow the gradient of a surrogate that is learned around the current parameters, and again as they move.

Until the budget is spent:

1. simulate at a Latin hypercube in the box of half-width :math:`\epsilon` around the current place v;
2. train a conditional generator (an emulator) on these and on all earlier simulations inside the box;
3. lower the objective through the emulator, whose draws are differentiable in theta, and go there.

The objective is the distance of draws from data (``ii.fit``), or the expected loss of a draw (``ii.minimise``).

As published, step 3 is one step of Adam with the gradient at v, and :math:`\epsilon` is fixed (``step="adam"``). By
default the box is a trust region instead: the emulator's minimum within the ball of radius :math:`\epsilon` is tried,
is taken back if the next emulator finds it worse, and :math:`\epsilon` follows how well the last emulator foretold the
change. Noise decides how much is simulated: where the gradient is not distinct from the noise of as many simulations,
more are made before the search moves (the norm test of Byrd et al., 2012), in a box that grows, since noise in a slope
falls with the box's width; and the move is shortened by as much as noise lengthens a gradient.

The paper's simulators take random inputs that the surrogate is given as well. A ``Simulator`` keeps its randomness to
itself, which the paper allows for; the surrogate has more noise to learn, and needs more simulations for it.

References:
    | Black-Box Optimization with Local Generative Surrogates (Shirobokov et al., 2020)
    | https://arxiv.org/abs/2002.04632
    | Sample size selection in optimization methods for machine learning (Byrd, Chin, Nocedal and Wu, 2012)
    | https://doi.org/10.1007/s10107-012-0572-5
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison, comparison
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.emulators.emulation import Emulation, Rows
from implicit_infer.fitting.emulators.frame import Frame
from implicit_infer.fitting.emulators.learning import resolve_emulation
from implicit_infer.fitting.emulators.proposals import latin_hypercube
from implicit_infer.fitting.emulators.scored import ScoredEmulation
from implicit_infer.fitting.neighbourhood import Neighbourhood
from implicit_infer.fitting.objective import Objective, held_against
from implicit_infer.fitting.question import BudgetSpent, FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.verdict import judge, reserved
from implicit_infer.games import Training
from implicit_infer.progress import track
from implicit_simulators import Stream

LEAST = 1e-3
"""Smallest half-width of the box, in standard deviations of the prior."""

ROUNDS = 30
"""Rounds that the budget is meant for, where the simulations of a round are not set."""


def _quick() -> Emulation:
    training = Training(150, 2e-3, 2e-3, betas=(0.9, 0.999), schedule="constant", average=0.9, marks=1)
    return ScoredEmulation(training=training, batch_size=512)


@dataclass(frozen=True)
class LocalSurrogate(FitMethod):
    """Gradients through an emulator that is learned anew around the parameters as they move (L-GSO).

    Args:
        comparison: What holds draws against data: one with nothing to train.
        window: Length of the stretches of a series that are compared; None for whole observations.
        summaries: Whether summary statistics are compared.
        emulation: How the emulator is learned: "energy", "flow" or "gan", or one of them with its settings. The
            published one is the Cramer GAN.
        simulations: Simulations of a round; a thirtieth of the budget if None, and at least ten for each parameter.
        half_width: Half the width of the box at the start, in the prior's standard deviations of the parameters
            (freed of bounds).
        step: "trust-region", or "adam" as published.
        learning_rate: Adam's step size, in the same units; of "adam" alone.
        draws: Draws of the emulator for a gradient.
        keep_network: Whether the network goes on learning from round to round; if not, it begins anew.
        test_share: Share of the budget for the test of the fit against the data.

    Raises:
        ValueError: If a number is out of its range, or the comparison has a critic to train.
    """

    comparison: str | Comparison = "energy"
    window: int | None = None
    summaries: bool = False
    emulation: str | Emulation = field(default_factory=_quick)
    simulations: int | None = None
    half_width: float = 0.4
    step: Literal["trust-region", "adam"] = "trust-region"
    learning_rate: float = 0.05
    draws: int = 2000
    keep_network: bool = True
    test_share: float = 0.1

    name = "local-surrogate"
    compares = True

    def __post_init__(self) -> None:
        resolve_emulation(self.emulation)
        if comparison(self.comparison).trained:
            raise ValueError(
                f"comparison: expected one with nothing to train, such as 'energy' or 'mmd'; got {self.comparison!r}"
            )
        if self.step not in ("trust-region", "adam"):
            raise ValueError(f"step: expected 'trust-region' or 'adam'; got {self.step!r}")
        if not (0 < self.half_width < math.inf and 0 < self.learning_rate < math.inf):
            raise ValueError(
                f"half_width, learning_rate: expected positive numbers; got {self.half_width}, {self.learning_rate}"
            )
        if self.draws < 20 or (self.simulations is not None and self.simulations < 4):
            raise ValueError(f"draws, simulations: expected at least 20 and 4; got {self.draws} and {self.simulations}")

    def fit(self, question: FitQuestion) -> Fit:
        """Search for the parameters whose draws are nearest to the data, and test where it ends.

        Raises:
            ValueError: If the budget is too small for three rounds.
        """
        kept = reserved(question, self.test_share)
        objective = held_against(question, self.comparison, window=self.window, summaries=self.summaries)
        found = self.search(question, objective, kept)
        figures, warnings = judge(question, found.theta, kept)
        found.simulations = question.spent
        found.figures |= figures | {"comparison": comparison(self.comparison).name}
        found.warnings += warnings
        return found

    def search(self, question: FitQuestion, objective: Objective, kept: int = 0) -> Fit:
        """Lower an objective of the simulator's draws.

        Args:
            question: The question, whose data are not looked at.
            objective: What is lowered.
            kept: Simulations that are not to be spent.

        Returns:
            The fit, without a test.

        Raises:
            ValueError: If the budget is too small for three rounds.
        """
        d = question.simulator.dim
        available = question.left - kept
        each = max(10 * d, available // ROUNDS) if self.simulations is None else self.simulations
        if available < 3 * each:
            raise ValueError(
                f"budget: expected at least {3 * each} simulations to search with, for three rounds; got {available}"
            )
        search = _Search(self, question, objective)
        with track(self.name, available, show=question.progress) as bar:
            while question.left - kept >= each:
                try:
                    search.round(each)
                except BudgetSpent:  # pragma: no cover - the condition above leaves enough
                    break
                bar.update(each, **search.shown())
        return search.result()


@dataclass
class _Search:
    """One search under way."""

    method: LocalSurrogate
    question: FitQuestion
    objective: Objective
    rounds: int = 0
    waited: int = 0
    trace: Trace = field(default_factory=Trace)
    network: Any = None

    def __post_init__(self) -> None:
        self.space = Space.of(self.question.simulator, self.question.seed)
        self.v = self.space.start(self.question.start)
        self.width = self.method.half_width
        self.buffer = Neighbourhood()
        self.random = Stream.of(self.question.seed, role="prior").torch()
        self.emulation = resolve_emulation(self.method.emulation)
        self.adam: torch.optim.Optimizer | None = None
        self.before: _Place | None = None

    def round(self, count: int) -> None:
        """Simulate around the current place, learn, and move."""
        self.rounds += 1
        v = self.v + self.width * (2 * latin_hypercube(count, self.space.dim, self.random) - 1)
        theta = self.space.theta(v)
        self.buffer.add(v, theta, self.question.simulate(theta).cpu())
        local = self._learn()
        if local is None:  # nearly all simulations failed: the same place again, closer by
            self.width = max(0.5 * self.width, LEAST)
            return
        here = local.at(self.v)
        self.trace.note(
            self.question.spent, self.space.theta(self.v[None])[0], objective=here.value, half_width=self.width
        )
        if self.method.step == "adam":
            self._adam(here)
        else:
            self._trust(local, here)

    def _learn(self) -> _Local | None:
        _, theta, x = self.buffer.near(self.v, self.width)
        if len(x) < 4:
            return None
        device = torch.device(self.question.device)
        frame = Frame.fit(self.question.simulator, theta, x).to(device)
        c = frame.conditions(theta.to(device))
        rows = Rows(frame.free(x.to(device), c), c, c[:0], c[:0])
        seed = Stream.of(self.question.seed, self.rounds, "train").key
        if self.network is None or not self.method.keep_network:
            self.network = self.emulation.network(rows.v.shape[1], self.space.dim, seed).to(device)
        kept, _ = self.emulation.train(self.network.requires_grad_(True), rows, seed=seed)
        kept = kept.eval().requires_grad_(False)
        noise = Stream.of(self.question.seed, self.rounds, "sample").torch(device)
        shape = (self.method.draws // 2, *self.network.latent_shape)
        half = torch.randn(shape, generator=noise, device=device)
        return _Local(self.space, frame, kept, torch.cat((half, -half)), self.objective, len(x), self.width)

    def _adam(self, here: _Place) -> None:
        if self.adam is None:
            self.held = self.v.clone()
            self.adam = torch.optim.Adam([self.held], lr=self.method.learning_rate)
        self.held.grad = here.gradient
        self.adam.step()
        self.v = self.held.clone()

    def _trust(self, local: _Local, here: _Place) -> None:
        before = self.before
        if before is not None and before.tried is not None:
            error = math.hypot(here.error, before.error)
            gained, foretold = before.value - here.value, before.value - before.foretold
            if gained < -2 * error:
                # back, and nearer: what was simulated here is kept for when the search returns
                self.v, self.width = before.v, max(0.5 * self.width, LEAST)
                self.before = replace(before, tried=None)
                return
            if gained > 0.5 * foretold and before.far:
                self.width = min(1.5 * self.width, 2.0)
            elif gained + 2 * error < 0.25 * foretold:
                self.width = max(0.7 * self.width, LEAST)
        if here.signal < SIGNAL:
            # noise in a slope falls with the width of the box, which curvature keeps from growing for ever
            self.width = min(WIDEN * self.width, 2.0)
            if self.waited < PATIENCE:
                self.waited += 1
                self.before = here
                return
        self.waited = 0
        tried, foretold = local.lowest(self.v)
        move = here.shrink * (tried - self.v)
        self.before = replace(here, tried=self.v + move, foretold=foretold, far=float(move.norm()) > 0.8 * local.radius)
        self.v = self.v + move

    def shown(self) -> dict[str, float]:
        """What the progress bar tells."""
        values = self.trace.figures.get("objective", [])
        return {"objective": values[-1] if values else math.nan, "half-width": self.width}

    def result(self) -> Fit:
        """The fit as it stands: by trust region, where the last step that was not taken back has led."""
        warnings = []
        if self.buffer.failed:
            warnings.append(f"{self.buffer.failed} of {self.question.spent} simulations failed")
        if self.method.step == "adam":
            places = torch.stack(self.trace.theta[-max(1, len(self.trace.theta) // 5) :])
            theta = self.space.theta(self.space.free(places).mean(0, keepdim=True))[0]
        else:
            theta = self.space.theta(self.v[None])[0]
        values = self.trace.figures.get("objective", [])
        return Fit(
            self.question.simulator,
            self.question.data,
            theta,
            method=self.method.name,
            simulations=self.question.spent,
            trace=self.trace,
            figures={
                "objective": values[-1] if values else None,
                "rounds": self.rounds,
                "half_width": self.width,
                "emulation": self.emulation.name,
            },
            warnings=warnings,
        )


SIGNAL = 2.0
"""Squared length of a gradient, in units of the noise in it, from which on it is followed at once."""

PATIENCE = 2
"""Rounds that the search stays where the gradient is lost in noise, to gather simulations."""


WIDEN = 1.25
"""By how much the box grows in a round whose gradient is lost in noise."""


@dataclass(frozen=True)
class _Place:
    """What an emulator says of one place."""

    v: Tensor
    value: float
    error: float
    gradient: Tensor
    signal: float
    shrink: float
    tried: Tensor | None = None
    foretold: float = math.nan
    far: bool = False


@dataclass(frozen=True)
class _Local:
    """An emulator of one box, with the noise that all its draws are made of."""

    space: Space
    frame: Frame
    network: Any
    z: Tensor
    objective: Objective
    count: int
    radius: float

    def draws(self, v: Tensor) -> Tensor:
        """Emulated simulations at one place with shape (d,): always of the same noise."""
        c = self.frame.conditions(self.space.theta(v[None])).expand(len(self.z), -1)
        return self.frame.place(self.network(self.z, c), c)

    def at(self, v: Tensor) -> _Place:
        """Value and gradient at a place, and how far noise moves them."""
        v = v.to(self.z.device).detach().requires_grad_(True)
        x = self.draws(v)
        value = self.objective(x)
        (gradient,) = torch.autograd.grad(value, v)
        with torch.no_grad():
            spread = self.objective.spread(x.detach())
        # the variance of a slope that is fitted to so many draws, spread evenly over the box
        noise = len(v) * spread**2 * 3 / (self.count * self.radius**2)
        square = float(gradient.square().sum())
        signal = square / max(noise, 1e-30)
        shrink = max(0.0, 1 - noise / max(square, 1e-30))
        return _Place(
            v.detach().cpu(), float(value.detach()), spread / self.count**0.5, gradient.detach().cpu(), signal, shrink
        )

    def lowest(self, v: Tensor, steps: int = 40) -> tuple[Tensor, float]:
        """The lowest place that descent finds in the ball around v, and the objective there."""
        centre = v.to(self.z.device)
        place = centre.clone().requires_grad_(True)
        best, lowest = centre.clone(), math.inf
        rate = self.radius / 5
        adam = torch.optim.Adam([place], lr=rate)
        for step in range(steps + 1):
            value = self.objective(self.draws(place))
            if float(value.detach()) < lowest:
                best, lowest = place.detach().clone(), float(value.detach())
            if step == steps:
                break
            (place.grad,) = torch.autograd.grad(value, place)
            for group in adam.param_groups:
                group["lr"] = rate * (1 - step / steps)
            adam.step()
            with torch.no_grad():
                away = place - centre
                place.copy_(centre + away * min(1.0, self.radius / max(float(away.norm()), 1e-30)))
        return best.cpu(), lowest
