r"""A Gaussian over parameters, and how it moves: score-function gradients in its own frame, and natural steps.

With :math:`v = \mu + A z, \; z \sim N(0, I), \; \Sigma = A A^\top` and a loss f of each draw,

.. math::
    \nabla_\mu \mathbb{E} f = A^{-\top} \, \mathbb{E}[f z], \qquad
    \nabla_A \mathbb{E} f = A^{-\top} \, \mathbb{E}[f (z z^\top - I)].

The Fisher information of a Gaussian is known: :math:`\Sigma^{-1}` for the mean, and for the covariance
:math:`\delta\Sigma \mapsto \frac12 \Sigma^{-1} \delta\Sigma \, \Sigma^{-1}`. The natural gradients are therefore

.. math:: \tilde\nabla_\mu = A \, g, \quad \tilde\nabla_\Sigma = A \, G \, A^\top, \qquad
    g = \mathbb{E}[f z], \quad G = \mathbb{E}[f (z z^\top - I)],

and need no inverse at all. A step along them keeps the covariance positive when it is taken in the exponential map,
:math:`\mu \leftarrow \mu - \eta A g, \; A \leftarrow A \exp(-\frac{\eta}{2} G)` (Glasmachers et al., 2010). The entropy
:math:`H = \log|\det A| + \frac d2 \log 2\pi e` has :math:`\nabla_A H = A^{-\top}`: it adds :math:`\gamma I` to G.

References:
    | Adversarial variational optimization of non-differentiable simulators (Louppe, Hermans & Cranmer, 2019)
    | https://arxiv.org/abs/1707.07113
    | Exponential natural evolution strategies (Glasmachers et al., 2010)
    | https://doi.org/10.1145/1830483.1830557
    | Natural gradient works efficiently in learning (Amari, 1998)
    | https://doi.org/10.1162/089976698300017746
    | Quasi-Monte Carlo variational inference (Buchholz, Wenzel & Mandt, 2018), for Sobol draws in score functions
    | https://arxiv.org/abs/1807.01604
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Draws = Literal["independent", "antithetic", "sobol"]
Baseline = Literal["leave-out", "optimal", "none"]


@dataclass(frozen=True)
class Gaussian:
    r"""The proposal :math:`N(\mu, A A^\top)`.

    Attributes:
        mean: With shape (d,).
        root: A, any square root of the covariance with positive determinant, with shape (d, d).
    """

    mean: Tensor
    root: Tensor

    @property
    def covariance(self) -> Tensor:
        """With shape (d, d)."""
        return self.root @ self.root.T

    @property
    def entropy(self) -> Tensor:
        """In nats, with shape ()."""
        return torch.linalg.slogdet(self.root)[1] + 0.5 * len(self.mean) * math.log(2 * math.pi * math.e)

    def at(self, z: Tensor) -> Tensor:
        """V for standard normal z, both with shape (n, d)."""
        return self.mean + z @ self.root.T

    def natural_step(self, g: Tensor, big: Tensor, rate: float, root_rate: float, most: float = math.inf) -> Gaussian:
        r"""One step down the natural gradient, no further than a given divergence from here.

        To second order the step's :math:`KL` is :math:`\frac12 (\eta^2 |g|^2 + \frac12 \eta_A^2 |G|_F^2)`; where that
        exceeds ``most``, the whole step is shortened to it.

        Args:
            g: With shape (d,).
            big: G, symmetric, with shape (d, d).
            rate: Step size of the mean.
            root_rate: Step size of the covariance.
            most: The largest divergence, in nats.
        """
        far = 0.5 * (rate**2 * g.square().sum() + 0.5 * root_rate**2 * big.square().sum())
        shorter = (most / far.clamp_min(1e-30)).sqrt().clamp(max=1.0)
        mean = self.mean - shorter * rate * (self.root @ g)
        return Gaussian(mean, self.root @ torch.linalg.matrix_exp(-0.5 * shorter * root_rate * big))

    def gradient(self, g: Tensor, big: Tensor) -> tuple[Tensor, Tensor]:
        """The plain gradients in mean and root, with shapes (d,) and (d, d), from g and G of its own frame."""
        return torch.linalg.solve(self.root.T, g[:, None])[:, 0], torch.linalg.solve(self.root.T, big)


def noise(n: int, dim: int, kind: Draws, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standard normal draws, and which of them depend on one another.

    Every draw is standard normal by itself, so that means over them are unbiased whatever the kind:

    - "independent";
    - "antithetic": z and -z, in pairs (what is odd in z cancels out of every even loss);
    - "sobol": two scrambled Sobol sequences of half as many, through the normal quantile function. Scrambles are
      independent, so each half can be the other's baseline.

    Args:
        n: Draws, even for the last two.
        dim: Width.
        kind: See above.
        random: Source of the numbers.

    Returns:
        Draws with shape (n, dim), and the number of the block that each belongs to, with shape (n,): blocks are
        independent of one another, draws inside a block are not.

    Raises:
        ValueError: If n is odd where it must be even, or there is no such kind.
    """
    if kind == "independent":
        return torch.randn(n, dim, generator=random), torch.arange(n)
    if n % 2:
        raise ValueError(f"draws: expected an even number of {kind} draws; got {n}")
    if kind == "antithetic":
        half = torch.randn(n // 2, dim, generator=random)
        return torch.cat([half, -half]), torch.arange(n // 2).repeat(2)
    if kind == "sobol":
        seeds = torch.randint(2**31 - 1, (2,), generator=random).tolist()
        points = torch.cat([_sobol(n // 2, dim, seed) for seed in seeds])
        return torch.special.ndtri(points).float(), torch.arange(2).repeat_interleave(n // 2)
    raise ValueError(f"draws: expected independent, antithetic or sobol; got {kind!r}")


def _sobol(n: int, dim: int, seed: int) -> Tensor:
    """Points inside the unit cube, scrambled; in cells of 2^-30, of which each point takes the middle."""
    points = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    return points.clamp(2.0**-31, 1 - 2.0**-31)


def local_gradient(losses: Tensor, z: Tensor, blocks: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
    r"""Estimates of g and G from the losses of draws, with a baseline.

    A baseline b that does not depend on a draw leaves the expectation of :math:`(f - b) \nabla \log q` as it is, for
    :math:`\mathbb{E} \nabla \log q = 0`, and takes off what all draws have in common. Here b comes from the draws of
    the other blocks, which are independent of those of this one:

    - "leave-out": their mean loss;
    - "optimal": for each component s of the score its own :math:`\mathbb{E}[s^2 f] / \mathbb{E}[s^2]`, of least
      variance (Louppe, Hermans & Cranmer, 2019, take it of the same draws, which is biased by order 1/n);
    - "none".

    Args:
        losses: f at the draws, with shape (n,).
        z: Draws with shape (n, d).
        blocks: The block of each, with shape (n,).
        baseline: See above.

    Returns:
        g with shape (d,) and G with shape (d, d).

    Raises:
        ValueError: If there is one block alone and a baseline is asked for, or there is no such baseline.
    """
    dim = z.shape[1]
    scores = torch.cat([z, (z[:, :, None] * z[:, None, :] - torch.eye(dim).to(z)).flatten(1)], 1)
    off = losses[:, None].expand_as(scores)
    if baseline != "none":
        if baseline not in ("leave-out", "optimal"):
            raise ValueError(f"baseline: expected leave-out, optimal or none; got {baseline!r}")
        weights = scores.square() if baseline == "optimal" else torch.ones_like(scores)
        off = off - _of_others(weights * off, weights, blocks)
    mean = (off * scores).mean(0)
    return mean[:dim], mean[dim:].reshape(dim, dim)


def _of_others(weighted: Tensor, weights: Tensor, blocks: Tensor) -> Tensor:
    """For each row the ratio of the sums over the rows of all other blocks."""
    count = int(blocks.max()) + 1
    if count < 2:
        raise ValueError("baseline: expected draws in two blocks at least, of which one is the other's baseline")

    def others(values: Tensor) -> Tensor:
        sums = values.new_zeros(count, values.shape[1]).index_add_(0, blocks, values)
        return (values.sum(0) - sums)[blocks]

    return others(weighted) / others(weights).clamp_min(1e-30)
