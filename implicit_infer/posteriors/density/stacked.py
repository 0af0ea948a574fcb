r"""All members of an ensemble of conditional densities by a few large operations: their weights are stacked already.

A layer of K members is one batched product, :math:`h_k W_k^T + b_k`, masked where the layer is; what bends a
normal is evaluated for the rows of all members together. The numbers are those of the members one by one, but for
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from implicit_infer.posteriors.density.spline import rational_quadratic

SLOPE = 1e-3
"""Least slope of an affine map, which is zuko's default."""

State = Mapping[str, Tensor]
"""Stacked weights and buffers, by the names that a member has for them."""


def called(module: nn.Module, state: State, *rows: Tensor) -> Tensor:
    """Any module with K states, at rows with shape (K, ...), one for each."""
    return vmap(lambda held, *own: functional_call(module, held, own))(dict(state), *rows)


def part(state: State, name: str) -> dict[str, Tensor]:
    """What a submodule holds of a state, by its own names."""
    start = f"{name}."
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}


def layers(network: nn.Module, state: State, h: Tensor) -> Tensor:
    """Layers one after the other, linear ones masked or not, with K states, from (K, n, i) to (K, n, o)."""
    for name, layer in network.named_modules():
        if "weight" in layer._parameters:
            weight, mask = state[f"{name}.weight"], state.get(f"{name}.mask")
            h = torch.baddbmm(
                state[f"{name}.bias"][:, None], h, weight.mT if mask is None else torch.where(mask, weight, 0).mT
            )
        elif not layer._modules:
            h = layer(h)
    return h


def bent(flow: Any, state: State, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The z of w and the log of the volume, of a flow of zuko's with K states, for shapes (K, n, d) and (K, n, k)."""
    total = torch.zeros((), dtype=w.dtype, device=w.device)
    d = w.shape[-1]
    for i, map_ in enumerate(flow.transform.transforms):
        # one number is bent given c alone
        seen = c if d == 1 else torch.cat((w, c), -1)
        phi = layers(map_.hyper, part(state, f"transform.transforms.{i}.hyper"), seen)
        w, log_det = _affine(w, phi) if len(map_.shapes) == 2 else _spline(map_, w, phi)
        total = total + log_det
    return w, total


def _affine(w: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    shift, raw = phi.unflatten(-1, (w.shape[-1], 2)).unbind(-1)
    log_scale = raw / (1 - raw.abs() / math.log(SLOPE))
    return w * log_scale.exp() + shift, log_scale.sum(-1)


def _spline(map_: Any, w: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    (bins,) = map_.shapes[0]
    return rational_quadratic(w, phi, bins, **map_.univariate.keywords)
