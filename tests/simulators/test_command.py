"""An external program as a simulator: rows in order, seeds repeated, every way to fail told with its reason."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from implicit_simulators import CommandSimulator
from implicit_simulators.adapters.printed import UnreadableError, from_csv, from_json
from implicit_simulators.failures import watching

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its programs are scripts of a POSIX shell")

PRIOR = ([0.0, 1.0], [1.0, 2.0])
NAMES = ["alpha", "beta"]
THETA = torch.tensor([[0.25, 1.5], [0.5, 1.0], [0.1, 2.0], [1.0, 1.25]])

ECHO = ["sh", "-c", 'echo "[$0, $1, $2]"', "{alpha}", "{beta}", "{seed}"]


def sh(script: str, **settings: Any) -> CommandSimulator:
    """A shell script that is given alpha, beta and the seed as $0, $1 and $2."""
    settings = {"parameter_names": NAMES, "event_shape": 1, **settings}
    return CommandSimulator(["sh", "-c", script, "{alpha}", "{beta}", "{seed}"], PRIOR, **settings)


def test_parameters_and_seeds_arrive_with_all_their_digits() -> None:
    simulator = CommandSimulator(ECHO, PRIOR, parameter_names=NAMES)
    assert simulator.event_shape == (3,)
    x = simulator.simulate(THETA.double() / 3, seed=1)
    assert x.dtype == torch.float64
    assert torch.equal(x[:, :2], THETA.double() / 3)
    assert ((x[:, 2] >= 0) & (x[:, 2] < 2**31) & (x[:, 2] % 1 == 0)).all()
    assert x[:, 2].unique().numel() == 4
    assert simulator.failed == 0


def test_the_same_seed_repeats_for_any_number_of_jobs_and_rows() -> None:
    one, many = (CommandSimulator(ECHO, PRIOR, parameter_names=NAMES, jobs=jobs) for jobs in (1, 3))
    x = one.simulate(THETA, seed=1)
    assert torch.equal(many.simulate(THETA, seed=1), x)
    assert torch.equal(one.simulate(THETA[:2], seed=1), x[:2])
    assert torch.equal(one.simulate(THETA.flip(0), seed=1)[:, 2], x[:, 2])
    assert not (one.simulate(THETA, seed=2)[:, 2] == x[:, 2]).any()


def test_rows_come_in_their_order_though_the_first_take_longest() -> None:
    simulator = sh("sleep $(echo \"$0\" | awk '{print 0.3 * $1}'); echo $0", jobs=4)
    began = time.monotonic()
    assert simulator.simulate(THETA.flip(0), seed=0)[:, 0].tolist() == pytest.approx([1.0, 0.1, 0.5, 0.25])
    assert time.monotonic() - began < 0.3 * 1.85 + 5  # they slept at the same time


def test_placeholders_take_formats_and_can_be_written_as_text() -> None:
    command = ["sh", "-c", 'echo "[${#0}, $1, $2]"', "{{alpha}}", "{alpha:.2f}", "{beta:.0f}"]
    x = CommandSimulator(command, PRIOR, parameter_names=NAMES).simulate([[1 / 3, 1.6]], seed=0)
    assert x.tolist() == [[7, pytest.approx(0.33), 2]]


def test_no_shell_reads_the_command() -> None:
    simulator = CommandSimulator(
        ["echo", "[{alpha}, {beta}, 3]", ";", "false"], PRIOR, parameter_names=NAMES, event_shape=3
    )
    simulator.simulate(THETA[:1], seed=0)
    assert "0.25, 1.5, 3] ; false" in simulator.failures[0].message


READER = """
import json, random, sys
given = json.load(sys.stdin)
random.seed(given["seed"])
print(json.dumps({"x": [given["alpha"], given["beta"], random.random()]}))
"""


def test_parameters_without_a_place_in_the_command_are_json_on_standard_input() -> None:
    simulator = CommandSimulator([sys.executable, "-c", READER], PRIOR, parameter_names=NAMES)
    x = simulator.simulate(THETA, seed=1)
    assert torch.equal(x[:, :2], THETA)
    assert x[:, 2].unique().numel() == 4
    assert torch.equal(simulator.simulate(THETA, seed=1), x)


def test_a_program_may_ignore_its_standard_input() -> None:
    assert CommandSimulator(["echo", "4"], PRIOR).simulate(THETA, seed=0).tolist() == [[4]] * 4


def test_a_program_may_write_a_file() -> None:
    command = ["sh", "-c", 'echo noise; echo "$0,$1" > "$2"', "{alpha}", "{beta}", "{output}"]
    simulator = CommandSimulator(command, PRIOR, parameter_names=NAMES, output="csv", jobs=2)
    assert torch.equal(simulator.simulate(THETA, seed=0), THETA)
    lazy = CommandSimulator(["true", "{output}"], PRIOR, event_shape=1)
    lazy.simulate(THETA[:1], seed=0)
    assert lazy.failures[0].message == "it left no file: No such file or directory"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_program_in_c(tmp_path: Path) -> None:
    """A random walk, whose end is normal with mean n * drift and variance n."""
    source = tmp_path / "walk.c"
    source.write_text(
        """
        #include <stdio.h>
        #include <stdlib.h>
        #include <math.h>
        int main(int argc, char **argv) {
            double drift = atof(argv[1]), place = 0;
            srand48(atoi(argv[2]));
            for (int i = 0; i < 100; i++)
                place += drift + sqrt(-2 * log(1 - drand48())) * cos(6.283185307179586 * drand48());
            printf("[%.17g]\\n", place);
            return 0;
        }
        """
    )
    program = tmp_path / "walk"
    subprocess.run(["cc", "-O2", "-o", program, source, "-lm"], check=True)
    simulator = CommandSimulator([program, "{drift}", "{seed}"], ([-1.0], [1.0]), parameter_names=["drift"], jobs=2)
    assert simulator.name == "walk"
    x = simulator.simulate(torch.full((400, 1), 0.5), seed=3)[:, 0]
    assert abs(float(x.mean()) - 50) < 5 * 10 / 400**0.5  # five standard errors
    assert abs(float(x.std()) / 10 - 1) < 5 / 800**0.5
    assert torch.equal(simulator.simulate(torch.full((400, 1), 0.5), seed=3)[:, 0], x)


# --- failures


FAILURES = {
    "status": ("echo one >&2; echo two >&2; exit 3", "exit status 3; stderr: one | two", 3),
    "many lines": ("seq 10000 >&2; exit 1", "exit status 1; stderr: 9998 | 9999 | 10000", 1),
    "signal": ("kill -9 $$", "killed by SIGKILL", -9),
    "nothing": ("true", "it printed no JSON (Expecting value at 0): nothing", 0),
    "words": ("echo hello", "it printed no JSON (Expecting value at 0): 'hello'", 0),
    "half": ("echo [1, 2", "it printed no JSON (Expecting ',' delimiter at 6): '[1, 2'", 0),
    "text": ("echo '\"1.5\"'", "it printed JSON that is no array of numbers: '\"1.5\"'", 0),
    "ragged": ("echo '[[1], [2, 3]]'", "it printed JSON that is no array of numbers: '[[1], [2, 3]]'", 0),
    "shape": ("echo '[1, 2]'", "expected shape (1,); it printed shape (2,)", 0),
    "reported": ("echo '{\"error\": \"no root\"}'", "it reported: no root", 0),
    "not UTF-8": ("printf '\\377'", "it printed no JSON (Expecting value at 0): '\N{REPLACEMENT CHARACTER}'", 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failing_run_loses_its_row_alone_and_says_why(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    script, message, status = FAILURES[kind]
    simulator = sh(f"if [ $0 = 0.5 ]; then {script}; else echo $0; fi")
    with caplog.at_level(logging.WARNING):
        x = simulator.simulate(THETA, seed=0)
    assert torch.isnan(x[:, 0]).tolist() == [False, True, False, False]
    assert torch.equal(x[[0, 2, 3], 0], THETA[[0, 2, 3], 0])
    (failure,) = simulator.failures
    assert failure.message == message
    assert failure.status == status
    assert failure.theta.tolist() == [0.5, 1.0]
    assert failure.seed is not None
    assert simulator.failed == 1
    assert simulator.take_failures() == {1: message}
    assert simulator.take_failures() == {}
    assert "sh: 1 of 4 rows failed; first: " in caplog.text


def test_the_end_of_standard_error_is_kept() -> None:
    simulator = sh("seq 10000 >&2; exit 1")
    simulator.simulate(THETA[:1], seed=0)
    assert simulator.failures[0].stderr.endswith("9999\n10000\n")
    assert len(simulator.failures[0].stderr) == 4000


def test_a_program_that_cannot_be_started_any_more_is_a_failure(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o755)
    simulator = CommandSimulator([program], PRIOR)
    program.unlink()
    assert simulator.simulate(THETA[:1], seed=0).isnan().all()
    assert "could not be started: [Errno 2]" in simulator.failures[0].message


def alive(number: int) -> bool:
    """Whether a process runs (one that has ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(number: int) -> bool:
    """Whether a process ends within five seconds."""
    deadline = time.monotonic() + 5
    while alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(number)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_takes_too_long_is_ended_with_all_that_it_started(jobs: int, tmp_path: Path) -> None:
    """The child holds the pipes, so that only its death lets the row end."""
    script = f"if [ $0 = 0.5 ]; then sleep 60 & echo $! > {tmp_path}/child; echo soon >&2; wait; else echo 1; fi"
    simulator = sh(script, timeout=0.5, jobs=jobs)
    began = time.monotonic()
    x = simulator.simulate(THETA, seed=0)
    assert time.monotonic() - began < 30
    assert torch.isnan(x[:, 0]).tolist() == [False, True, False, False]
    assert simulator.failures[0].message == "it took longer than 0.5 s; stderr: soon"
    assert simulator.failures[0].status is None
    assert ended(int((tmp_path / "child").read_text()))


@needs_proc
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("protocol", ["run", "lines"])
def test_an_interruption_ends_the_programs(jobs: int, protocol: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f"echo $$ > {tmp_path}/$$; sleep 60"]
    simulator = CommandSimulator(command, PRIOR, event_shape=1, protocol=protocol, jobs=jobs)

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) < jobs and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        simulator.simulate(THETA, seed=0)
    assert time.monotonic() - began < 30
    numbers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(numbers) == jobs
    assert all(ended(number) for number in numbers)


