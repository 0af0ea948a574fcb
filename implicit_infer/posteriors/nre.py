r"""NRE: the posterior by way of the ratio of the joint to the product of its marginals.

.. math:: r(\theta, x) = \frac{p(\theta, x)}{p(\theta) p(x)} = \frac{p(\theta \mid x)}{p(\theta)}

A network h learns :math:`\log r` by telling which of K parameters, if any, made x (contrastive NRE). Let one set of K
parameters be independent of x, and in another let the last one have made it:

.. math::
    \ell = -\frac{1}{1 + \gamma} \mathbb{E} \log \frac{K}{K + \gamma \sum_k e^{h(\theta_k, x)}}
    - \frac{\gamma}{1 + \gamma} \mathbb{E} \log \frac{\gamma e^{h(\theta_K, x)}}{K + \gamma \sum_k e^{h(\theta_k, x)}}.

K = 1, γ = 1 is the binary classifier of NRE-A; γ → ∞ is the multiclass NRE-B, whose h is free by any function of x,
where here the ratio is normalised at the optimum.

The network is a normal density with a correction,

.. math:: h = \log N(u; m(s), \Sigma(s)) - \log p(u) + g(w, s), \quad w = \Sigma(s)^{-1/2} (u - m(s)),

where m and :math:`\Sigma` are one network of x, g another, and both are trained by the loss above alone. They start
at zero, where m and :math:`\Sigma` are the linear regression of ``coordinates``: a plain network of
:math:`(\theta, x)` finds it hard to be sharp where the posterior is narrow. The posterior's potential in unconstrained
space is :math:`\log N + g`.

Where the posterior is much narrower than the prior, nearly all parameters drawn from the prior are told from the right
one at a glance, and the loss says little of the posterior's shape. By default the rivals of the right parameter are
therefore drawn given x from the linear regression, :math:`q(u \mid x) = N(A s + b, L L^\top)`, in place of the prior:
r is then :math:`p(\theta \mid x) / q(\theta \mid x)`, the loss above holds with q for :math:`p(\theta)`, and so does
the rest. ``rivals="prior"`` is the paper's.

References:
    | Contrastive neural ratio estimation (Miller, Weniger & Forré, 2022)
    | https://arxiv.org/abs/2210.06170
    | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans et al., 2020)
    | https://arxiv.org/abs/1903.04057
    | On contrastive learning for likelihood-free inference (Durkan et al., 2020)
    | https://arxiv.org/abs/2002.03712
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.train import train
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.embeddings.make import Choice
from implicit_infer.posteriors.embeddings.summaries import EmbeddedSummaries
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, head, training_rows
from implicit_infer.progress import track
from implicit_simulators import Stream

CANDIDATES = 4000
"""Draws of the prior that chains may start from."""


class LogRatio(nn.Module):
    """The network h of the module's docstring.

    Args:
        coordinates: Where u, v and s live.
        hidden: Widths of the hidden layers of both networks.
        seed: Seed of the initial weights. The last layers start at zero, so that training starts from the regression.
        view: What the networks are given of x; the linear summaries if None.
    """

    def __init__(
        self, coordinates: Coordinates, hidden: tuple[int, ...], seed: int, view: EmbeddedSummaries | None = None
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.view = EmbeddedSummaries.of(coordinates, None) if view is None else view
        d, k = coordinates.parameters_dim, self.view.width
        self.d = d
        self.head = MLP(k, 2 * d + d * (d - 1) // 2, hidden, activation="silu", seed=seed)
        self.body = MLP(d + k, 1, hidden, activation="silu", seed=seed + 1)
        for network in (self.head, self.body):
            last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def potential(self, u: Tensor, given: Tensor, seen: Tensor | None = None) -> Tensor:
        """The posterior's log density of u up to a function of x.

        Args:
            u: Unconstrained parameters with shape (B, W, d): W for each observation.
            given: Observations as ``view.given`` has them, with shape (B, k).
            seen: ``view(given)``, if it is known already.

        Returns:
            Values with shape (B, W).
        """
        _, count, d = u.shape
        s = self.view.linear(given)
        seen = self.view(given) if seen is None else seen
        location, log_diagonal, lower = self.head(seen).split((d, d, d * (d - 1) // 2), 1)
        v = u @ self.coordinates.whiten.T + (self.coordinates.free(torch.zeros_like(location), s) - location)[:, None]
        precision = torch.diag_embed(log_diagonal.exp())
        row, column = torch.tril_indices(d, d, -1, device=u.device)
        precision[:, row, column] = lower
        w = v @ precision.transpose(1, 2)
        normaliser = log_diagonal.sum(1) - self.coordinates.log_volume - 0.5 * math.log(2 * math.pi) * d
        log_normal = normaliser[:, None] - 0.5 * w.square().sum(2)
        # far from the posterior the normal has decided, and the body need not extrapolate
        features = torch.cat((8 * torch.tanh(w / 8), seen[:, None].expand(-1, count, -1)), 2)
        return log_normal + self.body(features)[..., 0]

    def forward(self, u: Tensor, given: Tensor, log_rival: Tensor) -> Tensor:
        """The log-ratio with shape (B, W), given the log density of u with that shape where rivals come from."""
        return self.potential(u, given) - log_rival


def contrastive_loss(joint: Tensor, independent: Tensor, gamma: float) -> Tensor:
    r"""The loss of contrastive NRE.

    Args:
        joint: h at the parameters that made x, with shape (n,).
        independent: h at K parameters that did not, with shape (n, K). The first K - 1 stand beside the one that did.
        gamma: Odds of a set that holds the right parameter, :math:`\gamma > 0`.

    Returns:
        The mean loss, with shape ().
    """
    k = independent.shape[1]
    odds = math.log(gamma / k)
    nobody = -softplus(odds + independent.logsumexp(1))
    candidates = torch.cat((joint[:, None], independent[:, : k - 1]), 1)
    somebody = odds + joint - softplus(odds + candidates.logsumexp(1))
    return -(nobody.mean() + gamma * somebody.mean()) / (1 + gamma)


@dataclass(frozen=True)
class NRE(Method):
    """Contrastive neural ratio estimation; see the module for the loss.

    Args:
        hidden: Widths of the network's hidden layers.
        contrasts: K, parameters that compete for each x.
        gamma: Odds that one of them made it.
        rivals: Where the other parameters come from: "regression" (given the same x) or "prior".
        batch_size: Simulations of a batch.
        epochs: Epochs to train; the weights of the best one on the held-out simulations are kept.
        learning_rate: AdamW's step size, which falls by a cosine to zero over the epochs.
        weight_decay: AdamW's weight decay.
        patience: Epochs without a better validation loss before training stops early, or None.
        validation: Share of the simulations held out.
        sampler: How the posterior is sampled.
        embedding: A network that is shown x and trained with the others, beside the linear summaries: see
            :class:`implicit_infer.posteriors.embeddings.summaries.EmbeddedSummaries`.
    """

    hidden: tuple[int, ...] = (64, 64)
    contrasts: int = 32
    gamma: float = 1.0
    rivals: str = "regression"
    batch_size: int = 128
    epochs: int = 40
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    patience: int | None = None
    validation: float = 0.1
    sampler: EnsembleSampler = field(default_factory=EnsembleSampler)
    embedding: Choice = None

    name = "nre"

    def __post_init__(self) -> None:
        if self.contrasts < 1:
            raise ValueError(f"contrasts: expected a positive int; got {self.contrasts}")
        if not self.gamma > 0:
            raise ValueError(f"gamma: expected a positive number; got {self.gamma}")
        if self.rivals not in ("prior", "regression"):
            raise ValueError(f"rivals: expected prior or regression; got {self.rivals!r}")

    def infer(self, question: Question) -> NREPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        coordinates = coordinates_of(question.simulator, runs)
        first = head(runs, CANDIDATES)
        view = EmbeddedSummaries(coordinates, self.embedding, first[1][:CANDIDATES], question.seed)

        def rows(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            u = coordinates.transform.inv(theta)
            return u, view.given(x), coordinates.log_prior(u)

        data = training_rows(runs, rows, question.device)
        candidates, *_ = rows(*first)
        ratio = LogRatio(coordinates, self.hidden, question.seed, view).to(question.device)

        def loss(u: Tensor, given: Tensor, log_prior: Tensor, *, generator: torch.Generator) -> Tensor:
            n = len(u)
            k = min(self.contrasts, n - 1)
            if self.rivals == "prior":
                # rolled by distinct random offsets: nobody competes with itself or twice
                offsets = torch.randperm(n - 1, generator=generator, device=u.device)[:k] + 1
                rows = (torch.arange(n, device=u.device)[:, None] + torch.nn.functional.pad(offsets, (1, 0))) % n
                h = ratio(u[rows], given, log_prior[rows])
            else:
                noise = torch.randn((n, k, u.shape[1]), generator=generator, device=u.device, dtype=u.dtype)
                s = ratio.view.linear(given)[:, None]
                competitors = torch.cat((u[:, None], ratio.coordinates.bound(noise, s)), 1)
                h = ratio(competitors, given, ratio.coordinates.log_normal(competitors, s))
            return contrastive_loss(h[:, 0], h[:, 1:], self.gamma)

        with track("training nre", total=self.epochs, show=question.progress) as bar:
            history = train(
                ratio,
                loss,
                [data] if isinstance(data, tuple) else data,
                validation=self.validation,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                patience=self.patience,
                seed=question.seed,
                progress=lambda epoch, figures: bar.update(1, **figures),
            )
        return NREPosterior(
            question.simulator,
            question.observed,
            ratio=ratio.cpu().eval(),
            candidates=candidates,
            sampler=self.sampler,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "epochs": history.epochs,
                "validation_loss": history.best,
            },
            warnings=["training stopped at a loss that was not finite"] if history.stopped == "non-finite" else [],
        )


class NREPosterior(Posterior):
    """The prior times a learned ratio, sampled by MCMC; amortised over x, with an unnormalised density."""

    def __init__(self, *args: Any, ratio: LogRatio, candidates: Tensor, sampler: EnsembleSampler, **about: Any) -> None:
        super().__init__(*args, **about)
        self.ratio = ratio
        self.candidates = candidates
        self.sampler = sampler

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        coordinates = self.ratio.coordinates
        generator = stream.torch()
        given = self.ratio.view.given(x)
        seen = self.ratio.view(given)
        start = torch.stack([self._start(one, generator) for one in given])
        draws, acceptance = self.sampler.sample(
            lambda u: self.ratio.potential(u, given, seen), start, n, generator, progress
        )
        self.figures["mcmc_acceptance"] = acceptance
        return coordinates.transform(draws)

    def _start(self, given: Tensor, generator: torch.Generator) -> Tensor:
        """Walkers (W, d) by importance resampling; candidates come from the prior and from the regression."""
        coordinates = self.ratio.coordinates
        prior = self.candidates[: max(CANDIDATES, 4 * self.sampler.walkers)]
        s = self.ratio.view.linear(given)
        normal = coordinates.bound(torch.randn(prior.shape, generator=generator), s.expand(len(prior), -1))
        u = torch.cat((prior, normal))
        # the mixture both halves were drawn from is the proposal
        proposal = torch.logaddexp(coordinates.log_prior(u), coordinates.log_normal(u, s.expand(len(u), -1)))
        log_weight = torch.nan_to_num(self.ratio.potential(u[None], given[None])[0] - proposal, nan=-torch.inf)
        # tempered until the walkers are spread over enough candidates to move; the chain forgets the start
        for _ in range(20):
            weight = log_weight.softmax(0)
            if 1 / weight.square().sum() >= self.sampler.walkers / 2:
                break
            log_weight = log_weight / 1.5
        walkers = torch.multinomial(weight, self.sampler.walkers, replacement=True, generator=generator)
        spread = u[walkers].std(0)
        return u[walkers] + 0.01 * spread * torch.randn(u[walkers].shape, generator=generator)

    @torch.no_grad()
    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        coordinates = self.ratio.coordinates
        inside, legal = coordinates.legal(theta)
        u = coordinates.transform.inv(legal)
        potential = self.ratio.potential(u[None], self.ratio.view.given(x[None]))[0]
        density = potential - coordinates.transform.log_abs_det_jacobian(u, legal)
        return torch.where(inside, density, -torch.inf)
