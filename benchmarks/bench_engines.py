"""The compiled engines beside what else does the same work: C, numba, NumPy, torch and gillespy2, in turns, in one run.

``python benchmarks/bench_engines.py`` prints a table for each model: median CPU time of a unit of work (an event, a
step, a draw), the range over rounds, and the median of the ratios to the first line, which are what carries over to
another machine.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from implicit_simulators import LotkaVolterra
from implicit_simulators.engines.jump import jump_process
from implicit_simulators.engines.steps import StepProcess, step_process

REPEATS = 7
Work = Callable[[], int]
"""Does the work once and says how many units it was."""

# --- exact predators and prey (Papamakarios & Murray 2016): about 6,000 events a trajectory, with a tail up to the cap

RATES, START, TIMES, CAP = (0.01, 0.5, 1.0, 0.01), (50.0, 100.0), np.linspace(0, 30, 151), 100_000
CHANGES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])


def predation(x: float, y: float, a: float, b: float, c: float, d: float) -> tuple[float, ...]:
    """Predator birth and death, prey birth and death."""
    return a * x * y, b * x, c * y, d * x * y


def jumps(rows: int, threads: int = 1) -> Work:
    """The jump engine, on a network that a user wrote."""
    process = jump_process(predation, CHANGES)
    parameters, initial = np.tile(RATES, (rows, 1)), np.tile(START, (rows, 1))

    def run() -> int:
        return int(process(parameters, initial, TIMES, key=0, max_events=CAP, threads=threads)[1].sum())

    return run


def scalar_jumps(rows: int) -> Work:
    """What one writes with numba: the textbook loop, a row at a time, with numba's own generator."""
    import numba

    rates = numba.njit(predation)

    @numba.njit(error_model="numpy")
    def gillespie(n: int, times: Any, out: Any) -> int:
        events = 0
        for i in range(n):
            (x, y), t, k, e = START, 0.0, 0, 0
            while k < len(times):
                h = rates(x, y, *RATES)
                total = h[0] + h[1] + h[2] + h[3]
                if total == 0.0 or e >= CAP:
                    out[i, k:] = np.nan if total > 0.0 else 0.0
                    break
                t -= math.log(1.0 - np.random.random()) / total  # noqa: NPY002 - numba's generator
                while k < len(times) and times[k] < t:
                    out[i, k, 0], out[i, k, 1] = x, y
                    k += 1
                pick, r = np.random.random() * total, 0  # noqa: NPY002 - as above
                while r < 3 and pick >= h[r]:
                    pick -= h[r]
                    r += 1
                x, y, e = x + CHANGES[r, 0], y + CHANGES[r, 1], e + 1
            events += e
        return events

    out = np.empty((rows, len(TIMES), 2))
    return lambda: gillespie(rows, TIMES, out)


def python_jumps(rows: int) -> Work:
    """The same loop in plain Python, which is quicker here than NumPy on small arrays."""
    a, b, c, d = RATES

    def run() -> int:
        events = 0
        for _ in range(rows):
            (x, y), t, k, e = START, 0.0, 0, 0
            recorded = []
            while k < len(TIMES) and e < CAP:
                h0, h1, h2, h3 = a * x * y, b * x, c * y, d * x * y
                total = h0 + h1 + h2 + h3
                if total == 0:
                    break
                t += random.expovariate(total)
                while k < len(TIMES) and TIMES[k] < t:
                    recorded.append((x, y))
                    k += 1
                pick = random.random() * total
                if pick < h0:
                    x += 1
                elif pick < h0 + h1:
                    x -= 1
                elif pick < h0 + h1 + h2:
                    y += 1
                else:
                    y -= 1
                e += 1
            events += e
        return events

    return run


def numpy_jumps(rows: int) -> Work:
    """All rows an event at a time, with masks, as batched simulators of Python packages do."""

    def run() -> int:
        rng = np.random.default_rng(0)
        x, t = np.tile(START, (rows, 1)), np.zeros(rows)
        place, events = np.zeros(rows, dtype=int), 0
        alive = np.arange(rows)
        out = np.empty((rows, len(TIMES), 2))
        for _ in range(CAP):
            h = np.stack(predation(x[alive, 0], x[alive, 1], *RATES), 1)
            total = h.sum(1)
            alive, h, total = alive[total > 0], h[total > 0], total[total > 0]
            t[alive] += rng.exponential(1 / total)
            while (due := TIMES[place[alive]] < t[alive]).any():
                rows_due = alive[due]
                out[rows_due, place[rows_due]] = x[rows_due]
                place[rows_due] += 1
                going = place[alive] < len(TIMES)
                alive, h, total = alive[going], h[going], total[going]
            if not len(alive):
                break
            reaction = (rng.random(len(alive)) * total > h.cumsum(1).T).sum(0).clip(max=3)
            x[alive] += CHANGES[reaction]
            events += len(alive)
        return events

    return run


