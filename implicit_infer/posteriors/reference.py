"""The yardstick: an exact posterior where there is one, or NUTS where the likelihood is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_infer.posteriors.base import Posterior
from implicit_infer.progress import track
from implicit_simulators import Seed, Simulator, Stream, resolve_seed, unconstrained


class ReferencePosterior(Posterior):
    """Fixed draws from the posterior at the observation that was asked about, in the order they were made."""

    def __init__(self, simulator: Simulator, observed: Tensor, draws: Tensor, **about: Any) -> None:
        super().__init__(simulator, observed, simulations=0, **about)
        self.draws = draws

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        if len(x) != 1 or not torch.equal(x[0], self.observed):
            raise NotImplementedError("a reference posterior has draws at its own observation only")
        if n > len(self.draws):
            raise ValueError(f"sample_shape: the reference holds {len(self.draws)} draws; {n} were asked for")
        order = torch.randperm(len(self.draws), generator=stream.torch())
        return self.draws[order[:n], None]


def reference_posterior(
    simulator: Simulator, observed: Any, *, seed: Seed = None, draws: int = 2000, progress: bool = True
) -> ReferencePosterior | None:
    """Draws to score methods against, or None where nothing exact is known.

    The simulator's ``posterior(x)`` is used where it has one, else NUTS on its ``log_likelihood(theta, x)``.

    Args:
        simulator: The simulator.
        observed: The observation, with shape ``simulator.event_shape``.
        seed: An int, a ``torch.Generator`` or None.
        draws: How many draws.
        progress: Whether to show progress.

    Raises:
        ValueError: If ``observed`` has another shape or is not finite.
    """
    observed = simulator.check_observation(observed)
    seed = resolve_seed(seed)
    if hasattr(simulator, "posterior"):
        with Stream.of(seed, role="sample").forked():
            exact = simulator.posterior(observed).sample((draws,))
        return ReferencePosterior(simulator, observed, exact, method="exact")
    knows = hasattr(simulator, "log_likelihood") and getattr(simulator, "dynamics", "ode") == "ode"
    return nuts(simulator, observed, seed=seed, draws=draws, progress=progress) if knows else None


def nuts(
    simulator: Simulator,
    observed: Any,
    *,
    seed: Seed = None,
    draws: int = 2000,
    chains: int = 4,
    warmup: int = 300,
    progress: bool = True,
) -> ReferencePosterior:
    r"""Draws by the No-U-Turn sampler (pyro) with a dense mass matrix, in unconstrained space.

    .. math:: U(u) = -\log p(x \mid \theta(u)) - \log p(\theta(u)) - \log \left|\det \partial\theta / \partial u\right|

    Chains start at draws from the prior, chosen with probability proportional to their likelihood among 4,000.

    References:
        | The No-U-Turn sampler (Hoffman & Gelman, 2014)
        | https://arxiv.org/abs/1111.4246

    Args:
        simulator: A simulator with ``log_likelihood(theta, x)``, differentiable in theta.
        observed: The observation.
        seed: An int, a ``torch.Generator`` or None.
        draws: Draws over all chains; the last chain is cut where it does not divide.
        chains: Independent chains.
        warmup: Adaptation steps of each chain, not kept.
        progress: Whether to show progress.

    Returns:
        A posterior whose ``figures`` hold the split R-hat and the effective sample size of the worst parameter and the
        number of divergent steps, and whose ``warnings`` say where these are bad.
    """
    from pyro.infer import MCMC, NUTS
    from pyro.ops.stats import effective_sample_size, split_gelman_rubin

    observed = simulator.check_observation(observed)
    transform = unconstrained(simulator.prior)
    log_likelihood = simulator.log_likelihood  # type: ignore[attr-defined]  # what makes a reference possible

    def potential(parameters: dict[str, Tensor]) -> Tensor:
        u = parameters["u"]
        theta = transform(u)
        log_joint = log_likelihood(theta[None], observed)[0] + simulator.prior.log_prob(theta)
        return -(log_joint + transform.log_abs_det_jacobian(u, theta))

    seed = resolve_seed(seed)
    length = -(-draws // chains)
    kept, divergences = [], 0
    with track("reference posterior (NUTS)", total=chains * (warmup + length), show=progress) as bar:
        for chain in range(chains):
            with Stream.of(seed, chain, "sample").forked():
                candidates = simulator.prior.sample((4000,)).double()
                with torch.no_grad():
                    weight = log_likelihood(candidates, observed).softmax(0)
                start = transform.inv(candidates[torch.multinomial(weight, 1)[0]])
                kernel = NUTS(potential_fn=potential, full_mass=True)
                sampler = MCMC(
                    kernel,
                    num_samples=length,
                    warmup_steps=warmup,
                    initial_params={"u": start},
                    disable_progbar=True,
                    hook_fn=lambda *_: bar.update(1),
                )
                sampler.run()
            kept.append(sampler.get_samples()["u"])
            divergences += len(sampler.diagnostics()["divergences"]["chain 0"])
    u = torch.stack(kept)
    figures = {
        "split_r_hat": float(split_gelman_rubin(u, sample_dim=1).max()),
        "effective_sample_size": float(effective_sample_size(u, sample_dim=1).min()),
        "divergences": divergences,
    }
    warnings = []
    if figures["split_r_hat"] > 1.01:
        warnings.append(f"the chains disagree: split R-hat is {figures['split_r_hat']:.3f} for the worst parameter")
    if divergences:
        warnings.append(f"{divergences} steps diverged: the posterior may have corners that the chains did not enter")
    theta = transform(u.flatten(0, 1))[:draws].float()
    return ReferencePosterior(simulator, observed, theta, method="nuts", figures=figures, warnings=warnings)
