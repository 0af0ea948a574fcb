"""A critic whose hidden features are looked at beside its logit, for feature matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LogitAndFeatures(nn.Module):
    r"""What a critic says of a sample and what it sees in it, side by side: :math:`(c(x), \phi(x))`.

    Column 0 is what the critic learns by; the others are what a model is moved by that matches
    :math:`\|\mathbb{E}_p \phi - \mathbb{E}_q \phi\|^2`.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 3.1
        | https://arxiv.org/abs/1606.03498

    Args:
        critic: A critic with one output and a method ``both(samples, condition)`` that gives logits and features.

    Raises:
        TypeError: If it has no such method.
    """

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(critic, "both", None)):
            raise TypeError(f"critic: expected one with a method both(samples); got {type(critic).__name__}")
        self.critic: Any = critic

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The logit and the features, with shape (n, 1 + width)."""
        logits, features = self.critic.both(samples, condition)
        return torch.cat([logits[:, None], features], 1)
