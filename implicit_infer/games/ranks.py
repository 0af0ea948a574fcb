r"""One game played by several processes: each sees its share of a batch, and all make the same step.

With :math:`g_k` the gradient of rank k of K at its share of the batch, every rank steps along
:math:`\frac1K \sum_k g_k`. For losses that are means over samples that is the gradient of the whole batch, so that K
ranks with shares of a batch play the game that one process plays with all of it, up to rounding. Losses that are not
(maximum mean discrepancy, the bound of Donsker and Varadhan, batch normalisation) are those of the shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: From 0.
        world: How many there are; 1 plays alone, and nothing is sent.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Those of ``torch.distributed`` where a process group has been made, else one alone."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls()

    def share(self, n: int) -> slice:
        """The rows of a batch of n that are this rank's.

        Raises:
            ValueError: If n cannot be cut into equal shares.
        """
        if n % self.world:
            raise ValueError(f"batch_size: expected a multiple of the {self.world} processes; got {n}")
        return slice(self.rank * n // self.world, (self.rank + 1) * n // self.world)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over ranks in place of each tensor, in one message."""
        if self.world > 1 and tensors:
            together = torch.cat([tensor.flatten() for tensor in tensors])
            torch.distributed.all_reduce(together)
            together /= self.world
            for tensor, mean in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    @torch.no_grad()
    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Put those of rank 0 in place of each tensor."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so on any rank: what all of them must decide alike."""
        if self.world == 1:
            return here
        flag = torch.tensor(float(here), device=device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)