def test_whoever_limits_rows_limits_these() -> None:
    class Limit:
        def row(self, row: int) -> Any:
            return _Alarm()

    class _Alarm:
        def __enter__(self) -> None:
            def late(*_: Any) -> None:
                raise TimeoutError("took longer than a moment")

            self.before = signal.signal(signal.SIGALRM, late)
            signal.setitimer(signal.ITIMER_REAL, 0.3)

        def __exit__(self, *_: Any) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)

    simulator = sh("if [ $0 = 0.5 ]; then sleep 60; fi; echo 1")
    with watching(Limit()):
        x = simulator.simulate_block(THETA, 0, 0)
    assert torch.isnan(x[:, 0]).tolist() == [False, True, False, False]
    assert simulator.take_failures() == {1: "it took longer than a moment"}


# --- one process for many rows


SERVER = """
import json, os, random, sys, time
print("ready", file=sys.stderr, flush=True)
for line in sys.stdin:
    given = json.loads(line)
    alpha = given["alpha"]
    random.seed(given["seed"])
    print("at %.2f" % alpha, file=sys.stderr, flush=True)
    if alpha == 0.5:
        print(json.dumps({"error": "no root"}), flush=True)
    elif alpha == 0.75:
        sys.exit(5)
    elif alpha == 0.875:
        time.sleep(60)
    elif alpha == 0.625:
        print("Warning: slow\\n[1, 2]", flush=True)
    else:
        print(json.dumps([alpha, given["beta"], random.random(), os.getpid()]), flush=True)
"""


