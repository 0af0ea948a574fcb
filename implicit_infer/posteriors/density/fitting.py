"""The two stages in which a density is learned: what is normal first, and what is not only if it is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_infer.posteriors.density.flow import ConditionalDensity
from implicit_infer.posteriors.density.training import Recipe, train_ensemble
from implicit_infer.progress import track
from implicit_simulators import Stream

WORTH = 0.005
"""Nats a row by which a flow must lower the held-out loss to be kept."""

STRAIGHT = 0.03
"""Largest distance of the distribution function of what is left from the normal one at which no flow is tried."""

LOOKED_AT = 4096
"""Rows that this distance is taken of."""


@dataclass(frozen=True)
class DensitySettings:
    """What NPE and NLE have in common.

    Args:
        flow: What bends the conditional normal: "nsf", "maf" or "none".
        transforms: Transforms of the flow.
        hidden: Widths of the hidden layers.
        bins: Bins of a spline.
        members: Members of the ensemble.
        normal: How the conditional normals are trained.
        bending: How all is trained after them, flow included.
    """

    flow: str = "nsf"
    transforms: int = 3
    hidden: tuple[int, ...] = (64, 64)
    bins: int = 8
    members: int = 3
    normal: Recipe = field(default_factory=lambda: Recipe(epochs=60, learning_rate=2e-3))
    bending: Recipe = field(default_factory=lambda: Recipe(epochs=60, patience=8))

    def density(self, width: int, condition: int, seed: int) -> ConditionalDensity:
        """One member."""
        return ConditionalDensity(
            width,
            condition,
            flow=self.flow,
            transforms=self.transforms,
            hidden=self.hidden,
            bins=self.bins,
            seed=seed,
        )


def fit_density(
    ensemble: Ensemble,
    y: Tensor,
    c: Tensor,
    settings: DensitySettings,
    seed: int,
    *,
    groups: Tensor | None = None,
    fresh: Any = None,
    name: str = "density",
    progress: bool = True,
) -> dict[str, Any]:
    """Train the normals, then the flows from there; the flows are kept if the held-out loss says so.

    Args:
        ensemble: The members, whose template has the switch ``bent``.
        y: Rows with shape (n, d).
        c: Conditions with shape (n, k).
        settings: The settings.
        seed: Seed of splits and batches: the same rows are held out in both stages.
        groups: See :func:`implicit_infer.posteriors.density.training.train_ensemble`.
        fresh: See there.
        name: What the bar says is trained.
        progress: Whether to show progress.

    Returns:
        Figures: epochs, held-out losses of both stages, and whether the flows are in use.
    """
    switch = density_of(ensemble.template)
    held = {"groups": groups, "fresh": fresh}
    switch.bent = False
    with track(f"training {name}: normal", total=settings.normal.epochs, show=progress) as bar:
        first = train_ensemble(
            ensemble, y, c, settings.normal, seed, progress=lambda _, shown: bar.update(1, **shown), **held
        )
    loss = sum(first.best) / len(first.best)
    figures = {"epochs": len(first.training), "validation_loss": loss, "bent": False, "finite": first.finite}
    if switch.flow is None or not first.finite:
        return figures
    figures["distance_from_normal"] = distance_from_normal(ensemble, y, c, seed, fresh)
    if figures["distance_from_normal"] < STRAIGHT:
        return figures
    before = [weight.detach().clone() for weight in ensemble.stacked]
    switch.bent = True
    recipe = replace(settings.bending, validation=settings.normal.validation)
    with track(f"training {name}: flow", total=recipe.epochs, show=progress) as bar:
        second = train_ensemble(ensemble, y, c, recipe, seed, progress=lambda _, shown: bar.update(1, **shown), **held)
    bent_loss = sum(second.best) / len(second.best)
    figures |= {"normal_loss": loss, "bent_loss": bent_loss, "epochs": figures["epochs"] + len(second.training)}
    if bent_loss < loss - WORTH:
        return figures | {"bent": True, "validation_loss": bent_loss}
    switch.bent = False
    for weight, kept in zip(ensemble.stacked, before, strict=True):
        weight.data.copy_(kept)
    return figures


@torch.no_grad()
def distance_from_normal(ensemble: Ensemble, y: Tensor, c: Tensor, seed: int, fresh: Any = None) -> float:
    """Kolmogorov's distance of what the conditional normals leave from a standard normal, in the worst column.

    Few far rows, which a regression gets wrong, do not raise it; heavy tails, corners and several modes do.
    """
    generator = Stream.of(seed, 1, "split").torch(y.device)
    rows = torch.randperm(len(y), generator=generator, device=y.device)[:LOOKED_AT]
    seen = y[rows] if fresh is None else fresh(y[rows], generator)
    w = torch.cat([ensemble.member(k, "whiten")(seen, c[rows]) for k in range(len(ensemble))])
    ordered = torch.special.ndtr(w.double().sort(0).values)
    grid = (torch.arange(len(w), device=w.device, dtype=ordered.dtype)[:, None] + 0.5) / len(w)
    return float((ordered - grid).abs().max())


def density_of(module: nn.Module) -> ConditionalDensity:
    """The density that a member is, or holds."""
    return next(part for part in module.modules() if isinstance(part, ConditionalDensity))
