r"""Ratio estimation as its papers have it: a perceptron of (theta, s), told apart pairs that belong together and not.

.. math:: h(\theta, x) \approx \log r(\theta, x) = \log \frac{p(\theta \mid x)}{p(\theta)}

Members of the family differ in the loss alone. Parameters that do not belong to an x are those of other rows of its
batch. Several networks may be trained in one program; where the loss tells the ratio's constant, their ratios are
averaged, :math:`\log \frac1K \sum_k e^{h_k}` (a mixture of posteriors, which is wider rather than narrower than each),
else their logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.candidate_losses import CandidateLoss
from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_estimators.networks.train_ratio import RatioTraining, train_ratio
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.ratio.inputs import RatioInputs
from implicit_infer.posteriors.ratio.sampling import RatioSampler
from implicit_infer.posteriors.ratio.self_check import self_check
from implicit_infer.progress import track
from implicit_simulators import Stream


@dataclass(frozen=True)
class PlainNRE(Method):
    """What ratio methods with a plain network share. Children give ``name`` and ``loss``, and settings of the loss.

    Args:
        hidden: Widths of the network's hidden layers.
        activation: "silu" or "relu".
        layer_norm: Normalise each hidden layer before its activation.
        members: Networks that are trained, all in one program.
        validation: Share of the simulations held out: they choose the weights, and check the ratio.
        training: Epochs, batches and step sizes.
        sampler: How the posterior is sampled where its candidates are too few to be resampled.
        resample: Most parameters for which candidates are resampled; 0 always walks.

    Raises:
        ValueError: If a setting is out of its range.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"
    layer_norm: bool = False
    members: int = 1
    validation: float = 0.1
    training: RatioTraining = field(default_factory=RatioTraining)
    sampler: EnsembleSampler = field(default_factory=EnsembleSampler)
    resample: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected a share in (0, 1); got {self.validation}")
        if self.resample < 0:
            raise ValueError(f"resample: expected a number of parameters of at least 0; got {self.resample}")
        self.loss()
        self._network(1, 1, 0)

    def loss(self) -> CandidateLoss:
        """The loss that tells this method from its relatives."""
        raise NotImplementedError(f"{type(self).__name__} must write loss()")

    def _network(self, parameters: int, summaries: int, seed: int) -> RatioNetwork:
        return RatioNetwork(
            self.members,
            parameters,
            summaries,
            self.hidden,
            activation=self.activation,
            layer_norm=self.layer_norm,
            seed=seed,
        )

    def infer(self, question: Question) -> RatioPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        theta, x = runs.valid()
        learn, held_out = deal(len(theta), self.validation, question.seed)
        inputs = RatioInputs(question.simulator, theta, x)
        z, s = inputs.parameters_of(inputs.coordinates.transform.inv(theta)), inputs.summaries(x)
        network = self._network(z.shape[1], s.shape[1], question.seed).to(question.device)
        z_there, s_there, learn, aside = (tensor.to(question.device) for tensor in (z, s, learn, held_out))
        loss = self.loss()
        with track(f"training {self.name}", total=self.training.epochs, show=question.progress) as bar:
            histories = train_ratio(
                network,
                loss,
                z_there,
                s_there,
                learn,
                aside,
                self.training,
                seed=question.seed,
                progress=lambda epoch, figures: bar.update(1, **figures),
            )
        network = network.cpu()
        ratio = EnsembleRatio(network, loss.normalised)
        figures, warnings = self_check(ratio, z[held_out], s[held_out], loss.normalised)
        if any(history.stopped == "non-finite" for history in histories):
            warnings.insert(0, "training stopped at a loss that was not finite")
        return RatioPosterior(
            question.simulator,
            question.observed,
            ratio=ratio,
            inputs=inputs.eval(),
            sampler=self.sampler,
            resample=self.resample,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "epochs": max(history.epochs for history in histories),
                "validation_loss": sum(history.best for history in histories) / len(histories),
                **figures,
            },
            warnings=warnings,
        )


def deal(n: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows to hold out, at least two of each.

    Raises:
        ValueError: If there are fewer than four rows.
    """
    if n < 4:
        raise ValueError(f"budget: expected at least 4 simulations that did not fail; got {n}")
    order = torch.randperm(n, generator=Stream.of(seed, role="split").torch())
    aside = min(n - 2, max(2, round(share * n)))
    return order[aside:], order[:aside]


class EnsembleRatio:
    """The log-ratio of several networks.

    Args:
        network: The networks.
        normalised: Whether they are normalised, so that ratios and not their logarithms are averaged.
    """

    def __init__(self, network: RatioNetwork, normalised: bool) -> None:
        self.network, self.normalised = network, normalised

    def __call__(self, z: Tensor, s: Tensor) -> Tensor:
        """Log-ratios at W parameters (B, W, d) for each of B summaries (B, k), with shape (B, W)."""
        h = self.network(z, s)
        return h.logsumexp(0) - math.log(len(h)) if self.normalised else h.mean(0)


class RatioPosterior(Posterior):
    """The prior times a learned ratio; amortised over x, with an unnormalised density."""

    def __init__(
        self,
        *args: Any,
        ratio: EnsembleRatio,
        inputs: RatioInputs,
        sampler: EnsembleSampler,
        resample: int,
        **about: Any,
    ) -> None:
        super().__init__(*args, **about)
        self.ratio, self.inputs = ratio, inputs
        self.sampler = RatioSampler(inputs.coordinates, self._log_density, sampler, resample)

    @torch.no_grad()
    def log_ratio(self, theta: Any, x: Any = None) -> Tensor:
        r""":math:`\log p(\theta \mid x) - \log p(\theta)` at theta of shape (n, d), with shape (n,).

        Of "nre-b" it is known up to a function of x.

        Raises:
            ValueError: If theta or x has another shape or is not finite.
        """
        theta, x = self._arguments(theta, x)
        inside, legal = self.inputs.coordinates.legal(theta)
        z = self.inputs.parameters_of(self.inputs.coordinates.transform.inv(legal))
        value = self.ratio(z[None], self.inputs.summaries(x[None]))[0]
        return torch.where(inside, value, -torch.inf)

    def _log_density(self, u: Tensor, s: Tensor) -> Tensor:
        """Of unconstrained parameters: the ratio times the prior there."""
        prior = self.inputs.coordinates.log_prior(u.flatten(0, 1)).view(u.shape[:2])
        return self.ratio(self.inputs.parameters_of(u), s) + prior

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        u, figures = self.sampler.sample(n, self.inputs.summaries(x), stream, progress)
        self.figures.update(figures)
        return self.inputs.coordinates.transform(u)

    @torch.no_grad()
    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        inside, legal = self.inputs.coordinates.legal(theta)
        return torch.where(inside, self.log_ratio(legal, x) + self.simulator.prior.log_prob(legal), -torch.inf)
