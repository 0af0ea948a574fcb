r"""Likelihood-free variational inference: a density q(theta) for one observation, or for independent ones.

The evidence bound of a hierarchical implicit model with global parameters theta, less the constant
:math:`\sum_n \log q(x_n)`, needs the likelihood only as a ratio:

.. math:: \mathcal{L}(\lambda) = \mathbb{E}_{q_\lambda(\theta)} \left[ \log p(\theta) - \log q_\lambda(\theta) +
    \sum_n r(x_n, \theta) \right], \quad r(x, \theta) = \log \frac{p(x \mid \theta)}{q(x)}

r is a network that tells pairs (x, theta) of the simulator, :math:`p(x \mid \theta) q_\lambda(\theta)`, from pairs with
x from :math:`q(x)` and the same law of theta, by the logarithmic score; its slope in theta moves q by reparametrised
gradients, so that nothing is asked of the simulator but draws. Whatever a simulator draws inside itself (the model's
local variables) is integrated over by simulating.

The law q(x) cancels from the gradient; the paper takes the data's empirical one. With few data a network tells those
few points by heart, and with one there is nothing to tell: then q(x) is the marginal law of the simulations.

q has a density (the paper's q of the global parameters does, too): a normal in unconstrained space or a flow. The
simulations are spent in rounds, each at draws of the q so far; r learns from all of them, for its optimum does not
depend on where theta came from.

References:
    | Hierarchical Implicit Models and Likelihood-Free Variational Inference (Tran, Ranganath & Blei, 2017)
    | https://arxiv.org/abs/1702.08896
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.networks.train import train
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.lfvi_family import Family, FlowFamily, NormalFamily
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.variational import VariationalPosterior
from implicit_infer.progress import track
from implicit_simulators import Simulator, Stream

logger = logging.getLogger(__name__)

MANY = 50
"""Independent points from which on the data's empirical law can be told from others."""


class Point(Simulator):
    """A simulator seen through one of the points of its x, as which summaries are standardised."""

    def __init__(self, simulator: Simulator, width: int) -> None:
        self.name, self.parameter_names, self.prior = simulator.name, simulator.parameter_names, simulator.prior
        self.event_shape = torch.Size([width])


