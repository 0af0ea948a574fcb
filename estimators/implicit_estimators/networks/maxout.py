"""The activation that takes the largest of several linear maps: convex, and never dead."""

from __future__ import annotations

from torch import Tensor, nn


class Maxout(nn.Module):
    r"""Maxout: :math:`y_j = \max_{k \le K} x_{j K + k}`, the largest of each K inputs that lie side by side.

    A layer with it has K times as many linear outputs as it passes on. Its slope is at most 1 in the Euclidean norm,
    for a maximum moves by no more than the one of its arguments that moves most.

    References:
        | Maxout Networks (Goodfellow et al., 2013)
        | https://arxiv.org/abs/1302.4389

    Args:
        pieces: K, at least 2; the discriminators of PacGAN take 5.

    Raises:
        ValueError: If ``pieces`` is less than 2.
    """

    def __init__(self, pieces: int = 5) -> None:
        super().__init__()
        if pieces < 2:
            raise ValueError(f"pieces: expected an int of 2 or more; got {pieces}")
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        r"""Map x of shape (\*, K d) to shape (\*, d)."""
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)

    def extra_repr(self) -> str:
        """The number of pieces."""
        return str(self.pieces)
