r"""The way from p to q in steps that samples can tell: where it leads, how long it is, and how well it was learned.

A sample of p and one of q, independent, give one sample of every waymark, :math:`x_k = \alpha_k x_p + \beta_k x_q` with
a weight for each column. Weights of a *linear* mixture keep the variance, :math:`\alpha^2 + \beta^2 = 1`, and with
:math:`\beta / \alpha = e^t` they reach from samples a million times narrower than the others to a million times wider.
Mixing by *columns* takes one column after another from q.

References:
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020)
    | https://arxiv.org/abs/2006.12204
    | A well-conditioned estimator for large-dimensional covariance matrices (Ledoit and Wolf, 2004), for the shrinkage
    | https://doi.org/10.1016/S0047-259X(03)00096-4
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from implicit_estimators.divergences import softplus


class Waymarks(nn.Module):
    r"""Samples of :math:`p = p_0, p_1, ..., p_m = q` from pairs of one sample of p and one of q.

    Args:
        weights_p: :math:`\alpha`, with shape (m + 1, d); ones in the first row, zeros in the last.
        weights_q: :math:`\beta`, with the same shape; zeros in the first row, ones in the last.

    Raises:
        ValueError: If the shapes differ, there are fewer than two waymarks, or the ends are not p and q.
    """

    weights_p: Tensor
    weights_q: Tensor

    def __init__(self, weights_p: Tensor, weights_q: Tensor) -> None:
        super().__init__()
        if weights_p.shape != weights_q.shape or weights_p.ndim != 2 or len(weights_p) < 2:
            raise ValueError(
                f"weights_p, weights_q: expected one shape (m + 1, d); got {tuple(weights_p.shape)} and "
                f"{tuple(weights_q.shape)}"
            )
        ends = torch.stack([weights_p[0], 1 - weights_p[-1], 1 - weights_q[0], weights_q[-1]])
        if not bool((ends == 1).all()):
            raise ValueError("weights_p, weights_q: expected the first waymark to be p and the last to be q")
        self.register_buffer("weights_p", weights_p.detach().float())
        self.register_buffer("weights_q", weights_q.detach().float())

    @classmethod
    def linear(cls, log_odds: Tensor, width: int) -> Waymarks:
        r"""Mixtures that keep the variance, :math:`\alpha = (1 + e^{2t})^{-1/2}`, :math:`\beta = (1 + e^{-2t})^{-1/2}`.

        Args:
            log_odds: t of the waymarks between p and q, rising, with shape (m - 1,).
            width: d.
        """
        end = torch.tensor([math.inf], dtype=torch.float64)
        t = torch.cat([-end, log_odds.double().cpu(), end])[:, None].expand(-1, width)
        return cls((2 * -t).sigmoid().sqrt(), (2 * t).sigmoid().sqrt())

    @classmethod
    def columns(cls, bridges: int, width: int) -> Waymarks:
        """The first ``round(k d / m)`` columns from q and the others from p, with at most d bridges."""
        bridges = min(bridges, width)
        taken = torch.arange(bridges + 1, dtype=torch.float64)[:, None] * width / bridges
        from_q = (torch.arange(width)[None] < taken.round()).double()
        return cls(1 - from_q, from_q)

    @property
    def bridges(self) -> int:
        """The m steps between the waymarks."""
        return len(self.weights_p) - 1

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        """Waymarks of pairs of rows with shapes (n, d): shape (m + 1, n, d). Where n differs, the fewer repeat."""
        n = max(len(p), len(q))
        p, q = (side if len(side) == n else side[torch.arange(n, device=side.device) % len(side)] for side in (p, q))
        weights_p, weights_q = (weights.to(p.dtype)[:, None] for weights in (self.weights_p, self.weights_q))
        return weights_p * p + weights_q * q


def bridge_losses(marks: Tensor, log_ratio: Callable[[int, Tensor], Tensor]) -> Tensor:
    r"""Log loss of telling each waymark from the next: it sees errors that the log loss of the whole way does not.

    .. math:: \ell_k = \tfrac12 \mathbb{E}_{p_k}[\log(1 + e^{-f_k})] + \tfrac12 \mathbb{E}_{p_{k+1}}[\log(1 + e^{f_k})]

    Args:
        marks: Samples of the waymarks, with shape (m + 1, n, d).
        log_ratio: ``log_ratio(k, x)`` estimates :math:`f_k = \log p_k / p_{k+1}` at x of shape (n, d): shape (n,).

    Returns:
        The losses in nats, with shape (m,), in float64; log 2 = 0.693 is that of knowing nothing.
    """
    losses = []
    for k in range(len(marks) - 1):
        here, there = (log_ratio(k, x).double() for x in (marks[k], marks[k + 1]))
        losses.append(0.5 * (softplus(-here).mean() + softplus(there).mean()))
    return torch.stack(losses)


class Way:
    r"""How far it is from p to q along linear mixtures, and waymarks that are equally far apart.

    Distance is measured by the Fisher information of t, :math:`\int \sqrt{I(t)} \, dt`, where a step of length
    :math:`\Delta` has a Kullback-Leibler divergence of about :math:`\Delta^2 / 2`. At first only the means and
    covariances of p and q are asked (less what chance gives to them), as if both were normal. What differs otherwise
    makes the way longer: :meth:`stretch` corrects it by what a network could tell apart. Only the spacing comes from
    this, and never a ratio.

    Args:
        p: Samples of p of order one, with shape (n, d).
        q: Samples of q, with shape (m, d).
    """

    def __init__(self, p: Tensor, q: Tensor) -> None:
        spread, mean_p, mean_q = _joint_moments(p.double().cpu(), q.double().cpu())
        t = torch.linspace(-40, 40, 4001, dtype=torch.float64)[:, None]
        share_p, share_q = (-2 * t).sigmoid(), (2 * t).sigmoid()
        variance = share_p * spread + share_q * (2 - spread)
        change = 2 * share_p * share_q * (2 - 2 * spread)  # of the variance with t
        drift = (share_p * share_q).sqrt() * (share_p.sqrt() * mean_q - share_q.sqrt() * mean_p)
        speed = (drift.square() / variance + 0.5 * (change / variance).square()).sum(1).sqrt()
        steps = 0.5 * (speed[1:] + speed[:-1]) * float(t[1] - t[0])
        self._t = t[:, 0].numpy()
        # rising everywhere, however little there is to tell
        self._far = np.concatenate([[0.0], np.cumsum(steps.numpy() + 1e-9)])

    @property
    def length(self) -> float:
        """The whole distance."""
        return float(self._far[-1])

    def bridges(self, nats: float, most: int) -> int:
        """How many steps of a divergence of ``nats`` it takes, at most ``most``."""
        return int(min(most, max(1, math.ceil(self.length / math.sqrt(2 * nats) - 1e-6))))

    def log_odds(self, bridges: int) -> Tensor:
        """Equally distant t of the waymarks between p and q, with shape (bridges - 1,)."""
        inner = np.linspace(0, self.length, bridges + 1)[1:-1]
        return torch.from_numpy(np.interp(inner, self._far, self._t))

    def stretch(self, losses: Tensor) -> None:
        r"""Lengthen the equal steps by held-out losses of their bridges, which a step of its length would exceed.

        A loss :math:`\ell` tells a Jensen-Shannon divergence of at least :math:`\log 2 - \ell`, and that a length of
        :math:`\Delta^2 = -8 \log 2 \, \log(\ell / \log 2)`: :math:`8 (\log 2 - \ell)` where it is small.
        """
        share = (losses.cpu().double() / math.log(2)).clamp(0.02, 1)
        found = (-8 * math.log(2) * share.log()).sqrt().numpy()
        old = np.linspace(0, self.length, len(losses) + 1)
        new = np.concatenate([[0.0], np.cumsum(np.maximum(found, np.diff(old)))])
        self._far = np.interp(self._far, old, new)


def _joint_moments(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variances of p in coordinates where those of p and q add up to 2 and neither is correlated, and both means."""
    chance = 1 / len(p) + 1 / len(q)
    mean_p, mean_q = p.mean(0), q.mean(0)
    centred_p, centred_q = p - mean_p, q - mean_q
    cov_p, cov_q = centred_p.T @ centred_p / len(p), centred_q.T @ centred_q / len(q)
    values, vectors = torch.linalg.eigh(0.5 * (cov_p + cov_q))
    kept = values > 1e-12 * values[-1].clamp(min=1e-12)
    whiten = vectors[:, kept] / values[kept].sqrt()
    relative = whiten.T @ cov_p @ whiten
    d = len(relative)
    spread, axes = torch.linalg.eigh(relative)
    spread = spread.clamp(1e-14, 2 - 1e-14)
    # what the sample covariances of one law, and their means, differ by
    spread = 2 * _shrunk(spread.log() - (2 - spread).log(), d * (d + 1) * chance).sigmoid()
    apart = _shrunk(whiten.T @ (mean_q - mean_p), d * chance)
    middle = whiten.T @ (0.5 * (mean_p + mean_q))
    return spread, axes.T @ (middle - 0.5 * apart), axes.T @ (middle + 0.5 * apart)


def _shrunk(difference: Tensor, chance: float) -> Tensor:
    """``difference`` less the share of its square that chance explains."""
    size = float(difference.square().sum())
    return difference * math.sqrt(max(0.0, 1 - chance / size)) if size else difference
