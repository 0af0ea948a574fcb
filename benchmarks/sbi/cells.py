"""One entry of the table: a method at a budget on observations of a task, held against the reference samples."""

from __future__ import annotations

import time
from typing import Any

METHODS: dict[str, str] = {
    "auto": "auto",
    "corrected": "corrected",
    "gatsbi": "gatsbi",
    "nle": "nle",
    "npe": "npe",
    "nre": "nre",
    "smc-abc": "smc-abc",
    "snle": "snle",
    "tsnpe": "tsnpe",
}
"""Methods by the label they have in the table; each at its defaults."""

DRAWS = 10_000
"""Draws of both, as in the paper."""


NARROW = ("benchmark-sir", "benchmark-lotka-volterra")
"""Tasks whose posteriors are so narrow that the paper's unscaled test may stop before it learns: scaled draws, too."""


def amortised(label: str) -> bool:
    """Whether one training serves all observations."""
    import implicit_infer as ii

    return bool(ii.methods()[METHODS[label]].amortised)


def measure(label: str, task: str, budget: int, observations: list[int]) -> list[dict[str, Any]]:
    """Infer, draw and score.

    The seed of everything is the number of the (first) observation. Times are of the process: of simulation and
    training together, of the draws, and on the clock.

    Args:
        label: A name in ``METHODS``.
        task: Name of the task's simulator.
        budget: Simulations that may be spent; for each observation where the method is not amortised.
        observations: Numbers of the observations: several only of an amortised method.

    Returns:
        A row for each observation.
    """
    import torch

    import implicit_infer as ii
    from implicit_infer.diagnose import c2st
    from implicit_simulators.benchmark.publication import published

    torch.set_num_threads(1)
    simulator = ii.simulators()[task]()
    simulator.prepare()
    clock, start = time.monotonic(), time.process_time()
    posterior = ii.infer(
        simulator, str(observations[0]), method=METHODS[label], budget=budget, seed=observations[0], progress=False
    )
    trained = time.process_time()
    rows = []
    for number in observations:
        truth = published(task, number)
        before = time.process_time()
        draws = posterior.sample((DRAWS,), truth.observation, seed=number)
        drawn = time.process_time()
        score = c2st(truth.reference_samples, draws, z_score=False)
        scaled = c2st(truth.reference_samples, draws, z_score=True).score if task in NARROW else None
        rows.append(
            {
                "method": label,
                "task": task,
                "budget": budget,
                "observation": number,
                "c2st": score.score,
                "scaled": scaled,
                "distinct": score.distinct[1],
                "simulations": posterior.simulations,
                "training": (trained - start) / len(observations),
                "sampling": drawn - before,
                "wall": time.monotonic() - clock,
                "chosen": str(posterior.figures.get("chosen", "")),
            }
        )
        clock = time.monotonic()
    return rows
