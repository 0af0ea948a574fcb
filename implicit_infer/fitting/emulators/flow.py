r"""An emulator with a density: a conditional normalizing flow, learned by maximum likelihood.

.. math:: \max_\phi \; \sum_i \log q_\phi(x_i \mid \theta_i)

The flow that is kept is the one that was best on simulations set aside.

References:
    | Neural Spline Flows (Durkan, Bekasov, Murray and Papamakarios, 2019)
    | https://arxiv.org/abs/1906.04032
    | Flexible statistical inference for mechanistic models of neural dynamics (Lueckmann et al., 2017)
    | https://arxiv.org/abs/1711.01861
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from implicit_infer.fitting.emulators.emulation import Emulation, Rows, complaints, played
from implicit_infer.generators.likelihood import HeldOut, MaximumLikelihood, likelihood_duel
from implicit_infer.generators.networks.base import Generator
from implicit_infer.generators.networks.flow import FlowGenerator

FEW = 8
"""Entries of x up to which maps are autoregressive: their inverse takes one pass for each entry."""


@dataclass(frozen=True)
class FlowEmulation(Emulation):
    """A conditional flow by maximum likelihood: draws that are differentiable, and a density.

    Args:
        kind: A name in ``implicit_infer.generators.networks.flow.KINDS``; autoregressive splines for up to eight
            entries of x and spline couplings for more if None.
        transforms: Maps that follow one another.
        hidden: Widths of the hidden layers of each.
        bins: Bins of each spline.

    Others as of :class:`Emulation`.
    """

    kind: str | None = None
    transforms: int = 3
    hidden: tuple[int, ...] = (64, 64)
    bins: int = 8

    name = "flow"
    has_density = True

    def network(self, width: int, conditions: int, seed: int) -> Generator:
        """A flow that starts as the identity."""
        kind = self.kind or ("spline-autoregressive" if width <= FEW else "spline-coupling")
        return FlowGenerator(width, conditions, kind, self.transforms, self.hidden, bins=self.bins, seed=seed)

    def train(
        self, network: Generator, rows: Rows, *, seed: int, progress: bool = False
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Maximise the likelihood; keep what was best on the rows set aside, where there are any."""
        draw, random = self.batches(network, rows, seed)
        watch = HeldOut(rows.held_v, condition=rows.held_c) if len(rows.held_v) else None
        duel = likelihood_duel(network, MaximumLikelihood(), draw, random)
        play, history = played(duel, self.training, random, name="emulating", progress=progress, watch=watch)
        figures: dict[str, Any] = {"steps": play.step, "warnings": complaints(history)}
        if watch is not None:
            watch.put_back(play.averaged)
            if math.isfinite(watch.best):
                figures |= {"held_out_loss": watch.best, "best_step": watch.best_step}
        return play.averaged, figures
