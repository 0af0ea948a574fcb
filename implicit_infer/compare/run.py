"""One run of a comparison, from the question to its folder; whatever goes wrong in it stays in its folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from implicit_infer.compare.folder import ABSENT, FAILED, FINISHED, Folder, write_json
from implicit_infer.compare.plan import REFERENCE, Plan, Run
from implicit_infer.draws import write_draws
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.method import Question
from implicit_infer.posteriors.reference import reference_posterior
from implicit_infer.runs import Runs

REFERENCE_DRAWS = 2000
"""Draws of the reference, of which as many as a method's are scored: those of a chain are not independent."""

DISTRIBUTIONS = ("implicit-infer", "torch", "numpy", "scipy", "scikit-learn", "numba", "pyro-ppl", "sbi", "zuko")
"""What a run records the versions of."""


@dataclass(frozen=True)
class Bank:
    """Prior simulations that methods share, and the seconds that making them took."""

    runs: Runs
    seconds: float


@dataclass(frozen=True)
class SharedRuns(Runs):
    """The bank as one run sees it: it notices how much is used, so that its time is charged to those who use it.

    Attributes:
        uses: How many rows were asked for, each time.
    """

    uses: list[int] = field(default_factory=list)

    def first(self, n: int) -> Runs:
        """The first ``n`` rows."""
        self.uses.append(n)
        return super().first(n)


@dataclass(frozen=True)
class Answer:
    r"""What a run leaves behind.

    Attributes:
        theta: Posterior draws, with shape (n, d).
        predictive: Simulations at some of them, with shape (m, \*event_shape), or None.
        about: The rest: times, simulations, figures and warnings (JSON-able).
    """

    theta: Tensor
    predictive: Tensor | None
    about: dict[str, Any]


def answer(plan: Plan, run: Run, bank: Bank) -> Answer:
    """What one method says at one budget, once."""
    common = SharedRuns(bank.runs.theta, bank.runs.x, bank.runs.seed, bank.runs.errors)
    question = Question(
        simulator=plan.simulator,
        observed=plan.observed,
        budget=run.budget,
        seed=plan.seed_of(run.repeat, "train"),
        device=plan.device,
        workers=1,
        progress=False,
        bank=common,
    )
    with _stopwatch() as inference:
        posterior = plan.methods[run.label].infer(question)
    with _stopwatch() as sampling:
        theta = posterior.sample((plan.draws,), seed=plan.seed_of(run.repeat, "sample"))
    theta = _check_draws(theta, (plan.draws, plan.simulator.dim))
    simulation = bank.seconds * max(common.uses, default=0) / len(common)
    warned = list(posterior.warnings)
    if posterior.simulations > run.budget:
        warned.append(f"spent {posterior.simulations} simulations, more than its budget of {run.budget}")
    about = {
        "simulations": posterior.simulations,
        "wall_s": simulation + inference["wall"] + sampling["wall"],
        "cpu_s": inference["cpu"] + sampling["cpu"],
        "seconds": {"simulation": simulation, "inference": inference["wall"], "sampling": sampling["wall"]},
        "figures": posterior.figures,
        "warnings": warned,
    }
    return Answer(theta, _simulated_again(plan, theta, plan.seed_of(run.repeat, "simulate")), about)


def refer(plan: Plan) -> Answer | None:
    """Draws from the true posterior, given or the simulator's own; None where nothing exact is known."""
    with _stopwatch() as clock:
        if isinstance(plan.reference, Tensor):
            theta = plan.reference
            about: dict[str, Any] = {"method": "given", "figures": {}, "warnings": []}
        else:
            posterior = reference_posterior(
                plan.simulator,
                plan.observed,
                seed=plan.seed_of(0, "observe"),
                draws=max(plan.draws, REFERENCE_DRAWS),
                progress=False,
            )
            if posterior is None:
                return None
            theta = posterior.sample((max(plan.draws, REFERENCE_DRAWS),), seed=plan.seed_of(0, "sample"))
            about = {"method": posterior.method, "figures": posterior.figures, "warnings": posterior.warnings}
    theta = _check_draws(theta, (len(theta), plan.simulator.dim))
    about |= {"wall_s": clock["wall"], "cpu_s": clock["cpu"], "digest": digest(theta)}
    return Answer(theta, _simulated_again(plan, theta, plan.seed_of(0, "simulate")), about)