def server(**settings: Any) -> CommandSimulator:
    command = [sys.executable, "-c", SERVER]
    return CommandSimulator(command, PRIOR, parameter_names=NAMES, event_shape=4, protocol="lines", **settings)


def test_one_process_serves_a_block() -> None:
    simulator = server()
    theta = torch.rand((200, 2), generator=torch.Generator().manual_seed(0)) / 4
    x = simulator.simulate(theta, seed=0)
    assert torch.equal(x[:, :2], theta)
    assert x[:, 2].unique().numel() == 200
    assert x[:, 3].unique().numel() == 1
    assert torch.equal(server(jobs=3).simulate(theta, seed=0)[:, :3], x[:, :3])
    assert torch.equal(simulator.simulate(theta, seed=0)[:, :3], x[:, :3])
    assert ended(int(x[0, 3]))


def test_a_process_that_fails_a_row_is_started_again() -> None:
    simulator = server(timeout=2.0)
    theta = torch.tensor([[a, 1.0] for a in (0.125, 0.5, 0.25, 0.75, 0.3125, 0.875, 0.375, 0.625, 0.4375)])
    x = simulator.simulate_block(theta, 0, 0)
    good = [0, 2, 4, 6, 8]
    assert torch.equal(x[good, 0], theta[good, 0])
    assert torch.isnan(x[1::2]).all()
    assert x[0, 3] == x[2, 3]  # a failure that the program reports is no reason to start it again
    assert x[good, 3].unique().numel() == 4
    assert simulator.take_failures() == {
        1: "it reported: no root; stderr: at 0.50",
        3: "exit status 5; stderr: at 0.75",
        5: "it took longer than 2 s; stderr: at 0.88",
        7: "it printed no JSON (Expecting value at 0): 'Warning: slow'; stderr: at 0.62",
    }
    assert simulator.failures[1].status == 5


