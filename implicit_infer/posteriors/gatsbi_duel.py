r"""A conditional game of any comparison: pairs (theta, x) of the joint against pairs (f(z, x), x) of the generator.

What the three kinds of comparison hold against each other:

- A *trained critic* sees (w, s), one pair or the features of one (MMD GAN, Cramér GAN, feature matching), of the
  simulations and of the generator at the x of the same batch.
- The *energy distance* becomes the energy score at each x, :math:`\mathbb{E}|\theta - f(z, x)| - \tfrac12
  \mathbb{E}|f(z, x) - f(z', x)|`, which is proper and needs one datum for each x.
- The other comparisons that *train nothing* (MMD, sliced Wasserstein, Sinkhorn, moments) hold the joint laws of
  (w, s) of two batches against each other. The batches are independent: with one and the same x in both, distances of
  pairs at the same x would count for more than their share, and draw the generator to the middle of the posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison, EnergyMatching
from implicit_estimators.critics import ConditionalCritic
from implicit_infer.games import Duel
from implicit_infer.posteriors.gatsbi_networks import ConditionalGenerator, Sight

Rows = list[Tensor]
"""A batch: v with shape (n, d), and what is given of x with shape (n, k)."""


def conditional_duel(
    generator: ConditionalGenerator,
    critic: ConditionalCritic | None,
    comparison: Comparison,
    sight: Sight,
    linear: Callable[[Tensor], Tensor],
    batch: Callable[[], Rows],
    random: torch.Generator,
    penalise_every: int = 1,
) -> Duel:
    """The duel of a conditional generator and a critic under a comparison; see the module.

    Args:
        generator: Of (z, given) to v.
        critic: Of (w, given); None where the comparison trains none.
        comparison: The losses.
        sight: Of (v, s) to w.
        linear: What of the given is s.
        batch: Gives fresh rows.
        random: Source of noise and of what penalties draw, on the rows' device.
        penalise_every: Critic steps between two penalties.

    Returns:
        The duel.
    """

    def seen(v: Tensor, given: Tensor) -> Tensor:
        return sight(v, linear(given))

    def draw(generator: Any, given: Tensor) -> Tensor:
        z = torch.randn((len(given), latent), generator=random, device=given.device, dtype=given.dtype)
        return seen(generator(z, given), given)

    latent = generator.latent

    def critic_loss(generator: Any, critic: Any, rows: Rows) -> Tensor:
        v, given = rows
        return comparison.critic_objective(critic(seen(v, given), given), critic(draw(generator, given), given))

    def generator_loss(generator: Any, critic: Any, rows: Rows) -> Tensor:
        v, given = rows
        if isinstance(comparison, EnergyMatching):
            first, second = draw(generator, given), draw(generator, given)
            return energy_score(seen(v, given), first, second, comparison.beta)
        if critic is None:
            _, other = batch()
            joint = torch.cat((seen(v, given), linear(given)), 1)
            return comparison.generator_objective(joint, torch.cat((draw(generator, other), linear(other)), 1))
        at_model = critic(draw(generator, given), given)
        at_data = critic(seen(v, given), given) if comparison.needs_data else at_model
        return comparison.generator_objective(at_data, at_model)

    def penalty(generator: Any, critic: Any, rows: Rows) -> Tensor:
        assert comparison.regulariser is not None
        v, given = batch()
        real = seen(v, given)
        fake = draw(generator, given) if comparison.regulariser.needs_draws else real
        return comparison.regulariser.penalty(critic, real, fake, random, given)

    if critic is None:
        return Duel(generator, None, generator_loss, None, batch)
    return Duel(
        generator,
        critic,
        generator_loss,
        critic_loss,
        batch,
        None if comparison.regulariser is None else penalty,
        penalise_every,
        comparison.clip,
    )


def energy_score(real: Tensor, first: Tensor, second: Tensor, beta: float = 1.0) -> Tensor:
    r"""The energy score of a conditional generator from two draws at each datum's x.

    .. math:: \mathbb{E}|\theta - f|^\beta - \tfrac12 \mathbb{E}|f - f'|^\beta

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007), section 4.3

    Args:
        real: Data, with shape (n, d).
        first: A draw at each datum's x, with the same shape.
        second: Another.
        beta: The power of distances, inside (0, 2).

    Returns:
        The score, with shape ().
    """
    distances = [power(a - b, beta) for a, b in ((real, first), (real, second), (first, second))]
    return 0.5 * (distances[0] + distances[1] - distances[2]).mean()


def power(difference: Tensor, beta: float) -> Tensor:
    """The beta-th power of the length of rows; flat at 0, where roots have no slope."""
    square = difference.square().sum(1)
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).pow(beta / 2))