def record(
    folder: Folder,
    plan: Plan,
    run: Run | None,
    work: Callable[[], Answer | None],
    wanted: Callable[[], bool] = lambda: True,
) -> str:
    """Do the work of a run (None: of the reference) and publish what came of it, a failure included.

    Args:
        folder: Where to.
        plan: What the run is part of.
        run: Which run.
        work: The work.
        wanted: Asked before publishing; a worker whose parent died keeps its hands off.

    Returns:
        The run's status.
    """
    name = REFERENCE if run is None else run.name
    about: dict[str, Any] = {"status": FINISHED, "error": None, **description(plan, run)}
    draft = folder.draft(name)
    try:
        with _captured(draft / "output.txt"):
            try:
                made = work()
                if made is None:
                    about["status"] = ABSENT
                else:
                    about |= made.about
                    names = plan.simulator.parameter_names
                    write_draws(draft / "draws.zarr", made.theta, names, plan.observed, made.predictive)
            except Exception as error:
                about |= failure(error)
                (draft / "traceback.txt").write_text(traceback.format_exc())
        write_json(draft / "result.json", about)
        if wanted():
            folder.publish(draft, name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return str(about["status"])


def description(plan: Plan, run: Run | None) -> dict[str, Any]:
    """What is known of a run before it begins: what is asked, and with what."""
    common = {
        "seed": plan.seed,
        "device": plan.device,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    if run is None:
        given = isinstance(plan.reference, Tensor)
        return {"label": REFERENCE, "source": "given" if given else "auto", **common}
    method = plan.methods[run.label]
    return {
        "label": run.label,
        "budget": run.budget,
        "repeat": run.repeat,
        "method": method.name,
        "settings": method.settings(),
        **common,
    }


def failure(error: BaseException) -> dict[str, Any]:
    """The part of a result that says what went wrong, in one line."""
    lines = str(error).strip().splitlines() or [""]
    line = f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
    return {"status": FAILED, "error": line if len(line) <= 300 else f"{line[:297]}..."}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def digest(theta: Tensor) -> str:
    """Tells one set of draws from another."""
    return hashlib.sha256(theta.float().contiguous().numpy().tobytes()).hexdigest()


def _check_draws(theta: Tensor, shape: tuple[int, int]) -> Tensor:
    theta = theta.detach().float().cpu()
    if tuple(theta.shape) != shape:
        raise ValueError(f"the posterior gave draws of shape {tuple(theta.shape)}; {shape} were asked for")
    if not torch.isfinite(theta).all():
        bad = int((~torch.isfinite(theta)).any(1).sum())
        raise ValueError(f"{bad} of {len(theta)} posterior draws are not finite")
    return theta


def _simulated_again(plan: Plan, theta: Tensor, seed: int) -> Tensor | None:
    """New data at some of the draws, chosen at random since chains and populations have an order."""
    if plan.predictive == 0:
        return None
    order = torch.randperm(len(theta), generator=torch.Generator().manual_seed(seed))
    blocks = enumerate(theta[order[: plan.predictive]].split(plan.simulator.block))
    return torch.cat([block.x for block in run_blocks(plan.simulator, blocks, seed)]).float().cpu()


@contextlib.contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    clock: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield clock
    clock["wall"], clock["cpu"] = time.perf_counter() - wall, time.process_time() - cpu


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[None]:
    """Keep what libraries print and warn in a file: it would tear the progress display, and the report wants it."""
    with open(path, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        with warnings.catch_warnings(record=True) as caught:
            yield
        for text in dict.fromkeys(f"{warning.category.__name__}: {warning.message}" for warning in caught):
            file.write(f"{text}\n")
    if os.path.getsize(path) == 0:
        path.unlink()
