"""Where a stepwise model runs: compiled on a CPU, in torch for gradients and on other devices, on the same noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.steps import StepProcess
from implicit_simulators.engines.torch_steps import run_in_torch


def paths(
    process: StepProcess, parameters: Tensor, initial: Tensor, steps: int, key: int, every: int = 1, threads: int = 1
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
        threads: Threads that share the rows, where compiled.

    Returns:
        Records with shape (n, steps // every, o), with the dtype and on the device of ``parameters``.

    Raises:
        ValueError: If gradients, or another device, are asked of a process that records counts.
    """
    graph = torch.is_grad_enabled() and (parameters.requires_grad or initial.requires_grad)
    if graph or parameters.device.type != "cpu" or _is_dual(parameters) or _is_dual(initial):
        return run_in_torch(process, parameters, initial, steps, key, every)
    dtype = np.float64 if parameters.dtype == torch.float64 else np.float32
    records = process(
        parameters.detach().double().numpy(),
        initial.detach().double().numpy(),
        steps,
        key,
        every,
        threads=threads,
        dtype=dtype,
    )
    return torch.from_numpy(records).to(parameters.dtype)


def _is_dual(value: Tensor) -> bool:
    """Whether it carries a tangent, as in forward-mode differentiation and under ``torch.func``."""
    return torch._C._functorch.is_functorch_wrapped_tensor(value) or (
        torch.autograd.forward_ad.unpack_dual(value).tangent is not None
        if torch.autograd.forward_ad._current_level >= 0
        else False
    )
