r"""Several densities in one program: their weights are stacked, and one call computes all of them.

Members differ in their initial weights, in the order of their batches and in the simulations that are held out from
them, so that none of the simulations is lost to the ensemble. A posterior is their mixture,

.. math:: q(y \mid c) = \frac1K \sum_k q_k(y \mid c),

which for a proper score such as the log loss is never worse than its members are on average; a log-likelihood is the
mean of theirs (their geometric mean), which is what several independent points multiply without growing a tail.

References:
    | Simple and scalable predictive uncertainty estimation using deep ensembles (Lakshminarayanan et al., 2017)
    | https://arxiv.org/abs/1612.01474
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

ROWS = 16384
"""Rows that are evaluated at once without gradients."""


class Ensemble(nn.Module):
    """K modules of one architecture, called as one.

    Modules that have a method ``together(state, y, c)`` compute all members' values themselves, from stacked weights
    and rows; others are vectorised by torch, in hundreds of small operations where they are flows.

    Args:
        members: The modules; their weights are copied.
        keep: An object that they hold and that is not to be copied, such as a simulator.
    """

    def __init__(self, members: list[nn.Module], keep: Any = None) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(members)
        self.names = list(parameters)
        self.stacked = nn.ParameterList([nn.Parameter(value.detach().clone()) for value in parameters.values()])
        self.buffer_names = list(buffers)
        for i, value in enumerate(buffers.values()):
            self.register_buffer(f"buffer_{i}", value.detach().clone())
        # in a tuple, so that it is no child whose weights count; its own weights are on no device
        kept = {} if keep is None else {id(keep): keep}
        self._template = (copy.deepcopy(members[0], kept).to("meta"),)

    def __len__(self) -> int:
        return len(self.stacked[0])

    @property
    def template(self) -> Any:
        """The architecture that the members share, without weights; its settings are read at every call."""
        return self._template[0]

    @property
    def parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Stacked weights and buffers by the members' own names."""
        weights = dict(zip(self.names, self.stacked, strict=True))
        return weights, {name: getattr(self, f"buffer_{i}") for i, name in enumerate(self.buffer_names)}

    def forward(self, y: Tensor, c: Tensor, *, shared: bool = True) -> Tensor:
        """What each member says, with shape (K, n): of the same rows (n, d) and (n, k), or each of its own (K, n, ...).

        Args:
            y: First argument of the members.
            c: Second argument.
            shared: Whether all members look at the same rows.
        """
        together = getattr(self.template, "together", None)
        if together is not None:
            weights, buffers = self.parts
            rows = [part.expand(len(self), *part.shape) for part in (y, c)] if shared else (y, c)
            said: Tensor = together({**weights, **buffers}, *rows)
            return said

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], y: Tensor, c: Tensor) -> Tensor:
            return functional_call(self.template, (weights, buffers), (y, c))

        at = None if shared else 0
        return vmap(one, (0, 0, at, at))(*self.parts, y, c)

    @torch.no_grad()
    def evaluate(self, y: Tensor, c: Tensor) -> Tensor:
        """As ``forward``, without gradients and in parts that fit in memory."""
        return torch.cat([self(*part) for part in zip(y.split(ROWS), c.split(ROWS), strict=True)], 1)

    def member(self, k: int, method: str) -> Callable[..., Any]:
        """A method of member k, such as ``invert``."""
        weights, buffers = ({name: value[k] for name, value in part.items()} for part in self.parts)
        return _Bound(self.template, {**weights, **buffers}, method)

    def mixture(self, y: Tensor, c: Tensor) -> Tensor:
        """Log density of the mixture, with shape (n,), without gradients."""
        return self.evaluate(y, c).logsumexp(0) - math.log(len(self))

    @torch.no_grad()
    def draw(self, c: Tensor, generator: torch.Generator, width: int) -> Tensor:
        """A draw of the mixture for each row of c, with shape (n, width); members take turns in random order."""
        n = len(c)
        z = torch.randn((n, width), generator=generator, device=c.device, dtype=c.dtype)
        order = torch.randperm(n, generator=generator, device=c.device)
        y = torch.empty_like(z)
        for k, rows in enumerate(order.tensor_split(len(self))):
            invert = self.member(k, "invert")
            for part in rows.split(ROWS):
                y[part] = invert(z[part], c[part])
        return y


class _Bound:
    """A method of a module with other weights."""

    def __init__(self, template: nn.Module, state: dict[str, Tensor], method: str) -> None:
        self.caller, self.state = _Caller(template, method), state

    def __call__(self, *arguments: Tensor) -> Any:
        return functional_call(self.caller, {f"module.{name}": value for name, value in self.state.items()}, arguments)


class _Caller(nn.Module):
    """A module whose call is another one's method: what ``functional_call`` can reach."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *arguments: Tensor) -> Any:
        return getattr(self.module, self.method)(*arguments)
