"""Posteriors that are the states of Markov chains on an estimated likelihood, which are run again for other data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc.particles import Particles
from implicit_infer.abc.posterior import ParticlePosterior
from implicit_infer.abc.pseudo_marginal import NoisyChains
from implicit_infer.posteriors.method import Question
from implicit_infer.progress import track


class ChainPosterior(ParticlePosterior):
    """The kept states of chains for one observation; for another they are run again, with the same budget.

    ``simulations`` counts those of further runs, too.

    Args:
        settings: The method.
        question: What was asked.
    """

    def __init__(self, settings: Any, question: Question) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=0)
        self.settings, self.question = settings, replace(question, bank=None)
        chains = self._run(question)
        self._particles = chains.particles
        self.figures.update(chains.figures)
        self.warnings.extend(chains.warnings())

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """The chains' states for one observation, found anew with ``seed`` unless it is the one asked about."""
        if x is None or torch.equal(x, self.observed):
            return self._particles
        return self._run(replace(self.question, observed=x, seed=seed, progress=False)).particles

    def _run(self, question: Question) -> NoisyChains:
        with track(self.settings.name, total=question.budget, show=question.progress) as bar:
            chains: NoisyChains = self.settings.chains_at(question, bar)
        self.simulations += chains.replicates.spent
        return chains
