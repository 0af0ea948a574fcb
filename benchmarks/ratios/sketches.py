"""Peers that no maintained library has, written as briefly as a research script would: networks, bridges, time scores.

They stand for what a user would write in an afternoon from the papers, not for their authors' code.

References:
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020)
    | https://arxiv.org/abs/2006.12204
    | Density Ratio Estimation with Conditional Probability Paths (Yu, Klami, Hyvarinen, Korba and Chehab, 2025)
    | https://arxiv.org/abs/2502.02300
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from benchmarks.ratios.methods import LogRatio
from implicit_estimators.problems import Problem

LIMIT = 40.0
"""CPU seconds after which training stops."""


def _scaler(p: Tensor, q: Tensor) -> Callable[[Tensor], Tensor]:
    both = torch.cat([p, q]).double()
    mean, sd = both.mean(0), both.std(0).clamp(min=1e-30)
    return lambda x: ((x.double() - mean) / sd).float()


def _layers(inputs: int, width: int, outputs: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, outputs)
    )


def _train(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    p: Tensor,
    q: Tensor,
    batch: int,
    patience: int,
    rate: float = 1e-3,
) -> None:
    """Adam with early stopping on a tenth of the rows; the best weights are kept."""
    began = time.process_time()
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    hold_p, hold_q = len(p) // 10, len(q) // 10
    (test_p, learn_p), (test_q, learn_q) = (p[:hold_p], p[hold_p:]), (q[:hold_q], q[hold_q:])
    best, kept, since = float("inf"), copy.deepcopy(network.state_dict()), 0
    while since < patience and time.process_time() - began < LIMIT:
        i, j = torch.randperm(len(learn_p)), torch.randperm(len(learn_q))
        for part in range(0, min(len(i), len(j)) - batch + 1, batch):
            optimiser.zero_grad()
            loss(learn_p[i[part : part + batch]], learn_q[j[part : part + batch]]).backward()
            optimiser.step()
        with torch.no_grad():
            held_out = float(loss(test_p, test_q))
        since += 1
        if held_out < best - 1e-5:
            best, kept, since = held_out, copy.deepcopy(network.state_dict()), 0
    network.load_state_dict(kept)


def network(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
    """The usual script: two layers of 128, logistic loss, Adam, early stopping."""
    torch.manual_seed(seed)
    scale = _scaler(p, q)
    critic = _layers(p.shape[1], 128, 1, nn.ReLU)
    _train(critic, lambda a, b: softplus(-critic(a)).mean() + softplus(critic(b)).mean(), scale(p), scale(q), 128, 20)
    return lambda x: critic(scale(x))[:, 0].detach()


def telescoping(problem: Problem, p: Tensor, q: Tensor, seed: int, bridges: int = 5) -> LogRatio:
    """Five classifiers with a shared trunk, each between neighbours among waymarks of p and q."""
    torch.manual_seed(seed)
    scale = _scaler(p, q)
    heads = _layers(p.shape[1], 256, bridges, nn.SiLU)
    share = torch.linspace(0, 1, bridges + 1)[:, None, None]
    which = torch.arange(bridges)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        logits = heads((1 - share**2).sqrt() * a + share * b)  # (waymarks, rows, bridges)
        return (softplus(-logits[which, :, which]).mean(1) + softplus(logits[which + 1, :, which]).mean(1)).mean()

    n = min(len(p), len(q)) // 10 * 10
    _train(heads, loss, scale(p[:n]), scale(q[:n]), 512 if n >= 2000 else 64, 15)
    return lambda x: heads(scale(x)).double().sum(1).detach()


def time_score(problem: Problem, p: Tensor, q: Tensor, seed: int, limit: float = 30.0) -> LogRatio:
    r"""Regression on the time score of the path from a row of q to a row of p, column by column ("CTSM-v").

    The path is :math:`N((1 - t) x_q + t x_p, t (1 - t) I)`, whose log-density has the derivative in t, for each column,
    :math:`\dot v (z^2 - 1) / (2 v) + (x_p - x_q) z / \sqrt v` with v = t (1 - t); log r is its integral over t.
    """
    torch.manual_seed(seed)
    scale = _scaler(p, q)
    first, second = scale(p), scale(q)
    width = first.shape[1]
    score = nn.Sequential(
        nn.Linear(width + 1, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(),
        nn.Linear(256, width),
    )  # fmt: skip
    optimiser, began, spent, margin = torch.optim.Adam(score.parameters(), lr=1e-3), time.process_time(), 0.0, 1e-3
    while spent < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * max(1e-3, 1 - spent)
        for _ in range(50):
            a, b = first[torch.randint(len(first), (512,))], second[torch.randint(len(second), (512,))]
            t, z = margin + (1 - 2 * margin) * torch.rand(512, 1), torch.randn(512, width)
            v = t * (1 - t)
            target = (1 - 2 * t) / (2 * v) * (z**2 - 1) + (a - b) * z / v.sqrt()
            guess = score(torch.cat([(1 - t) * b + t * a + v.sqrt() * z, t], 1))
            optimiser.zero_grad()
            (v * (guess - target) ** 2).mean().backward()
            optimiser.step()
        spent = (time.process_time() - began) / limit
    nodes, weights = np.polynomial.legendre.leggauss(64)

    def log_ratio(x: Tensor) -> Tensor:
        points, total = scale(x), torch.zeros(len(x), dtype=torch.float64)
        with torch.no_grad():
            for node, weight in zip(nodes, weights, strict=True):
                t = torch.full((len(x), 1), margin + (1 - 2 * margin) * (node + 1) / 2)
                total += weight / 2 * (1 - 2 * margin) * score(torch.cat([points, t], 1)).double().sum(1)
        return total

    return log_ratio
