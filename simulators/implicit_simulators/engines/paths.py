"""Where a stepwise model runs: compiled on a CPU, in torch for gradients and on other devices, on the same noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.steps import StepProcess
from implicit_simulators.engines.torch_steps import run_in_torch


def paths(
    process: StepProcess, parameters: Tensor, initial: Tensor, steps: int, key: int, every: int = 1, skip: int = 0
) -> Tensor:
    """One trajectory for each row, by the quickest means that can give what is asked.

    On a CPU both means see the same noise, so that asking for gradients changes nothing but the rounding.

    Args:
        process: The model.
        parameters: Shape (n, m).
        initial: States before the first step, with shape (n, k).
        steps: How many steps.
        key: Key of the random numbers.
        every: Steps from one record to the next.
        skip: Steps before the first record is waited for.

    Returns:
        Records with shape (n, (steps - skip) // every, o), with the dtype and on the device of ``parameters``.

    Raises:
        ValueError: If gradients, or another device, are asked of a process that records counts.
    """
    if needs_torch(parameters, initial):
        return run_in_torch(process, parameters, initial, steps, key, every, skip)
    return compiled_paths(process, parameters, initial, steps, key, every, skip)


def compiled_paths(
    process: StepProcess,
    parameters: Tensor,
    initial: Tensor,
    steps: int,
    key: int,
    every: int = 1,
    skip: int = 0,
    threads: int = 1,
) -> Tensor:
    """The same by compiled code, without gradients, on a CPU; what it gives is put on the device of ``parameters``."""
    values, start = parameters.detach().cpu().double().numpy(), initial.detach().cpu().double().numpy()
    dtype = np.float64 if parameters.dtype == torch.float64 else np.float32
    records = process(values, start, steps, key, every, skip, threads=threads, dtype=dtype)
    return torch.from_numpy(records).to(parameters.dtype).to(parameters.device)


def needs_torch(*values: Tensor) -> bool:
    """Whether what is made of these must be made by torch: they carry gradients, or are on another device."""
    graph = torch.is_grad_enabled() and any(value.requires_grad for value in values)
    return graph or any(value.device.type != "cpu" or _is_dual(value) for value in values)


def _is_dual(value: Tensor) -> bool:
    """Whether it carries a tangent, as in forward-mode differentiation and under ``torch.func``."""
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return True
    forward = torch.autograd.forward_ad
    return forward._current_level >= 0 and forward.unpack_dual(value).tangent is not None
