r"""Gradients of small ratio networks by hand: of a step of a few thousand weights, autograd is the greater part.

Forward and backward passes of a :class:`RatioNetwork` on candidates, as matrix products and elementwise maps that write
to buffers made once. With :math:`z_l = W_l y_{l-1} + b_l`, :math:`y_l = a(\gamma_l \odot \operatorname{norm}(z_l) +
\beta_l)` and g the gradient of the loss in the output, the chain rule reads from the last layer to the first

.. math:: \frac{\partial \ell}{\partial W_l} = y_{l-1}^\top g_l, \quad \frac{\partial \ell}{\partial b_l}
    = \textstyle\sum g_l, \quad g_{l-1} = a'(\cdot) \odot g_l W_l^\top,

and at the first layer, where candidates are sums of a row of theta and a row of s, it sums over the candidates that a
row was part of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from implicit_estimators.networks.ratio_network import EPSILON, RatioNetwork

_SILU = torch.ops.aten.silu.out
_SILU_BACKWARD = torch.ops.aten.silu_backward.grad_input
_RELU_BACKWARD = torch.ops.aten.threshold_backward.grad_input
_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward


class SmallEngine:
    """Values of a network at candidates, and the gradient of its weights, for batches of one size.

    Args:
        network: The network; its weights are read where they lie, and may change between calls.
        batch: b, rows of a batch.
        candidates: A, candidates of each row.
    """

    def __init__(self, network: RatioNetwork, batch: int, candidates: int) -> None:
        self.network = network
        self.weights = network.views(network.weights.detach())
        like, k, rows = network.weights.detach(), network.members, candidates * batch
        self.gradient = torch.zeros_like(like)
        self.slopes = network.views(self.gradient)
        hidden = network.hidden
        first = hidden[0]
        # twice each row of theta, so that a cyclic shift is a slice
        self.own, self.own_slope = like.new_empty(k, 2 * batch, first), like.new_empty(k, 2 * batch, first)
        self.folded = like.new_empty(k, batch, first)
        self.given, self.given_slope = like.new_empty(k, batch, first), like.new_empty(k, batch, first)
        self.linear = [like.new_empty(k, rows, width) for width in hidden]
        self.normal = [like.new_empty(k, rows, width) for width in hidden] if network.layer_norm else self.linear
        # relu's gradient can be told from its values, so that they may take the place of what it was applied to
        apart = network.activation == "silu"
        self.active = [torch.empty_like(part) for part in self.linear] if apart else self.normal
        self.slope = [like.new_empty(k, rows, width) for width in hidden]
        self.values = like.new_empty(k, rows, 1)
        self.statistics: list[tuple[Tensor, Tensor, Tensor]] = []
        self.shape = (k, candidates, batch)

    @torch.no_grad()
    def forward(self, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> Tensor:
        """What :meth:`RatioNetwork.candidates` gives, in a buffer that the next call writes to."""
        batch = self.shape[2]
        weights = iter(self.weights)
        torch.bmm(theta, next(weights), out=self.own[:, :batch])
        self.own[:, batch:].copy_(self.own[:, :batch])
        torch.bmm(s, next(weights), out=self.given).add_(next(weights))
        pre = self.linear[0].view(*self.shape, -1)
        for place, offset in enumerate(offsets):
            torch.add(self.own[:, offset : offset + batch], self.given, out=pre[:, place])
        self.statistics.clear()
        below: Tensor | None = None
        for linear, normal, active in zip(self.linear, self.normal, self.active, strict=True):
            if below is not None:
                torch.bmm(below, next(weights), out=linear).add_(next(weights))
            if self.network.layer_norm:
                found = torch.native_layer_norm(linear, linear.shape[-1:], None, None, EPSILON)
                self.statistics.append(found)
                scale, shift = next(weights), next(weights)
                torch.addcmul(shift, found[0], scale, out=normal)
            if active is normal:
                active.relu_()
            else:
                _SILU(normal, out=active)
            below = active
        assert below is not None
        torch.bmm(below, next(weights), out=self.values).add_(next(weights))
        return self.values.view(self.shape)

    @torch.no_grad()
    def backward(self, theta: Tensor, s: Tensor, offsets: Sequence[int], output: Tensor) -> Tensor:
        """The gradient of the weights, with shape (K, P), after ``forward`` on the same batch.

        Args:
            theta: As ``forward`` got it.
            s: As ``forward`` got it.
            offsets: As ``forward`` got them.
            output: The loss's gradient in the values, with shape (K, A, b).

        Returns:
            The gradient, in a buffer that the next call writes to.
        """
        norm = self.network.layer_norm
        # from the back: bias, weight; then of each layer shift, scale, bias, weight
        slopes, weights = list(self.slopes), list(self.weights)
        above = output.reshape(*self.values.shape)
        torch.sum(above, 1, keepdim=True, out=slopes.pop())
        torch.bmm(self.active[-1].transpose(1, 2), above, out=slopes.pop())
        weights.pop()
        torch.mul(above, weights.pop().transpose(1, 2), out=self.slope[-1])
        for layer in reversed(range(len(self.linear))):
            slope, normal, active = self.slope[layer], self.normal[layer], self.active[layer]
            if active is normal:
                _RELU_BACKWARD(slope, active, 0, grad_input=slope)
            else:
                _SILU_BACKWARD(slope, normal, grad_input=slope)
            if norm:
                unit, mean, deviation = self.statistics[layer]
                torch.sum(slope, 1, keepdim=True, out=slopes.pop())
                torch.sum(unit.mul_(slope), 1, keepdim=True, out=slopes.pop())
                weights.pop()
                slope.mul_(weights.pop())
                linear = self.linear[layer]
                slope, *_ = _NORM_BACKWARD(
                    slope, linear, linear.shape[-1:], mean, deviation, None, None, [True, False, False]
                )
            if layer:
                torch.sum(slope, 1, keepdim=True, out=slopes.pop())
                torch.bmm(self.active[layer - 1].transpose(1, 2), slope, out=slopes.pop())
                weights.pop()
                torch.bmm(slope, weights.pop().transpose(1, 2), out=self.slope[layer - 1])
            else:
                self._first(slope.view(*self.shape, -1), theta, s, offsets)
        return self.gradient

    def _first(self, slope: Tensor, theta: Tensor, s: Tensor, offsets: Sequence[int]) -> None:
        batch = self.shape[2]
        torch.sum(slope, 1, out=self.given_slope)
        torch.sum(self.given_slope, 1, keepdim=True, out=self.slopes[2])
        torch.bmm(s.transpose(1, 2), self.given_slope, out=self.slopes[1])
        self.own_slope.zero_()
        for place, offset in enumerate(offsets):
            self.own_slope[:, offset : offset + batch].add_(slope[:, place])
        torch.add(self.own_slope[:, :batch], self.own_slope[:, batch:], out=self.folded)
        torch.bmm(theta.transpose(1, 2), self.folded, out=self.slopes[0])
