"""How fast a posterior flow is trained, beside sbi's trainer in the same run: CPU seconds to the same held-out loss.

Run ``python -m benchmarks.bench_flows`` (minutes). Both learn p(theta | x) from the same 10,000 simulations by a
neural spline flow at their own defaults, one network each and, of ours, an ensemble of three in one program. sbi's time
is what it spent until the epoch of its best validation loss; the epochs of patience after it do not count. Ours is the
time until the held-out loss, in the parameters' own space, is as low as that. Losses at 1,000 simulations that neither
has seen stand beside. Trainers take turns; what is printed are medians over the rounds, ratios being of the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import torch
from torch import Tensor

import implicit_infer as ii
from benchmarks.bench_training import quiet
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_infer.posteriors.density.fitting import DensitySettings
from implicit_infer.posteriors.density.training import train_ensemble
from implicit_infer.posteriors.npe import NPE, NPEPosterior
from implicit_simulators import Simulator

SIMULATIONS, FRESH = 10_000, 1_000


def sbi(simulator: Simulator, theta: Tensor, x: Tensor, seed: int, fresh: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Train sbi's default flow; its seconds to its best epoch, that epoch's loss, and the loss at fresh simulations."""
    from sbi import inference
    from sbi.neural_nets import posterior_nn

    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        trainer = inference.NPE(simulator.prior, density_estimator=posterior_nn("nsf"), show_progress_bars=False)
        trainer.append_simulations(theta, x)
        begun = time.process_time()
        estimator = trainer.train()
        spent = time.process_time() - begun
        losses = [float(loss) for loss in trainer.summary["validation_loss"]]
        with torch.no_grad():
            at_fresh = float(estimator.loss(*fresh).mean())
    best = min(range(len(losses)), key=losses.__getitem__)
    return {"seconds": spent * (best + 1) / len(losses), "loss": losses[best], "fresh": at_fresh}


def ours(
    simulator: Simulator, theta: Tensor, x: Tensor, seed: int, fresh: tuple[Tensor, Tensor], members: int, aim: float
) -> dict[str, float]:
    """Train our default flow to the end, and note when the held-out loss was ``aim`` first."""
    settings = DensitySettings(members=members)
    begun = time.process_time()
    method = NPE(settings)
    maps = Coordinates(simulator, theta, x)
    given, v, view, made, _ = method._parts(maps, theta, x, seed)
    volume = float(maps.log_det(theta).mean())
    ensemble = Ensemble(made)
    reached: list[float] = []

    def note(_: int, figures: dict[str, float]) -> None:
        if figures["validation"] - volume <= aim:
            reached.append(time.process_time() - begun)

    ensemble.template.bent = False
    train_ensemble(ensemble, v, given, settings.normal, seed, progress=note)
    ensemble.template.bent = True
    recipe = replace(settings.bending, validation=settings.normal.validation)
    train_ensemble(ensemble, v, given, recipe, seed, progress=note)
    spent = time.process_time() - begun
    posterior = NPEPosterior(
        simulator, x[0], coordinates=view, ensemble=ensemble.eval(), method="npe", simulations=len(theta)
    )
    at_fresh = torch.cat([posterior.log_prob(one[None], seen) for one, seen in zip(*fresh, strict=True)])
    return {"seconds": reached[0] if reached else float("nan"), "whole": spent, "fresh": -float(at_fresh.mean())}


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=["two-moons", "gaussian-mixture"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in options.tasks:
        simulator = ii.simulators()[task]()
        found: list[tuple[dict[str, float], ...]] = []
        for seed in range(options.rounds):
            runs = ii.simulate(simulator, SIMULATIONS, seed=seed, progress=False)
            unseen = ii.simulate(simulator, FRESH, seed=1000 + seed, progress=False)
            fresh = (unseen.theta, unseen.x)
            theirs = sbi(simulator, runs.theta, runs.x, seed, fresh)
            mine = [ours(simulator, runs.theta, runs.x, seed, fresh, k, theirs["loss"]) for k in (1, 3)]
            found.append((theirs, *mine))
        show(task, found)


def show(task: str, found: list[tuple[dict[str, Any], ...]]) -> None:
    """The table of a task."""
    print(f"\n{task}: CPU seconds to sbi's best validation loss, median of {len(found)}")
    for i, title in enumerate(("sbi", "ours, one network", "ours, three")):
        seconds = statistics.median(row[i]["seconds"] for row in found)
        times = statistics.median(row[0]["seconds"] / row[i]["seconds"] for row in found)
        fresh = statistics.median(row[i]["fresh"] for row in found)
        whole = f", whole training {statistics.median(row[i]['whole'] for row in found):.0f} s" if i else ""
        print(f"{title:<20}{seconds:8.1f} s{times:8.1f} times as fast; loss at new simulations {fresh:.3f}{whole}")


if __name__ == "__main__":
    main()