def test_a_program_that_keeps_its_lines_to_itself_is_suspected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("implicit_simulators.adapters.process.PATIENCE", 0.1)
    simulator = CommandSimulator(["sh", "-c", "sleep 60"], PRIOR, event_shape=1, protocol="lines", timeout=0.3)
    with caplog.at_level(logging.WARNING):
        simulator.simulate(THETA[:1], seed=0)
    assert "has not answered its first line for 0.1 s; does it read line by line" in caplog.text
    assert simulator.failures[0].message == "it took longer than 0.3 s"


def test_an_answer_too_many_is_not_taken_for_the_next_row() -> None:
    script = "while read line; do printf '[1]\\n[2]\\n'; sleep 0.05; done"
    simulator = CommandSimulator(["sh", "-c", script], PRIOR, protocol="lines")

    class Slow:  # what is said too much may come late
        def row(self, row: int) -> Any:
            time.sleep(0.1)
            return contextlib.nullcontext()

    with watching(Slow()):
        assert simulator.simulate(THETA, seed=0).tolist() == [[1]] * 4


def test_a_server_that_ends_after_each_row_still_serves() -> None:
    simulator = CommandSimulator(["sh", "-c", "read line; echo 1; exit 0"], PRIOR, protocol="lines")
    assert simulator.simulate(THETA, seed=0).nan_to_num(0).sum() >= 2  # it may be asked again while it ends
    mute = CommandSimulator(["true"], PRIOR, event_shape=1, protocol="lines")
    mute.simulate(THETA[:1], seed=0)
    assert mute.failures[0].message == "it ended without an answer"


# --- what it is


def test_names_data_and_settings(tmp_path: Path) -> None:
    script = tmp_path / "model.sh"
    script.write_text('echo "[$1, $RATE]"\n')
    made = {
        "command": ["sh", "model.sh", "{alpha}", "{beta}"],
        "prior": Independent(Normal(torch.zeros(2), 1.0), 1),
        "parameter_names": NAMES,
        "environment": {"RATE": "7"},
        "cwd": tmp_path,
        "observed": [1.0, 7.0],
        "summarize": lambda x: x[:, :1],
        "version": "2.1",
    }
    simulator = CommandSimulator(**made)
    assert simulator.simulate([[0.5, 0.5]], seed=0).tolist() == [[0.5, 7]]
    assert simulator.observation("observed").tolist() == [1, 7]
    assert simulator.summarize(torch.ones(3, 2)).shape == (3, 1)
    settings = simulator.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["command"] == ["sh", "model.sh", "{alpha}", "{beta}"]
    assert settings["digests"].keys() == {"sh", "model.sh"}
    assert settings["version"] == "2.1"
    assert CommandSimulator(**made).settings() == settings
    assert CommandSimulator(**{**made, "jobs": 2, "timeout": 5.0}).settings() == settings
    script.write_text('echo "[$1, $RATE]" # edited\n')
    assert CommandSimulator(**made).settings() != settings


def test_it_travels_to_other_processes() -> None:
    simulator = CommandSimulator(ECHO, PRIOR, parameter_names=NAMES)
    copy = pickle.load(io.BytesIO(cloudpickle.dumps(simulator)))
    assert torch.equal(copy.simulate(THETA, seed=4), simulator.simulate(THETA, seed=4))


