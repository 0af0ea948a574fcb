r"""Coverage near the observation: whether credible regions hold what they promise, there where it matters.

Coverage over the whole prior says little of ABC at one observation: a tolerance that is narrow for data in the middle
of the prior is wide for data at its edge. Prangle et al. therefore rank the true parameters of simulations that lie
*near* the observation, for which

.. math:: P\left(\theta^* \in C_\alpha(x) \mid d(x, x_o) \le \epsilon\right) = \alpha

holds at every :math:`\alpha` if the posteriors there are right, as conditioning on x leaves truth and draws
exchangeable. The truths must be fresh: simulations that a posterior was made of are among its own particles.

References:
    | Diagnostic tools for approximate Bayesian computation using the coverage property
    | (Prangle, Blum, Popovic & Sisson, 2014)
    | https://doi.org/10.1111/anzs.12087
"""

from __future__ import annotations

import torch

from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.diagnose.coverage import Coverage, expected_coverage
from implicit_infer.posteriors.base import Posterior
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Seed


def coverage_near(
    posterior: Posterior,
    runs: Runs | StoredRuns,
    *,
    n: int = 200,
    distance: Distance | None = None,
    draws: int = 100,
    confidence: float = 0.99,
    seed: Seed = 0,
    progress: bool = True,
) -> Coverage:
    """Rank the true parameters of the n simulations nearest the observation among draws of their posteriors.

    Args:
        posterior: Of the observation. Rejection ABC ranks its bank again for every truth; sequential methods run again,
            each with the whole budget.
        runs: Fresh simulations from the prior, of which the nearest are taken; best a hundred times ``n``.
        n: Truths.
        distance: Which are near; ``PNorm()`` if None.
        draws: Of each posterior.
        confidence: Probability that right posteriors stay in all bands.
        seed: An int, a ``torch.Generator`` or None.
        progress: Whether to show progress.

    Returns:
        The ranks, with ``calibrated``, ``curve``, ``band``, ``p_value`` and ``plot``; ``print`` it for a table.

    Raises:
        ValueError: If there are fewer simulations than ``n``, or a count is not positive.
    """
    held = runs.in_memory() if isinstance(runs, StoredRuns) else runs
    if len(held) < n:
        raise ValueError(f"runs: expected at least n = {n} simulations; got {len(held)}")
    how = PNorm() if distance is None else distance
    features = how.features(posterior.simulator, held.x)
    observed = how.features(posterior.simulator, posterior.observed[None])[0]
    phi = UnconstrainedPrior(posterior.simulator).to(held.theta) if how.learned else None
    far = how.fit(features, phi)(features, observed)
    rows = far.topk(n, largest=False).indices
    rows = rows[torch.isfinite(far[rows])].sort().values
    truths = (held.theta[rows], held.x[rows])
    return expected_coverage(posterior, truths, n=n, draws=draws, confidence=confidence, seed=seed, progress=progress)
