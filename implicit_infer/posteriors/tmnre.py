r"""TMNRE: rounds of simulations in an ever smaller box around one observation, and ratios of marginals.

In each round a network for each parameter learns the marginal ratio
:math:`r_j(\theta_j, x) = p(\theta_j \mid x) / p(\theta_j)` from all simulations in the box, and the box is cut down to
where none of them is negligible at the observation,

.. math:: \Gamma = \prod_j \operatorname{hull} \{ \theta_j : r_j(\theta_j, x_o) \ge \epsilon \max r_j(\cdot, x_o) \}.

The next simulations are draws of the prior in :math:`\Gamma`, and so are those of earlier rounds that lie in it: all of
them are used again, with no weights. Rounds end where a cut keeps more than a given share of the prior's mass; what
then remains of the budget is simulated in the last box. There, marginal ratios of single parameters and of pairs are
learned, and (beyond the paper, which has marginals only) a joint posterior.

The posterior is thus that of the prior in the box. It says nothing of parameters outside, which :math:`\epsilon` has
declared impossible, and holds for other x only where theirs are inside; asked of another x, it starts again.

References:
    | Truncated marginal neural ratio estimation (Miller, Cole, Forré, Louppe & Weniger, 2021)
    | https://arxiv.org/abs/2107.01214
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.candidate_losses import BinaryLoss
from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_estimators.networks.train_ratio import RatioTraining, train_ratio
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.nre import NRE
from implicit_infer.posteriors.ratio.inputs import RatioInputs
from implicit_infer.posteriors.ratio.marginals import Marginal, columns_of, log_ratios, truncate
from implicit_infer.posteriors.ratio.plain import deal
from implicit_infer.posteriors.ratio.self_check import self_check
from implicit_infer.posteriors.ratio.truncated_prior import TruncatedPrior
from implicit_infer.posteriors.ratio.truncated_simulator import TruncatedSimulator
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_simulators import Stream

DRAWS = 2**14
"""Draws of the prior in the box, at which marginal ratios are taken."""

Subsets = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class TMNRE(Method):
    """Truncated marginal ratio estimation: simulates where one observation can have come from.

    Args:
        rounds: Most rounds, which share the budget evenly; 1 does not truncate.
        epsilon: A parameter is kept where its marginal ratio is at least this share of its largest.
        enough: Rounds end once a cut keeps at least this share of the prior's mass in the box.
        pairs: Whether to learn the marginals of all pairs of parameters, too.
        hidden: Widths of the marginal networks' hidden layers.
        validation: Share of the simulations held out from the marginal networks.
        training: Epochs, batches and step sizes of the marginal networks.
        joint: The method that learns the joint posterior in the last box, from the same simulations.

    Raises:
        ValueError: If a setting is out of its range.
    """

    rounds: int = 4
    epsilon: float = 1e-6
    enough: float = 0.8
    pairs: bool = True
    hidden: tuple[int, ...] = (64, 64)
    validation: float = 0.1
    training: RatioTraining = field(default_factory=RatioTraining)
    joint: Method = field(default_factory=NRE)

    name = "tmnre"
    amortised = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds: expected a positive int; got {self.rounds}")
        for argument in ("epsilon", "enough", "validation"):
            value = getattr(self, argument)
            if not 0 < value < 1:
                raise ValueError(f"{argument}: expected a number in (0, 1); got {value}")
        if not isinstance(self.joint, Method):
            raise TypeError(f"joint: expected a Method such as NRE(...); got {type(self.joint).__name__}")

    def infer(self, question: Question) -> TMNREPosterior:
        """Spend ``question.budget`` simulations over the rounds.

        Raises:
            ValueError: If the prior's parameters are not known to be independent, or the budget is less than four
                simulations for each round.
        """
        if question.budget < 4 * self.rounds:
            raise ValueError(f"budget: expected at least 4 simulations for each round; got {question.budget}")
        simulator, each = question.simulator, question.budget // self.rounds
        side = torch.full((simulator.dim,), torch.inf)
        box = TruncatedSimulator(simulator, -side, side)
        runs = replace(question, budget=each if self.rounds > 1 else question.budget).runs()
        theta, x = runs.valid()
        spent, failed = len(runs), int(runs.failed.sum())
        singles: Subsets = [(j,) for j in range(simulator.dim)]
        history: list[dict[str, Any]] = [_account(box, spent)]
        for part in range(1, self.rounds):
            marginals = _Marginals(self, box, theta, x, singles, question, f"round {part}")
            smaller = TruncatedSimulator(simulator, *marginals.cut(self.epsilon))
            kept = smaller.prior.log_mass - box.prior.log_mass
            box, last = smaller, part == self.rounds - 1 or kept >= torch.tensor(self.enough).log()
            count = question.budget - spent if last else each
            with Stream.of(question.seed, part, "prior").forked():
                fresh = question.simulate(box.prior.sample((count,)), part)
            spent, failed = spent + count, failed + int(fresh.failed.sum())
            theta, x = (torch.cat(both) for both in zip((theta, x), fresh.valid(), strict=True))
            inside = ((theta >= box.prior.low) & (theta <= box.prior.high)).all(1)
            theta, x = theta[inside], x[inside]
            history.append(_account(box, count) | {"used": len(theta)})
            if last:
                break
        found: dict[tuple[str, ...], Marginal] = {}
        figures: dict[str, Any] = {"failed_simulations": failed, "rounds": history, "marginals": {}}
        warnings: list[str] = []
        wanted: list[Subsets] = [singles]
        if self.pairs and simulator.dim > 1:
            wanted.append(list(combinations(range(simulator.dim), 2)))
        for subsets in wanted:
            marginals = _Marginals(self, box, theta, x, subsets, question, "marginals")
            for marginal, about, words in marginals.results(question.seed):
                found[marginal.names] = marginal
                figures["marginals"][", ".join(marginal.names)] = about
                warnings += [f"{', '.join(marginal.names)}: {sentence}" for sentence in words]
        bank = Runs(theta, x, question.seed, {}, simulator.parameter_names)
        joint = self.joint.infer(replace(question, simulator=box, budget=len(theta), bank=bank))
        return TMNREPosterior(
            simulator,
            question.observed,
            joint=joint,
            marginals=found,
            asked=question,
            settings=self,
            method=self.name,
            simulations=spent,
            figures={**figures, "joint": joint.figures},
            warnings=warnings + [f"joint: {sentence}" for sentence in joint.warnings],
        )


def _account(box: TruncatedSimulator, simulations: int) -> dict[str, Any]:
    mass = float(torch.tensor(box.prior.log_mass).exp())
    low, high = (
        [value if abs(value) < torch.inf else None for value in b.tolist()] for b in (box.prior.low, box.prior.high)
    )
    return {"low": low, "high": high, "prior_mass": mass, "simulations": simulations, "used": simulations}


class _Marginals:
    """Networks of some subsets of parameters, trained on the simulations in a box."""

    def __init__(
        self,
        settings: TMNRE,
        box: TruncatedSimulator,
        theta: Tensor,
        x: Tensor,
        subsets: Subsets,
        question: Question,
        what: str,
    ) -> None:
        self.box, self.subsets = box, subsets
        learn, self.held_out = deal(len(theta), settings.validation, question.seed)
        self.inputs = RatioInputs(box, theta, x)
        z = self.inputs.parameters_of(self.inputs.coordinates.transform.inv(theta))
        self.z, self.s = columns_of(z, subsets), self.inputs.summaries(x)
        network = RatioNetwork(len(subsets), len(subsets[0]), self.s.shape[1], settings.hidden, seed=question.seed).to(
            question.device
        )
        z, s, learn, aside = (tensor.to(question.device) for tensor in (self.z, self.s, learn, self.held_out))
        with track(f"training tmnre, {what}", total=settings.training.epochs, show=question.progress) as bar:
            self.histories = train_ratio(
                network,
                BinaryLoss(),
                z,
                s,
                learn,
                aside,
                settings.training,
                seed=question.seed,
                progress=lambda epoch, figures: bar.update(1, **figures),
            )
        self.network = network.cpu()
        with Stream.of(question.seed, role="sample").forked():
            self.draws = box.prior.sample((DRAWS,))
        observed = self.inputs.summaries(question.observed[None])[0]
        columns = self.inputs.parameters_of(self.inputs.coordinates.transform.inv(self.draws))
        self.at_observed = log_ratios(self.network, columns, observed, subsets)

    def cut(self, epsilon: float) -> tuple[Tensor, Tensor]:
        """The bounds of the next box; those of one-dimensional marginals."""
        prior: TruncatedPrior = self.box.prior
        return truncate(self.draws, self.at_observed, prior.low, prior.high, epsilon)

    def results(self, seed: int) -> list[tuple[Marginal, dict[str, Any], list[str]]]:
        """Each marginal at the observation, with the figures and the warnings of its self-check."""
        found = []
        for member, subset in enumerate(self.subsets):
            names = tuple(self.box.parameter_names[j] for j in subset)
            weights = self.at_observed[member].softmax(0)
            marginal = Marginal(names, self.draws[:, list(subset)], weights)

            def log_ratio(z: Tensor, s: Tensor, member: int = member) -> Tensor:
                return self.network(z, s)[member]

            held_out = self.held_out
            figures, warnings = self_check(log_ratio, self.z[member][held_out], self.s[held_out], normalised=True)
            history = self.histories[member]
            figures |= {"validation_loss": history.best, "epochs": history.epochs, "effective": marginal.effective}
            found.append((marginal, figures, warnings))
        return found


class TMNREPosterior(Posterior):
    """Marginals by their ratios, and draws of the joint posterior, within a box around the observation.

    ``sample``, ``log_prob`` and ``potential`` are those of the joint posterior. ``marginals`` are learned each by
    itself, and need not agree with one another, nor with the joint posterior, to the last digit.

    Attributes:
        marginals: By the names of their parameters: ``marginals["alpha",]``, ``marginals["alpha", "beta"]``.
        joint: The posterior of the prior in the box, which is amortised over the x whose posterior lies in it.
    """

    def __init__(
        self,
        *args: Any,
        joint: Posterior,
        marginals: dict[tuple[str, ...], Marginal],
        asked: Question,
        settings: TMNRE,
        **about: Any,
    ) -> None:
        super().__init__(*args, **about)
        self.joint, self.marginals = joint, marginals
        self._asked, self._settings = asked, settings

    def _at(self, x: Tensor) -> Posterior:
        """The joint posterior at x: another observation needs simulations of its own."""
        if torch.equal(x, self.observed):
            return self.joint
        return self._settings.infer(replace(self._asked, observed=x, bank=None, progress=False)).joint

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        draws = [self._at(row)._sample(n, row[None], stream, progress) for row in x]
        return torch.cat(draws, 1) if draws else torch.zeros(n, 0, self.simulator.dim)

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._at(x)._log_prob(theta, x)

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._at(x)._potential(theta, x)