def test_no_rows_start_nothing() -> None:
    assert CommandSimulator(ECHO, PRIOR, parameter_names=NAMES).simulate(THETA[:0], seed=0).shape == (0, 3)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = (len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0, threading.active_count())
    for simulator in (CommandSimulator(ECHO, PRIOR, parameter_names=NAMES, jobs=3), server(jobs=2)):
        simulator.simulate(THETA[:3], seed=0)
    deadline = time.monotonic() + 5
    while threading.active_count() > before[1] and time.monotonic() < deadline:
        time.sleep(0.01)
    after = (len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0, threading.active_count())
    assert after == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"command": "echo {alpha}"}, TypeError, "command: expected a list.*no shell.*got 'echo {alpha}'"),
        ({"command": []}, ValueError, "command: expected the program and its arguments; got an empty list"),
        ({"command": ["echo", 3]}, TypeError, "command: expected strings; got 3"),
        ({"command": ["no-such-program", "{alpha}", "{beta}"]}, ValueError, "'no-such-program' is not found"),
        ({"command": ["./sh", "{alpha}", "{beta}"]}, ValueError, "'./sh' is not found"),
        ({"command": ["echo", "{alhpa}"]}, ValueError, "command: {alhpa} is none of alpha, beta, seed, output"),
        ({"command": ["echo", "{alpha}"]}, ValueError, "command: {beta} is missing, which other parameters have"),
        ({"command": ["echo", "{alpha:d}", "{beta}"]}, ValueError, "command: {alpha:d} has no legal format"),
        ({"parameter_names": ["alpha", "seed"]}, ValueError, "parameter_names: 'seed' has a meaning of its own"),
        ({"output": "xml"}, ValueError, "output: expected one of json, csv; got 'xml'"),
        ({"protocol": "http"}, ValueError, "protocol: expected one of run, lines; got 'http'"),
        ({"protocol": "lines"}, ValueError, 'command: protocol="lines" gives parameters on standard input; {alpha}'),
        ({"protocol": "lines", "output": "csv"}, ValueError, 'output: protocol="lines" answers in JSON; got \'csv\''),
        ({"jobs": 0}, ValueError, "jobs: expected a positive int; got 0"),
        ({"jobs": 1.5}, TypeError, "jobs: expected a positive int; got float"),
        ({"timeout": 0}, ValueError, "timeout: expected a positive number of seconds or None; got 0"),
        ({"timeout": float("nan")}, ValueError, "timeout: expected a positive number"),
        ({"environment": {"A": 1}}, TypeError, "environment: expected strings by strings; got {'A': 1}"),
        ({"cwd": "/no/such/folder"}, ValueError, "cwd: expected a folder; got '/no/such/folder'"),
        ({"summarize": 3}, TypeError, "summarize: expected a callable or None; got int"),
        ({"observed": [1, 2]}, ValueError, r"observed: sh expects shape \(3,\); got \(2,\)"),
        ({"event_shape": None, "command": ["sh", "-c", "exit 4"]}, ValueError, "of 5 draws .*; first: exit status 4"),
        ({"prior": None}, TypeError, "prior: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    made = {"command": ECHO, "prior": PRIOR, "parameter_names": NAMES, "event_shape": 3, **change}
    with pytest.raises(error, match=message):
        CommandSimulator(**made)


# --- what is printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("[1, null, NaN, -Infinity, true]", [1, np.nan, np.nan, -np.inf, 1]),
        ("[[1, 2], [3, 4]]\n", [[1, 2], [3, 4]]),
        ('{"x": [0.1], "time": 3}', [0.1]),
    ],
)
def test_json_is_read(text: str, expected: Any) -> None:
    np.testing.assert_array_equal(from_json(text), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3.0]),
        ("1,2,3\n", [1, 2, 3]),
        ("1\n2\n3\n", [1, 2, 3]),
        ("1 2\t3", [1, 2, 3]),
        ("hare, lynx\n1, 2\n3, 4\n\n", [[1, 2], [3, 4]]),
        ("1,,nan,-inf", [1, np.nan, np.nan, -np.inf]),
    ],
)
def test_tables_are_read(text: str, expected: Any) -> None:
    np.testing.assert_array_equal(from_csv(text), expected)


@pytest.mark.parametrize("text", ["", "\n", "hello", "1,2\n3", "1,2\nthree,4", "a,b\n"])
def test_what_is_no_table_is_told(text: str) -> None:
    with pytest.raises(UnreadableError, match="it printed no"):
        from_csv(text)
