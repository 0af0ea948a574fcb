r"""Implicit variational posteriors for one observation: what they are, and the sampler that they draw with.

A variational posterior minimises :math:`\mathrm{KL}(q \| p(\cdot \mid x))` over a family q. An *implicit* q is a
network of noise, :math:`\theta = f_\phi(z)`: it has draws and no density, and the one term of the bound that needs a
density is estimated by a classifier.

References:
    | Variational Inference using Implicit Distributions (Huszár, 2017)
    | https://arxiv.org/abs/1702.08235
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_estimators.networks.mlp import MLP
from implicit_infer.posteriors.base import Posterior
from implicit_infer.progress import track
from implicit_simulators import Stream


class ImplicitSampler(nn.Module):
    r"""Draws of q in unconstrained space: :math:`u = m + s \odot (z_{1:d} + \text{network}(z))`.

    It starts as the normal with the prior's location and scale: the network's last layer starts at zero.

    Args:
        u: Draws of the prior in unconstrained space, with shape (n, d), n > 1.
        latent: Width of the noise, at least d.
        hidden: Widths of the hidden layers.
        activation: Name of the activation.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If the noise is narrower than u.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, u: Tensor, latent: int, hidden: Sequence[int], activation: str, seed: int) -> None:
        super().__init__()
        d = u.shape[1]
        if latent < d:
            raise ValueError(f"latent: expected at least the number of parameters, {d}; got {latent}")
        self.latent, self.d = latent, d
        self.network = MLP(latent, d, hidden, activation=activation, seed=seed)
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("location", u.mean(0))
        self.register_buffer("scale", u.std(0).clamp_min(1e-6))

    def forward(self, z: Tensor) -> Tensor:
        """Standardised draws (u - m) / s with shape (n, d) for noise with shape (n, latent)."""
        return z[:, : self.d] + self.network(z)

    def place(self, v: Tensor) -> Tensor:
        """U for standardised draws."""
        return self.location + self.scale * v

    def standard(self, u: Tensor) -> Tensor:
        """Standardised draws for u."""
        return (u - self.location) / self.scale


Draw = Callable[[int, torch.Generator], Tensor]
"""``draw(n, random)`` gives n draws of theta with shape (n, d)."""


class VariationalPosterior(Posterior):
    """Draws of a q that was fitted to one observation; for every other x it is fitted again, with the same budget.

    Args:
        *args: As of :class:`Posterior`.
        draw: Draws at the observation.
        again: Fits to another observation: ``again(x, seed)`` gives its posterior.
        **about: As of :class:`Posterior`.
    """

    def __init__(
        self, *args: Any, draw: Draw, again: Callable[[Tensor, int], VariationalPosterior], **about: Any
    ) -> None:
        super().__init__(*args, **about)
        self.draw = draw
        self.again = again

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        random = stream.torch()
        draws = []
        with track(f"sampling {self.method}", total=len(x), show=progress) as bar:
            for i, one in enumerate(x):
                draw = self.draw
                if not torch.equal(one, self.observed):
                    with torch.enable_grad():
                        draw = self.again(one, Stream.of(stream.key, i, "sample").key).draw
                draws.append(draw(n, random))
                bar.update()
        return torch.stack(draws, 1)


def drawing(sampler: ImplicitSampler, transform: Transform) -> Draw:
    """Draws of theta through a sampler on the CPU."""

    def draw(n: int, random: torch.Generator) -> Tensor:
        z = torch.randn((n, sampler.latent), generator=random)
        return transform(sampler.place(sampler(z)))

    return draw
