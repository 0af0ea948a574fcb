"""Gradient descent in turns: the critic steps, then the generator answers the new critic."""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_infer.games.base import Game


@dataclass(frozen=True)
class Alternating(Game):
    r"""``critic_steps`` steps of the critic, each on a fresh batch, then one of the generator.

    On the bilinear game :math:`\min_x \max_y x y` with step size :math:`\eta` the iterates stay on the ellipse
    :math:`x^2 + y^2 + \eta x y` = const for ever: neither in nor out.

    References:
        | Generative Adversarial Networks (Goodfellow et al., 2014), algorithm 1
        | https://arxiv.org/abs/1406.2661

    Args:
        critic_steps: Critic steps before each generator step.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    takes_turns: bool = field(default=True, init=False, repr=False)

    name = "alternating"
