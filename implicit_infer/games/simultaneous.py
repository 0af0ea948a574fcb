"""Gradient descent of both players at once: the method whose divergence the others are there to cure."""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_infer.games.base import Game


@dataclass(frozen=True)
class Simultaneous(Game):
    r"""Both players move along their gradients at the same point.

    .. math:: \theta_{t+1} = \theta_t - \eta \nabla_\theta L_G(\theta_t, \psi_t), \quad
        \psi_{t+1} = \psi_t - \eta \nabla_\psi L_C(\theta_t, \psi_t)

    On the bilinear game :math:`\min_x \max_y x y` the radius grows by :math:`\sqrt{1 + \eta^2}` with each step, at any
    step size.

    References:
        | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017)
        | https://arxiv.org/abs/1705.10461

    Args:
        critic_steps: Critic steps for each generator step; all but the last are the critic's alone.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    takes_turns: bool = field(default=False, init=False, repr=False)

    name = "simultaneous"
