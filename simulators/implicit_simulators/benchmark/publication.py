"""What the benchmark published for each task: ten observations, the parameters behind them, and posterior samples.

The observations and parameters are small and ship with this package (``data/``). The 10,000 reference samples of each
posterior are read from the files of an installed ``sbibm``, which is never imported: its requirements include Julia.

References:
    | Benchmarking simulation-based inference, section B.1 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

OBSERVATIONS = tuple(str(i) for i in range(1, 11))
"""The names of the ten observations that each task has."""

DIMENSIONS = {
    "gaussian-linear": 10,
    "gaussian-linear-uniform": 10,
    "slcp": 5,
    "slcp-distractors": 5,
    "bernoulli-glm": 10,
    "bernoulli-glm-raw": 10,
    "gaussian-mixture": 2,
    "two-moons": 2,
    "benchmark-sir": 2,
    "benchmark-lotka-volterra": 4,
}
"""The ten tasks in the order of the paper, T.1 to T.10, and how many parameters each has."""

SAME_POSTERIOR = {"slcp-distractors": "slcp", "bernoulli-glm-raw": "bernoulli-glm"}
"""Tasks that add nothing to what another one's data say of theta, and share its reference samples."""


class Published(NamedTuple):
    """What was published for one observation of one task.

    Attributes:
        observation: The data, with the task's event shape.
        true_parameters: The parameters that made them, with shape (d,).
        reference_samples: Draws from the posterior, with shape (10000, d).
    """

    observation: Tensor
    true_parameters: Tensor
    reference_samples: Tensor


def published(task: str, observation: int | str) -> Published:
    """An observation of the benchmark with its true parameters and reference posterior samples, all in float32.

    How the samples were made differs between tasks: by closed forms (the Gaussian tasks and two moons), by rejection
    from a fitted proposal (SLCP, SIR, Lotka-Volterra), or by Pólya-Gamma Gibbs sampling of which every 25th draw was
    kept (Bernoulli GLM). All were meant to be independent draws, with equal weights.

    Args:
        task: Name of the task, as in ``implicit_simulators.simulators()``.
        observation: Its number, from 1 to 10.

    Raises:
        ValueError: If there is no such task or observation.
        ImportError: If ``sbibm`` is not installed.
    """
    x, theta = recorded(task, observation)
    return Published(x, theta, torch.from_numpy(_samples(SAME_POSTERIOR.get(task, task), int(observation)).copy()))


def recorded(task: str, observation: int | str) -> tuple[Tensor, Tensor]:
    """The part that ships with this package: an observation and its true parameters.

    Raises:
        ValueError: If there is no such task or observation.
    """
    if task not in DIMENSIONS:
        raise ValueError(f"task: expected one of {', '.join(DIMENSIONS)}; got {task!r}")
    if str(observation) not in OBSERVATIONS:
        raise ValueError(f"observation: expected a number from 1 to 10; got {observation!r}")
    row = torch.from_numpy(_table(task)[int(observation) - 1].copy())
    return row[DIMENSIONS[task] :], row[: DIMENSIONS[task]]


def _folder(task: str) -> str:
    return task.removeprefix("benchmark-").replace("-", "_")


@lru_cache(maxsize=len(DIMENSIONS))
def _table(task: str) -> np.ndarray:
    """Parameters and data of the ten observations, with shape (10, d + data)."""
    file = resources.files("implicit_simulators.benchmark").joinpath("data", f"{_folder(task)}.csv")
    with file.open(encoding="utf-8") as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1, dtype=np.float32)[:, 1:]


@lru_cache(maxsize=32)
def _samples(task: str, observation: int) -> np.ndarray:
    spec = find_spec("sbibm")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "published: the reference samples are part of the package sbibm, which is not installed. Its own "
            "requirements are not needed: pip install --no-deps sbibm==1.1.0"
        )
    file = f"tasks/{_folder(task)}/files/num_observation_{observation}/reference_posterior_samples.csv.bz2"
    path = Path(spec.submodule_search_locations[0], file)
    return np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)
