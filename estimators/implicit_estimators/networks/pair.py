"""Samples of p and of q made ready to train on: a share of each held out, and all standardised alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from implicit_estimators.networks.train import split

Map = TypeVar("Map", bound=nn.Module)


@dataclass(frozen=True)
class Pair(Generic[Map]):
    """What ``train`` takes, and what it was made from.

    Attributes:
        standardiser: The map that was fitted to the samples to learn from.
        learned: Standardised samples of p and of q to learn from, in float32: groups for ``train``.
        held_out: The same of those held out.
        raw: The samples to learn from, as they came.
        test: The samples held out, as they came, on the CPU.
    """

    standardiser: Map
    learned: list[tuple[Tensor]]
    held_out: list[tuple[Tensor]]
    raw: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(
        cls, p: Tensor, q: Tensor, share: float, seed: int, standardise: Callable[[Tensor, Tensor], Map]
    ) -> Pair[Map]:
        """Hold a random ``share`` of each set out, and fit ``standardise(p, q)`` to the rest."""
        (learn_p, learn_q), (test_p, test_q) = (
            [group[0] for group in part] for part in split([(p,), (q,)], share, seed)
        )
        standardiser = standardise(learn_p, learn_q)
        learned, held_out = (
            [(standardiser(samples).float(),) for samples in side] for side in ((learn_p, learn_q), (test_p, test_q))
        )
        return cls(standardiser, learned, held_out, (learn_p, learn_q), (test_p.cpu(), test_q.cpu()))
