r"""Summaries turned so that their correlations are small where it counts: what shrinkage then does little harm to.

Shrinking towards independence is wrong where summaries are correlated. Simulations at one likely parameter give

.. math:: W = \Lambda^{-1/2} V^\top D^{-1/2}, \qquad \hat R = V \Lambda V^\top,
    \quad \hat\Sigma = D^{1/2} \hat R D^{1/2},

and the whitened summaries W s are uncorrelated there, and nearly so around. A fixed linear map changes every
likelihood by the same constant, so that the posterior is what it was but for the shrinkage.

References:
    | Efficient Bayesian synthetic likelihood with whitening transformations (Priddle, Sisson, Frazier, Turner &
    | Drovandi, 2022)
    | https://arxiv.org/abs/1909.04857
    | Optimal whitening and decorrelation (Kessy, Lewin & Strimmer, 2018)
    | https://arxiv.org/abs/1512.00809
"""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.replicates import Replicates
from implicit_infer.abc.synthetic.covariance import Optimal, standardised

PILOT = 0.1
"""Share of the budget that finds the likely parameter, and the same again for the simulations there at most."""

ENOUGH = 20
"""Simulations for each summary that a whitening is estimated from, as far as the budget allows."""


def likely(replicates: Replicates, distance: Distance, observed: Tensor) -> Tensor:
    """The parameters (1, d) of the prior simulation that is nearest the observed summaries (k,)."""
    question = replicates.question
    theta = question.simulator.sample_prior(max(2, int(PILOT * question.budget)), question.seed, 2)
    features = replicates.at(theta, count=1)[:, 0]
    nearest = distance.fit(features)(features, observed).argmin()
    return theta[nearest][None]


def whitening(summaries: Tensor) -> Tensor:
    """The matrix W with shape (k, k) of summaries (m, k) simulated at one parameter.

    Raises:
        ValueError: If too many of the simulations failed.
    """
    z, valid, _, scale = standardised(summaries[None])
    if int(valid.sum()) < max(3, len(summaries) // 2):
        raise ValueError(f"whiten: {int((~valid).sum())} of {valid.numel()} simulations at a likely parameter failed")
    # shrunk by what minimises the error, so that with few simulations the smallest eigenvalues are not far too small
    values, vectors = torch.linalg.eigh(Optimal()(z, valid)[0])
    return (vectors / values.clamp_min(1e-10).sqrt()).T / scale[0]


def pilot(replicates: Replicates, observed: Tensor) -> Tensor:
    """Find a likely parameter, simulate there, and whiten; spends at most a fifth of the budget."""
    budget = replicates.question.budget
    theta = likely(replicates, PNorm(), observed)
    count = min(max(int(PILOT * budget), 3), ENOUGH * len(observed))
    return whitening(replicates.at(theta, count=count)[0])
