r"""Prior-contrastive variational inference: an implicit q for one observation, with a tractable likelihood.

.. math::
    \mathrm{ELBO} = \mathbb{E}_q[\log p(x \mid \theta)] - \mathbb{E}_q\left[\log \frac{q(\theta)}{p(\theta)}\right]

The second term is estimated by a classifier that tells draws of q from draws of the prior, whose logit at the optimum
is :math:`T = \log q / p`. The sampler descends :math:`\mathbb{E}_q[T - \log p(x \mid \theta)]` with T held fixed: the
gradient of the expectation of T itself through q's part in it is zero at the optimum.

Where the posterior is much narrower than the prior the classifier is sure of itself, its ratio poor, and the bound
with it; adversarial variational Bayes (``avb``) contrasts q with a normal like itself instead.

References:
    | Variational Inference using Implicit Distributions (Huszár, 2017), algorithm 1 (PC-Adv)
    | https://arxiv.org/abs/1702.08235
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.networks.mlp import MLP
from implicit_infer.games import Duel, Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.variational import ImplicitSampler, VariationalPosterior, drawing
from implicit_infer.posteriors.variational_likelihood import differentiable_likelihood, tamed
from implicit_simulators import Stream, unconstrained

CONTRASTS = 50_000
"""Draws of the prior that q is held against."""


@dataclass(frozen=True)
class PriorContrastive(Method):
    """An implicit variational posterior by the ratio of q to the prior; see the module. Spends no simulations.

    Args:
        latent: Width of the noise; twice the number of parameters if None.
        hidden: Widths of the hidden layers of sampler and classifier.
        activation: Their activation.
        batch_size: Draws of a batch.
        critic_steps: Classifier steps for each step of the sampler.
        warm_up: Share of the steps over which the likelihood's weight rises from 0 to 1, on a straight line, so that q
            finds the modes before it narrows.
        steepest: The largest length of the log likelihood's gradient at a draw, in unconstrained space.
        training: Steps, step sizes and averaging.

    Raises:
        ValueError: If a number is out of its range.
    """

    latent: int | None = None
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"
    batch_size: int = 256
    critic_steps: int = 3
    warm_up: float = 0.3
    steepest: float = 100.0
    training: Training = field(default_factory=lambda: Training(2000, 1e-3, 2e-3))

    name = "prior-contrastive"
    amortised = False

    def __post_init__(self) -> None:
        for argument in ("batch_size", "critic_steps", "steepest"):
            if not getattr(self, argument) > 0:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up: expected a share in [0, 1); got {self.warm_up}")

    def infer(self, question: Question) -> VariationalPosterior:
        """Fit q to the observation.

        Raises:
            ValueError: If the simulator has no log likelihood that is differentiable in theta.
        """
        simulator, observed = question.simulator, question.observed
        log_likelihood = differentiable_likelihood(simulator, self.name)
        device = torch.device(question.device)
        transform = unconstrained(simulator.prior)
        prior = transform.inv(simulator.sample_prior(CONTRASTS, seed=question.seed))
        latent = 2 * simulator.dim if self.latent is None else self.latent
        sampler = ImplicitSampler(prior, latent, self.hidden, self.activation, seed=question.seed).to(device)
        critic = MLP(simulator.dim, 1, self.hidden, activation=self.activation, seed=question.seed + 1).to(device)
        contrast = sampler.standard(prior.to(device))
        random = Stream.of(question.seed, role="train").torch(device)
        weight = torch.zeros((), device=device)

        def batch() -> list[Tensor]:
            rows = torch.randint(len(contrast), (self.batch_size,), generator=random, device=device)
            return [contrast[rows]]

        def draw(sampler: Any) -> Tensor:
            v: Tensor = sampler(torch.randn((self.batch_size, latent), generator=random, device=device))
            return v

        def critic_loss(sampler: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            return softplus(-critic(draw(sampler))).mean() + softplus(critic(rows[0])).mean()

        def sampler_loss(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            v = draw(generator)
            # simulators compute on the CPU
            u = sampler.place(v).cpu()
            fit = tamed(log_likelihood, transform, u, observed, self.steepest).to(device)
            return critic(v).mean() - weight * fit

        def warm(share: float) -> None:
            weight.fill_(1.0 if self.warm_up == 0 else min(1.0, share / self.warm_up))

        game = game_of("alternating", critic_steps=self.critic_steps)
        play = Play(Duel(sampler, critic, sampler_loss, critic_loss, batch), game, self.training)
        history = play.run(name=f"fitting {self.name}", progress=question.progress, before=warm)
        fitted = play.averaged.to("cpu").eval()
        assert isinstance(fitted, ImplicitSampler)
        warnings = [] if history.finite else ["the game diverged: a loss was not finite, and training stopped there"]
        with torch.no_grad():
            v = fitted(torch.randn((4000, latent), generator=Stream.of(question.seed, role="split").torch()))
            values = log_likelihood(transform(fitted.place(v)), observed)
            finite = torch.isfinite(values)
            divergence = float(critic.to("cpu")(v).mean())
        lost = 1 - float(finite.float().mean())
        if lost > 0.01:
            warnings.append(f"{lost:.0%} of the posterior's draws have a likelihood of 0")
        return VariationalPosterior(
            simulator,
            observed,
            draw=drawing(fitted, transform),
            again=lambda x, seed: self.infer(replace(question, observed=x, seed=seed, progress=False)),
            method=self.name,
            simulations=0,
            figures={
                "log_likelihood": float(values[finite].mean()),
                "divergence_from_prior": divergence,
                "elbo": float(values[finite].mean()) - divergence,
                "history": {"steps": history.steps, "critic": history.critic, "generator": history.generator},
            },
            warnings=warnings,
        )
