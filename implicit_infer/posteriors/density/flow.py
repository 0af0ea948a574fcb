r"""The density that posteriors and likelihoods are learned with: a conditional normal, bent by a flow.

.. math::
    w = T(c) \, (y - m(c)), \qquad z = f_c(w), \qquad
    \log q(y \mid c) = \log N(z; 0, 1) + \log \left|\det \frac{\partial z}{\partial w}\right| + \log \det T(c)

One network of the condition c gives the mean m and the lower triangular T with positive diagonal; f is a
flow of zuko's on w, also given c. Both start as the identity (last layers at zero), so that training starts from a
standard normal, which is where ``Coordinates`` have put what is linear and Gaussian; and a law that is normal given c,
whatever its mean and covariance, is learned by a plain regression, of which the flow is only the remainder.

References:
    | Neural spline flows (Durkan et al., 2019)
    | https://arxiv.org/abs/1906.04032
    | Masked autoregressive flow for density estimation (Papamakarios, Pavlakou & Murray, 2017)
    | https://arxiv.org/abs/1705.07057
    | Zuko: normalizing flows in PyTorch (Rozet et al.)
    | https://zuko.readthedocs.io
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_infer.posteriors.density import stacked
from implicit_simulators import Stream

FLOWS = ("nsf", "maf", "none")
"""What bends the normal: neural splines, affine autoregressive maps, or nothing."""


class ConditionalDensity(nn.Module):
    """Density of y given c.

    Args:
        width: Width d of y.
        condition: Width k of c.
        flow: A name in ``FLOWS``.
        transforms: Transforms of the flow.
        hidden: Widths of the hidden layers of all networks.
        bins: Bins of a spline.
        seed: Seed of the initial weights.

    Attributes:
        bent: Whether the flow is used; if not, the density is normal given c.

    Raises:
        ValueError: If the flow is unknown.
    """

    def __init__(
        self,
        width: int,
        condition: int,
        *,
        flow: str = "nsf",
        transforms: int = 3,
        hidden: tuple[int, ...] = (64, 64),
        bins: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if flow not in FLOWS:
            raise ValueError(f"flow: expected one of {', '.join(FLOWS)}; got {flow!r}")
        self.width, self.condition = width, condition
        self.bent = True
        self.head = MLP(condition, 2 * width + width * (width - 1) // 2, hidden, activation="silu", seed=seed)
        self.flow = _flow(width, condition, flow, transforms, hidden, bins, seed)
        row, column = torch.tril_indices(width, width, -1)
        self.register_buffer("place", row * width + column, persistent=False)
        for last in self._last_layers():
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    place: Tensor

    def _last_layers(self) -> list[Any]:
        stacks = [self.head] + ([] if self.flow is None else [part.hyper for part in self.flow.transform.transforms])
        # zuko's linear layers are not torch's in one dimension
        layers = [[part for part in stack.modules() if "weight" in part._parameters] for stack in stacks]
        return [found[-1] for found in layers]

    def normal(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Mean m, the log of T's diagonal, and T, with shapes (\*, d), (\*, d) and (\*, d, d)."""
        return self._normal(self.head(c), self.place)

    def _normal(self, said: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = self.width
        mean, log_diagonal, lower = said.split((d, d, d * (d - 1) // 2), -1)
        log_diagonal = 6 * torch.tanh(log_diagonal / 6)  # a standard deviation is never beyond e^6 either way
        flat = torch.zeros((*mean.shape[:-1], d * d), dtype=said.dtype, device=said.device)
        root = flat.index_copy(-1, place, lower).unflatten(-1, (d, d))
        return mean, log_diagonal, root + torch.diag_embed(log_diagonal.exp())

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        r"""Log density with shape (\*,) for y of shape (\*, d) and c of shape (\*, k)."""
        mean, log_diagonal, root = self.normal(c)
        w = (root * (y - mean)[..., None, :]).sum(-1)  # much faster than so many products of small matrices
        log_det = log_diagonal.sum(-1)
        if self.bent and self.flow is not None:
            w, bending = self.flow.transform(c).call_and_ladj(w)
            log_det = log_det + bending
        return -0.5 * w.square().sum(-1) - 0.5 * math.log(2 * math.pi) * self.width + log_det

    def together(self, state: stacked.State, y: Tensor, c: Tensor) -> Tensor:
        r"""What ``forward`` says for K members with stacked weights, with shape (K, \*).

        Args:
            state: Their weights and buffers, stacked, by name.
            y: Rows with shape (K, \*, d).
            c: Conditions with shape (K, n, k); n is the last of y's rows.
        """
        said = stacked.layers(self.head, stacked.part(state, "head"), c)
        between = (slice(None), *[None] * (y.ndim - c.ndim))  # one row of conditions may serve several of y
        mean, log_diagonal, root = (part[between] for part in self._normal(said, state["place"][0]))
        w = (root * (y - mean)[..., None, :]).sum(-1)
        log_det = log_diagonal.sum(-1)
        if self.bent and self.flow is not None:
            seen = c[between].expand(*w.shape[:-1], c.shape[-1])
            rows, bending = stacked.bent(self.flow, stacked.part(state, "flow"), w.flatten(1, -2), seen.flatten(1, -2))
            w, log_det = rows.reshape(w.shape), log_det + bending.reshape(w.shape[:-1])
        return -0.5 * w.square().sum(-1) - 0.5 * math.log(2 * math.pi) * self.width + log_det

    def whiten(self, y: Tensor, c: Tensor) -> Tensor:
        r"""The w that belongs to y, both with shape (\*, d): standard normal if y is normal given c."""
        mean, _, root = self.normal(c)
        return (root * (y - mean)[..., None, :]).sum(-1)

    def invert(self, z: Tensor, c: Tensor) -> Tensor:
        r"""The y that belongs to standard normal z, both with shape (\*, d), given c with shape (\*, k)."""
        mean, _, root = self.normal(c)
        w = self.flow.transform(c).inv(z) if self.bent and self.flow is not None else z
        return mean + torch.linalg.solve_triangular(root, w[..., None], upper=False)[..., 0]


def _flow(width: int, condition: int, name: str, transforms: int, hidden: tuple[int, ...], bins: int, seed: int) -> Any:
    if name == "none" or transforms < 1:
        return None
    import zuko

    with Stream.of(seed, 1, "train").forked():
        if name == "maf":
            return zuko.flows.MAF(width, condition, transforms=transforms, hidden_features=hidden, activation=nn.SiLU)
        return zuko.flows.NSF(
            width, condition, bins=bins, transforms=transforms, hidden_features=hidden, activation=nn.SiLU
        )