def gillespy(rows: int) -> Work | None:
    """Gillespy2's C++ solver, to t = 10: at t = 30, with no cap on events, exploding prey keep it for minutes."""
    try:
        import gillespy2
    except ImportError:
        return None
    model = gillespy2.Model(name="predation")
    names = "abcd"
    model.add_parameter([gillespy2.Parameter(name=k, expression=v) for k, v in zip(names, RATES, strict=True)])
    x, y = (gillespy2.Species(name=k, initial_value=int(v)) for k, v in zip("XY", START, strict=True))
    model.add_species([x, y])
    model.add_reaction(
        [
            gillespy2.Reaction(name="r0", reactants={x: 1, y: 1}, products={x: 2, y: 1}, rate=model.get_parameter("a")),
            gillespy2.Reaction(name="r1", reactants={x: 1}, products={}, rate=model.get_parameter("b")),
            gillespy2.Reaction(name="r2", reactants={y: 1}, products={y: 2}, rate=model.get_parameter("c")),
            gillespy2.Reaction(name="r3", reactants={x: 1, y: 1}, products={x: 1}, rate=model.get_parameter("d")),
        ]
    )
    model.timespan(gillespy2.TimeSpan.linspace(t=10, num_points=51))
    # it builds with the interpreter behind the environment's link, which does not see the environment's packages
    os.environ["PYTHONPATH"] = os.pathsep.join((sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")))
    solver = gillespy2.SSACSolver(model=model)
    process = jump_process(predation, CHANGES)
    _, events = process(np.tile(RATES, (2000, 1)), np.tile(START, (2000, 1)), np.linspace(0, 10, 51), 1, CAP)
    expected = int(events.mean() * rows)  # the solver does not count its events

    def run() -> int:
        model.run(solver=solver, number_of_trajectories=rows, seed=1)
        return expected

    return run


# --- models that move step by step


def reversion(x: float, k: float, m: float, g: float, z: float) -> tuple[float, ...]:
    """Ornstein-Uhlenbeck by Euler's method, steps of 0.01."""
    return (x + 0.01 * k * (m - x) + 0.1 * g * z,)


def langevin(x: float, y: float, a: float, b: float, c: float, z1: float, z2: float) -> tuple[float, ...]:
    """Predators and prey by the chemical Langevin equation with two sources of noise, steps of 0.01."""
    h1, h2, h3 = a * x, b * x * y, c * y
    l11 = math.sqrt(h1 + h2 + 1e-12)
    l21 = -h2 / l11
    l22 = math.sqrt(max(h2 + h3 - l21 * l21, 0.0))
    return max(x + 0.01 * (h1 - h2) + 0.1 * l11 * z1, 0.0), max(y + 0.01 * (h2 - h3) + 0.1 * (l21 * z1 + l22 * z2), 0.0)


def g_and_k(x: float, a: float, b: float, g: float, k: float, z: float) -> tuple[float, ...]:
    """One draw."""
    skew = 1 + 0.8 * (1 - 2 / (1 + math.exp(g * z)))
    return (a + b * skew * math.exp(k * math.log(1 + z * z)) * z,)


def queue(
    arrived: float, left: float, gap: float, low: float, width: float, mean: float, u: float, e: float
) -> tuple[float, ...]:
    """One customer of an M/G/1 queue."""
    arrived = arrived + mean * e
    leaves = max(arrived, left) + low + width * u
    return arrived, leaves, leaves - left


def ricker(n: float, r: float, sigma: float, phi: float, z: float) -> tuple[float, ...]:
    """One year of Ricker's map."""
    return (n * math.exp(r - n + sigma * z),)


def catch(n: float, r: float, sigma: float, phi: float) -> tuple[float, ...]:
    """The expected count."""
    return (phi * n,)


def steps(
    process: StepProcess, theta: tuple[float, ...], start: tuple[float, ...], rows: int, count: int, every: int = 1
) -> Work:
    """The step engine, on a step that a user wrote."""
    parameters, initial = np.tile(theta, (rows, 1)), np.tile(start, (rows, 1))

    def run() -> int:
        process(parameters, initial, count, key=1, every=every)
        return rows * count

    return run


def in_c(name: str, rows: int, count: int, record: int, *arguments: float) -> Work | None:
    """The scalar loop in C."""
    library = _library()
    if library is None:
        return None
    out = np.empty(rows * record, dtype=np.float32)
    function = getattr(library, name)
    function.restype = None
    numbers = [ctypes.c_double(argument) for argument in arguments]
    size, length, place = ctypes.c_int64(rows), ctypes.c_int64(count), ctypes.c_void_p(out.ctypes.data)

    def run() -> int:
        function(size, length, *numbers, place)
        assert len(out)  # kept alive: the place is its
        return rows * count

    return run


def jumps_in_c(rows: int) -> Work | None:
    """The scalar jump process in C."""
    library = _library()
    if library is None:
        return None
    out = np.empty((rows, len(TIMES), 2), dtype=np.float32)
    rates = np.array(RATES)
    library.predation.restype = ctypes.c_int64

    def run() -> int:
        return int(
            library.predation(
                ctypes.c_int64(rows),
                ctypes.c_void_p(rates.ctypes.data),
                ctypes.c_double(0.2),
                ctypes.c_int64(len(TIMES)),
                ctypes.c_int64(CAP),
                ctypes.c_void_p(out.ctypes.data),
            )
        )

    return run


_LIBRARY: list[Any] = []


def _library() -> Any:
    """``peers/scalar.c``, built by the C compiler there is; None without one."""
    if not _LIBRARY:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            _LIBRARY.append(None)
        else:
            folder = tempfile.mkdtemp()
            target = Path(folder) / "scalar.so"
            source = Path(__file__).parent / "peers" / "scalar.c"
            subprocess.run(
                [compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(target), "-lm"],
                check=True,
            )
            library = ctypes.CDLL(str(target))
            library.seed(ctypes.c_uint64(1))
            _LIBRARY.append(library)
    return _LIBRARY[0]


def batched(kind: str, model: str, rows: int, count: int) -> Work:
    """One step of all rows at a time, by NumPy (float64) or torch (float32), as one writes it."""
    function: Callable[[Any, int, int], None] = _NUMPY[model] if kind == "numpy" else _TORCH[model]

    def run() -> int:
        if kind == "numpy":
            function(np.random.default_rng(0), rows, count)
        else:
            with torch.no_grad():
                function(torch.Generator().manual_seed(0), rows, count)
        return rows * count

    return run


def _numpy_ou(rng: np.random.Generator, rows: int, count: int) -> None:
    x, out = np.zeros(rows), np.empty((rows, count // 10), dtype=np.float32)
    for t in range(count):
        x = x + 0.01 * (0.5 - x) + 0.03 * rng.standard_normal(rows)
        if t % 10 == 9:
            out[:, t // 10] = x


def _numpy_langevin(rng: np.random.Generator, rows: int, count: int) -> None:
    x, y, out = np.full(rows, 50.0), np.full(rows, 100.0), np.empty((rows, count // 10, 2), dtype=np.float32)
    for t in range(count):
        z1, z2 = rng.standard_normal((2, rows))
        h1, h2, h3 = 1.0 * x, 0.01 * x * y, 0.6 * y
        l11 = np.sqrt(h1 + h2 + 1e-12)
        l21 = -h2 / l11
        l22 = np.sqrt(np.maximum(h2 + h3 - l21 * l21, 0))
        x = np.maximum(x + 0.01 * (h1 - h2) + 0.1 * l11 * z1, 0)
        y = np.maximum(y + 0.01 * (h2 - h3) + 0.1 * (l21 * z1 + l22 * z2), 0)
        if t % 10 == 9:
            out[:, t // 10, 0], out[:, t // 10, 1] = x, y


def _numpy_g_and_k(rng: np.random.Generator, rows: int, count: int) -> None:
    z = rng.standard_normal((rows, count))
    (3 + 1 * (1 + 0.8 * np.tanh(z)) * (1 + z * z) ** 0.5 * z).astype(np.float32)


def _numpy_queue(rng: np.random.Generator, rows: int, count: int) -> None:
    service, arrival = rng.uniform(1, 5, (rows, count)), rng.exponential(5, (rows, count)).cumsum(1)
    out, left = np.empty((rows, count), dtype=np.float32), np.zeros(rows)
    for t in range(count):
        leaves = np.maximum(arrival[:, t], left) + service[:, t]
        out[:, t], left = leaves - left, leaves


def _numpy_ricker(rng: np.random.Generator, rows: int, count: int) -> None:
    n, out = np.ones(rows), np.empty((rows, count), dtype=np.float32)
    for t in range(count):
        n = n * np.exp(3.8 - n + 0.3 * rng.standard_normal(rows))
        out[:, t] = rng.poisson(10 * n)


def _torch_ou(generator: torch.Generator, rows: int, count: int) -> None:
    x, out = torch.zeros(rows), torch.empty(rows, count // 10)
    for t in range(count):
        x = x + 0.01 * (0.5 - x) + 0.03 * torch.randn(rows, generator=generator)
        if t % 10 == 9:
            out[:, t // 10] = x


def _torch_langevin(generator: torch.Generator, rows: int, count: int) -> None:
    x, y, out = torch.full((rows,), 50.0), torch.full((rows,), 100.0), torch.empty(rows, count // 10, 2)
    for t in range(count):
        z1, z2 = torch.randn(2, rows, generator=generator)
        h1, h2, h3 = 1.0 * x, 0.01 * x * y, 0.6 * y
        l11 = torch.sqrt(h1 + h2 + 1e-12)
        l21 = -h2 / l11
        l22 = torch.sqrt((h2 + h3 - l21 * l21).clamp_min(0))
        x = (x + 0.01 * (h1 - h2) + 0.1 * l11 * z1).clamp_min(0)
        y = (y + 0.01 * (h2 - h3) + 0.1 * (l21 * z1 + l22 * z2)).clamp_min(0)
        if t % 10 == 9:
            out[:, t // 10, 0], out[:, t // 10, 1] = x, y


def _torch_g_and_k(generator: torch.Generator, rows: int, count: int) -> None:
    z = torch.randn(rows, count, generator=generator)
    3 + 1 * (1 + 0.8 * torch.tanh(z)) * (1 + z * z) ** 0.5 * z


def _torch_queue(generator: torch.Generator, rows: int, count: int) -> None:
    service = 1 + 4 * torch.rand(rows, count, generator=generator)
    arrival = (-5 * torch.log1p(-torch.rand(rows, count, generator=generator))).cumsum(1)
    out, left = torch.empty(rows, count), torch.zeros(rows)
    for t in range(count):
        leaves = torch.maximum(arrival[:, t], left) + service[:, t]
        out[:, t], left = leaves - left, leaves


def _torch_ricker(generator: torch.Generator, rows: int, count: int) -> None:
    n, out = torch.ones(rows), torch.empty(rows, count)
    for t in range(count):
        n = n * torch.exp(3.8 - n + 0.3 * torch.randn(rows, generator=generator))
        out[:, t] = torch.poisson(10 * n, generator=generator)


_NUMPY = {
    "ou": _numpy_ou,
    "langevin": _numpy_langevin,
    "g-and-k": _numpy_g_and_k,
    "queue": _numpy_queue,
    "ricker": _numpy_ricker,
}
_TORCH = {
    "ou": _torch_ou,
    "langevin": _torch_langevin,
    "g-and-k": _torch_g_and_k,
    "queue": _torch_queue,
    "ricker": _torch_ricker,
}

ROWS = 9984
"""Rows of the step models: 156 times 64."""


def models() -> dict[str, dict[str, Work | None]]:
    """Every table, and what stands in it."""
    kinds = ("uniform", "exponential")
    return {
        "Exact predators and prey, ns an event": {
            "jump engine (a user's network)": jumps(6000),
            "C, a row at a time": jumps_in_c(2000),
            "numba, a row at a time": scalar_jumps(1000),
            "NumPy, 1,000 rows at a time": numpy_jumps(1000),
            "plain Python": python_jumps(10),
            "gillespy2's C++ (to t = 10)": gillespy(1000),
        },
        "Ornstein-Uhlenbeck by Euler's method, ns a step": {
            "step engine (a user's step)": steps(
                step_process(reversion, states=1), (1, 0.5, 0.3), (0,), ROWS, 1000, 10
            ),
            "C, a row at a time": in_c("reversion", 1000, 1000, 100, 1, 0.5, 0.3),
            "torch, float32": batched("torch", "ou", ROWS, 1000),
            "NumPy": batched("numpy", "ou", ROWS, 1000),
        },
        "Chemical Langevin equation, ns a step": {
            "step engine (a user's step)": steps(
                step_process(langevin, states=2, noise=("normal", "normal")), (1, 0.01, 0.6), (50, 100), ROWS, 1000, 10
            ),
            "C, a row at a time": in_c("langevin", 1000, 1000, 200, 1, 0.01, 0.6),
            "torch, float32": batched("torch", "langevin", ROWS, 200),
            "NumPy": batched("numpy", "langevin", ROWS, 200),
        },
        "g-and-k, ns a draw": {
            "step engine (a user's step)": steps(step_process(g_and_k, states=1), (3, 1, 2, 0.5), (0,), ROWS, 100),
            "C, a row at a time": in_c("g_and_k", 2000, 100, 100, 3, 1, 2, 0.5),
            "torch, float32": batched("torch", "g-and-k", ROWS, 100),
            "NumPy": batched("numpy", "g-and-k", ROWS, 100),
        },
        "M/G/1 queue, ns a customer": {
            "step engine (a user's step)": steps(
                step_process(queue, states=3, noise=kinds, record=(2,)), (1, 4, 5), (0, 0, 0), ROWS, 50
            ),
            "C, a row at a time": in_c("queue", 4000, 50, 50, 1, 4, 5),
            "torch, float32": batched("torch", "queue", ROWS, 50),
            "NumPy": batched("numpy", "queue", ROWS, 50),
        },
        "Ricker's map with Poisson counts, ns a step": {
            "step engine (a user's step)": steps(
                step_process(ricker, states=1, emit=catch, counts=True), (3.8, 0.3, 10), (1,), ROWS, 50
            ),
            "C, a row at a time": in_c("ricker", 2000, 50, 50, 3.8, 0.3, 10),
            "torch, float32": batched("torch", "ricker", ROWS, 50),
            "NumPy": batched("numpy", "ricker", ROWS, 50),
        },
    }


def populations() -> None:
    """Exact jumps and leaps over twenty years, at the posterior mean of the pelts, as individuals become more."""
    print("\n| individuals per thousand pelts, ms a row | jump | tau |\n| --- | --- | --- |")
    theta = torch.tensor([[0.55, 0.028, 0.8, 0.024, 34.0, 5.9, 0.29, 0.29]])
    for size, rows in ((10, 400), (100, 100), (1_000, 40), (10_000, 8)):
        costs = []
        for dynamics in ("jump", "tau"):
            simulator = LotkaVolterra(dynamics, system_size=float(size), max_events=10**9)
            simulator.simulate(theta, seed=0)  # compiles
            times = []
            for repeat in range(3):
                begun = cpu_seconds()
                simulator.simulate(theta.repeat(rows, 1), seed=repeat)
                times.append((cpu_seconds() - begun) / rows * 1e3)
            costs.append(statistics.median(times))
        print(f"| {size:,} | {costs[0]:.3g} | {costs[1]:.3g} |", flush=True)


def cpu_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def in_turns(entries: dict[str, Work], clock: Callable[[], float]) -> dict[str, list[float]]:
    """Nanoseconds a unit of each, over rounds that take all in turn."""
    for work in entries.values():
        work()  # compiles
    costs: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(REPEATS):
        for name, work in entries.items():
            begun = clock()
            units = work()
            costs[name].append((clock() - begun) / units * 1e9)
    return costs


def show(title: str, costs: dict[str, list[float]]) -> None:
    """Print one table."""
    first = next(iter(costs.values()))
    print(f"\n| {title} | median | range | times the first |\n| --- | --- | --- | --- |")
    for name, cost in costs.items():
        ratio = statistics.median(c / f for c, f in zip(cost, first, strict=True))
        print(
            f"| {name} | {statistics.median(cost):,.1f} | {min(cost):,.1f}-{max(cost):,.1f} | {ratio:.1f} |", flush=True
        )


def compile_times() -> None:
    """Seconds that a new process takes to its first result, with nothing on disk and with the kernel kept there."""
    code = (
        "import time; begun = time.perf_counter()\n"
        "import numba\n"
        "from benchmarks.bench_engines import jumps, steps, step_process, langevin\n"
        "began = time.perf_counter()\n"
        "jumps(1)(); a = time.perf_counter()\n"
        "steps(step_process(langevin, states=2, noise=('normal', 'normal')), (1, 0.01, 0.6), (50, 100), 64, 10)()\n"
        "print(a - began, time.perf_counter() - a)"
    )
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "PYTHONPATH": str(root)}
        print("\n| First result of a new process, s | jump engine | step engine |\n| --- | --- | --- |")
        for state in ("nothing on disk", "kernels on disk"):
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
            )
            jump, step = done.stdout.split()
            print(f"| {state} | {float(jump):.1f} | {float(step):.1f} |")


def main() -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    for title, entries in models().items():
        there = {name: work for name, work in entries.items() if work is not None}
        show(title, in_turns(there, cpu_seconds))
        for name in entries.keys() - there.keys():
            print(f"(not measured: {name}, which is not installed)")
    wall = in_turns({"one thread": jumps(16_000), "two threads": jumps(16_000, threads=2)}, time.perf_counter)
    show("Jump engine, wall ns an event", {name: wall[name] for name in ("two threads", "one thread")})
    populations()
    compile_times()


if __name__ == "__main__":
    main()