@dataclass(frozen=True)
class LFVI(Method):
    """Likelihood-free variational inference; see the module for the objective.

    Args:
        family: Of q, in unconstrained space: "normal", with any covariance, or "flow" (zuko's neural spline flow).
        reference: Where q(x) comes from: "data", "simulations", or "auto" for the data where the simulator says that x
            is 50 independent points or more.
        rounds: Times that simulations are made at draws of q, the prior's in the first.
        hidden: Widths of the ratio's hidden layers.
        batch_size: Simulations of a batch.
        epochs: Passes of the ratio over the simulations in each round, of which the best on held-out ones is kept.
        learning_rate: AdamW's step size of the ratio.
        steps: Steps of q in each round.
        draws: Draws of q at each of them.
        step_size: Adam's step size of q, which falls to 0 in each round.
        validation: Share of the simulations held out.

    Raises:
        ValueError: If a number is out of its range or a name unknown.
    """

    family: Literal["normal", "flow"] = "normal"
    reference: Literal["auto", "data", "simulations"] = "auto"
    rounds: int = 8
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 256
    epochs: int = 30
    learning_rate: float = 2e-3
    steps: int = 300
    draws: int = 128
    step_size: float = 0.02
    validation: float = 0.1

    name = "lfvi"
    amortised = False

    def __post_init__(self) -> None:
        if self.family not in ("normal", "flow"):
            raise ValueError(f"family: expected 'normal' or 'flow'; got {self.family!r}")
        if self.reference not in ("auto", "data", "simulations"):
            raise ValueError(f"reference: expected 'auto', 'data' or 'simulations'; got {self.reference!r}")
        for argument in ("rounds", "batch_size", "epochs", "steps", "draws"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")
        for argument in ("learning_rate", "step_size"):
            if not 0 < getattr(self, argument) < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")

    def infer(self, question: Question) -> VariationalPosterior:
        """Fit q to the observation, in rounds that spend ``question.budget`` simulations together."""
        simulator, device = question.simulator, torch.device(question.device)
        share = question.budget // self.rounds
        if share < 2:
            raise ValueError(f"budget: expected at least 2 simulations for each of {self.rounds} rounds")
        points = simulator.points
        observed = question.observed.reshape(points, -1)
        first = replace(question, budget=question.budget - share * (self.rounds - 1)).runs()
        theta, x = first.valid()
        spent, failed = len(first), int(first.failed.sum())
        seen_as = Point(simulator, observed.shape[1]) if points > 1 else simulator
        coordinates = Coordinates(seen_as, theta.repeat_interleave(points, 0), _points(x, points))
        s_observed = coordinates.summaries(observed.to(x) if points > 1 else question.observed[None].to(x)).to(device)
        from_data = self.reference == "data" or (self.reference == "auto" and points >= MANY)
        u = coordinates.transform.inv(theta)
        centre, scale = u.mean(0).to(device), u.std(0).clamp_min(1e-6).to(device)
        family: Family = (NormalFamily if self.family == "normal" else FlowFamily)(simulator.dim, seed=question.seed)
        family.to(device)
        ratio = ConditionalCritic(
            s_observed.shape[1], simulator.dim, self.hidden, activation="silu", seed=question.seed + 1, device=device
        )
        rows = [part.to(device) for part in self._rows(coordinates, theta, x, points)]
        rows[1] = (rows[1] - centre) / scale
        random = Stream.of(question.seed, role="train").torch(device)
        bounds: list[float] = []
        with track(f"fitting {self.name}", total=self.rounds, show=question.progress) as bar:
            for part in range(self.rounds):
                if part:
                    with torch.no_grad():
                        fresh = coordinates.transform((centre + scale * family.draw(share, random)).cpu())
                    runs = question.simulate(fresh.to(theta), part)
                    spent, failed = spent + len(runs), failed + int(runs.failed.sum())
                    more = [one.to(device) for one in self._rows(coordinates, *runs.valid(), points)]
                    more[1] = (more[1] - centre) / scale
                    rows = [torch.cat(pair) for pair in zip(rows, more, strict=True)]
                self._learn(ratio, rows, points, s_observed if from_data else None, question.seed + part)
                bounds.append(self._move(family, ratio, coordinates, s_observed, centre, scale, random))
                bar.update()
        family.to("cpu")
        centre, scale = centre.cpu(), scale.cpu()

        def draw(n: int, random: torch.Generator) -> Tensor:
            return coordinates.transform(centre + scale * family.draw(n, random))

        return LFVIPosterior(
            simulator,
            question.observed,
            draw=draw,
            again=lambda x, seed: self.infer(replace(question, observed=x, seed=seed, progress=False)),
            family=family,
            coordinates=coordinates,
            centre=centre,
            scale=scale,
            method=self.name,
            simulations=spent,
            figures={
                "failed_simulations": failed,
                "reference": "data" if from_data else "simulations",
                "bound": bounds[-1],
                "bounds": bounds,
            },
            warnings=[],
        )

    @staticmethod
    def _rows(coordinates: Coordinates, theta: Tensor, x: Tensor, points: int) -> list[Tensor]:
        """Summaries of each simulation's points, flat with shape (n, points k), and u with shape (n, d)."""
        s = coordinates.summaries(_points(x, points))
        return [s.reshape(len(x), -1), coordinates.transform.inv(theta)]

    def _learn(self, ratio: ConditionalCritic, rows: list[Tensor], points: int, data: Tensor | None, seed: int) -> None:
        """Let the network tell pairs of the simulator from pairs with x of q(x)."""

        def loss(s: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
            n = len(s)
            mine = s.reshape(n * points, -1)
            conditions = u.repeat_interleave(points, 0)
            if data is None:
                # the same points beside other parameters: a turn by whole simulations, each by its own
                turn = int(torch.randint(1, max(n, 2), (), generator=generator, device=generator.device))
                others = s.roll(turn, 0).reshape(n * points, -1)
            else:
                picked = torch.randint(len(data), (n * points,), generator=generator, device=generator.device)
                others = data[picked]
            joint, product = ratio(mine, conditions), ratio(others, conditions)
            return softplus(-joint).mean() + softplus(product).mean()

        train(
            ratio,
            loss,
            [rows],
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation=self.validation,
            patience=None,
            schedule="cosine",
            seed=seed,
        )

    def _move(
        self,
        family: Family,
        ratio: ConditionalCritic,
        coordinates: Coordinates,
        observed: Tensor,
        centre: Tensor,
        scale: Tensor,
        random: torch.Generator,
    ) -> float:
        """Raise the bound with the ratio held; the mean bound of the last tenth of the steps."""
        optimiser = torch.optim.Adam(family.parameters(), lr=self.step_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        frozen = [parameter.requires_grad for parameter in ratio.parameters()]
        ratio.requires_grad_(False)
        total = torch.zeros((), device=centre.device)
        last = max(1, self.steps // 10)
        for step in range(self.steps):
            v, log_q = family.draw_and_density(self.draws, random)
            log_ratio = ratio(observed[None], v[:, None]).sum(1)
            u = (centre + scale * v).cpu()
            log_prior = coordinates.log_prior(u).to(v) + scale.log().sum()
            bound = (log_prior - log_q + log_ratio).mean()
            optimiser.zero_grad()
            (-bound).backward()
            torch.nn.utils.clip_grad_norm_(family.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            if step >= self.steps - last:
                total += bound.detach() / last
        for parameter, was in zip(ratio.parameters(), frozen, strict=True):
            parameter.requires_grad_(was)
        return float(total)


class LFVIPosterior(VariationalPosterior):
    """Draws of q and its density."""

    def __init__(
        self,
        *args: Any,
        family: Family,
        coordinates: Coordinates,
        centre: Tensor,
        scale: Tensor,
        **about: Any,
    ) -> None:
        super().__init__(*args, **about)
        self.family, self.coordinates, self.centre, self.scale = family, coordinates, centre, scale

    @torch.no_grad()
    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        if not torch.equal(x, self.observed):
            again = self.again(x, 0)
            assert isinstance(again, LFVIPosterior)
            return again._log_prob(theta, x)
        inside, legal = self.coordinates.legal(theta.to(self.centre))
        transform = self.coordinates.transform
        u = transform.inv(legal)
        density = self.family.density((u - self.centre) / self.scale) - self.scale.log().sum()
        density = density - transform.log_abs_det_jacobian(u, legal)
        return torch.where(inside, density, -torch.inf)


def _points(x: Tensor, points: int) -> Tensor:
    """The points of all x as rows, or x itself where it is one."""
    return x if points == 1 else x.reshape(len(x) * points, -1)
