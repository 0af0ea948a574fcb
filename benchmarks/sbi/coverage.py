"""Expected coverage of the default on simulations it has not seen: the posterior learned once, for all of them."""

from __future__ import annotations

import time
from typing import Any

TASKS = ("two-moons", "gaussian-linear", "benchmark-lotka-volterra")
BUDGET, DRAWS = 10_000, 99


def measure(task: str, seed: int, truths: int) -> dict[str, Any]:
    """Learn by ``auto`` from given simulations, so that there are no rounds, and rank ``truths`` parameters.

    Args:
        task: Name of the task's simulator.
        seed: Seed of the simulations, the training and the draws.
        truths: How many parameters are ranked, each among ``DRAWS`` draws.

    Returns:
        Whether every curve stays in its band, the p-value and the shares at three levels of each, and CPU seconds.
    """
    import torch

    import implicit_infer as ii

    torch.set_num_threads(1)
    begun = time.process_time()
    simulator = ii.simulators()[task]()
    simulator.prepare()
    runs = ii.simulate(simulator, BUDGET, seed=seed, progress=False)
    posterior = ii.infer(simulator, "1", runs=runs, seed=seed, progress=False)
    found = ii.diagnose.expected_coverage(posterior, n=truths, draws=DRAWS, seed=seed, progress=False)
    at = [int((found.levels - level).abs().argmin()) for level in (0.5, 0.8, 0.95)]
    return {
        "task": task,
        "seed": seed,
        "truths": found.n,
        "chosen": posterior.figures["chosen"],
        "calibrated": found.calibrated,
        "inside": {name: found.inside(name) for name in found.ranks},
        "p_values": {name: found.p_value(name) for name in found.ranks},
        "shares": {name: [float(found.curve(name)[i]) for i in at] for name in found.ranks},
        "seconds": time.process_time() - begun,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each task and seed."""
    lines = [
        "## Coverage",
        "",
        f"The default at {BUDGET:,} given simulations (amortised, so without rounds), at new draws of the prior:",
        "the truth's rank among draws, by density, by distance to a random point (TARP) and of each parameter, inside",
        "bands that a right posterior leaves with probability 1 % anywhere (`ii.diagnose.expected_coverage`).",
        "",
        "| task | seed | learned | truths | curves inside | smallest p-value | density: 50, 80, 95 % | TARP | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (TASKS.index(row["task"]), row["seed"])):
        name = min(row["p_values"], key=row["p_values"].__getitem__)
        density, tarp = (", ".join(f"{share:.2f}" for share in row["shares"].get(key, [])) for key in ("hpd", "tarp"))
        lines.append(
            f"| {row['task']} | {row['seed']} | {row['chosen']} | {row['truths']} "
            f"| {sum(row['inside'].values())} of {len(row['inside'])} | {row['p_values'][name]:.3f} ({name}) "
            f"| {density or '-'} | {tarp} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)
