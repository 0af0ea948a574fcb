"""Kernels on disk: found by the next process, never taken for others, and done without where the disk fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import njit

import implicit_simulators
from implicit_simulators.engines.kernel_cache import CachedKernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def kernel_of(function: Callable, *others: object) -> CachedKernel:
    """A small loop around ``function``, whose own source is always the same."""
    inner = njit(function)

    def loop(x):
        for i in range(len(x)):
            x[i] = inner(x[i])

    return CachedKernel(njit(nogil=True)(loop), (function, others), "a test")


def run(kernel: CachedKernel, dtype=np.float64) -> list[float]:
    x = np.array([1.0, 2.0], dtype)
    kernel(x)
    return x.tolist()


def times(factor: float) -> Callable:
    return lambda x: factor * x


def double(x):
    return 2.0 * x


def test_a_kernel_is_compiled_once_and_then_found(folder: Path) -> None:
    first = kernel_of(double)
    assert run(first) == run(first) == [2, 4]
    assert (first.compiled, first.seconds > 0) == (1, True)
    second = kernel_of(double)
    assert run(second) == [2, 4]
    assert second.compiled == 0


def test_the_log_says_what_was_compiled_and_where_it_is_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(kernel_of(double))
        run(kernel_of(double))
    (message,) = [r.getMessage() for r in caplog.records if r.name == "implicit_simulators.engines.kernel_cache"]
    assert message.startswith("compiled a test in ")
    assert str(folder) in message


def test_prepare_says_how_long_it_took_and_takes_nothing_twice(folder: Path) -> None:
    kernel, x = kernel_of(double), np.ones(3)
    assert kernel.prepare(x) > 0
    assert kernel.prepare(x) == 0
    assert x.tolist() == [1, 1, 1]
    assert kernel.seconds > 0


def test_every_type_of_argument_has_its_own_code(folder: Path) -> None:
    for turn in (2, 0):
        kernel = kernel_of(double)
        assert run(kernel) == run(kernel, np.float32) == [2, 4]
        assert kernel.compiled == turn


def test_functions_of_the_same_source_with_other_constants_do_not_share(folder: Path) -> None:
    assert [run(kernel_of(times(factor)))[0] for factor in (2.0, 3.0, 2.0, 4.0)] == [2, 3, 2, 4]
    again = kernel_of(times(3.0))
    assert run(again) == [3, 6]
    assert again.compiled == 0


def test_a_changed_function_is_compiled_anew(folder: Path) -> None:
    """Its code, its defaults or a global it reads, under the same name in the same place."""

    def made(source: str, factor: float = 2.0) -> Callable:
        names: dict = {"FACTOR": factor, "__name__": __name__}
        exec(source, names)
        return names["function"]

    variants = [
        ("def function(x):\n    return x + FACTOR", 2.0, 3),
        ("def function(x):\n    return x + FACTOR", 5.0, 6),
        ("def function(x):\n    return x - FACTOR", 2.0, -1),
        ("def function(x, y=4.0):\n    return x + y", 2.0, 5),
        ("def function(x, y=7.0):\n    return x + y", 2.0, 8),
    ]
    for source, factor, expected in variants:
        kernel = kernel_of(made(source, factor))
        assert run(kernel)[0] == expected
        assert kernel.compiled == 1
    same = kernel_of(made("# a comment\ndef function(x):\n\n    return x + FACTOR"))
    assert run(same)[0] == 3
    assert same.compiled == 0


def test_functions_made_within_a_package_do_not_share_either(folder: Path) -> None:
    """An installed function is known by its name elsewhere; here its closure would be another's."""
    for owner in ("implicit_simulators.engines.steps", "numpy.linalg"):
        results = []
        for factor in (2.0, 3.0):
            function = times(factor)
            function.__module__ = owner
            results.append(run(kernel_of(function))[0])
        assert results == [2, 3]


def test_what_else_it_is_made_from_tells_kernels_apart(folder: Path) -> None:
    kernels = [kernel_of(double, *others) for others in ((), (1,), (1.0,), ("a",), ((1, 2),), ((2, 1),))]
    for kernel in kernels:
        run(kernel)
    assert [kernel.compiled for kernel in kernels] == [1] * len(kernels)


def test_threads_that_come_together_compile_once(folder: Path) -> None:
    kernel, barrier = kernel_of(double), threading.Barrier(4, timeout=30)

    def meet(_: int) -> list[float]:
        barrier.wait()
        return run(kernel)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(meet, range(4))) == [[2, 4]] * 4
    assert kernel.compiled == 1


@pytest.mark.parametrize("damage", [b"", b"not a pickle", None], ids=["empty", "rubbish", "cut"])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_file_is_replaced(folder: Path, kind: str, damage: bytes | None) -> None:
    run(kernel_of(double))
    (path,) = folder.rglob(f"*.{kind}")
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    second, third = kernel_of(double), kernel_of(double)
    assert run(second) == run(third) == [2, 4]
    assert (second.compiled, third.compiled) == (1, 0)


def test_a_file_that_is_gone_is_made_again(folder: Path) -> None:
    run(kernel_of(double))
    (path,) = folder.rglob("*.nbc")
    path.unlink()
    second = kernel_of(double)
    assert run(second) == [2, 4]
    assert second.compiled == 1


def test_a_disk_that_is_full_or_not_ours_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", refuse)
    kernel = kernel_of(double)
    assert run(kernel) == [2, 4]
    assert kernel.compiled == 1


def test_where_no_folder_can_be_written_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    with caplog.at_level(logging.INFO):
        kernel = kernel_of(double)
        assert run(kernel) == [2, 4]
    assert kernel.compiled == 1
    assert "not kept on disk" in caplog.text


SCRIPT = """
import json, multiprocessing
import numpy as np
from implicit_simulators.engines.steps import step_process

scale = 0.5

def step(x, a, z):
    return (scale * x + a * z,)

def child(pipe):
    pipe.send(run(1))

def run(threads):
    return process(np.ones((1000, 1)), np.ones((1000, 1)), 3, key=1, threads=threads).sum(axis=0)[:, 0].tolist()

process = step_process(step, states=1)
told = {"threads": run(2), "compiled": process._kernel.compiled}
ours, theirs = multiprocessing.Pipe()
forked = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
forked.start()
told["forked"] = ours.recv() if ours.poll(60) else None
forked.join(60)
told["exit"] = forked.exitcode
print(json.dumps(told))
"""


def in_a_new_process(tmp_path: Path) -> dict:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(implicit_simulators.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_next_process_loads_and_a_forked_child_runs_what_threads_have_run(tmp_path: Path) -> None:
    """Never OpenMP, after which a forked child hangs."""
    first, second = (in_a_new_process(tmp_path) for _ in range(2))
    assert (first["compiled"], second["compiled"]) == (1, 0)
    assert first == {**second, "compiled": 1}
    assert first["forked"] == first["threads"]
    assert first["exit"] == 0
