"""What every test shares: one thread per process, repeatable property tests, and a guard on torch's global state."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# Property tests time nothing (a loaded machine is slow) and draw the same examples on every machine and every run.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Give each xdist process one thread: with a pool in every process they would fight for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def global_state() -> dict[str, object]:
    """What the library must never change for its user, by name."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture(autouse=True)
def _repeatable(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that draws without a seed draws the same on every machine, in whatever order tests are run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))
        yield


@pytest.fixture(autouse=True)
def _leaves_global_state_alone() -> Iterator[None]:
    before = global_state()
    yield
    changed = {name: value for name, value in global_state().items() if value != before[name]}
    assert not changed, f"the test left torch changed: {changed}; it was {before}"
