"""A Python function as a simulator: its randomness seeded, its failures caught row by row."""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.adapters.program import ProgramSimulator, event_shape_of, parameter_names_of
from implicit_simulators.code import fingerprint
from implicit_simulators.failures import one_row
from implicit_simulators.streams import Stream

logger = logging.getLogger(__name__)

ARRAYS = ("auto", "torch", "numpy")
RANDOM = ("seed", "generator", "rng")
"""Keywords by which a function may ask for its random numbers: an int, a torch or a NumPy generator."""

TRIALS = 20


class FunctionSimulator(ProgramSimulator):
    r"""Wraps ``function``, which draws x given theta by any means.

    **Randomness.** If the function has a keyword ``seed``, ``generator`` or ``rng``, it is given an int, a
    ``torch.Generator`` or a ``numpy.random.Generator``. In any case it runs with the global generators of torch, NumPy
    and ``random`` seeded from the stream of its block, and restored afterwards: a function that uses them is repeatable
    as it is. (In one process: threads of the function's own that draw from them at the same time are not.)

    **Failures.** A row that raises becomes NaN, is logged and is kept in ``failures``; the others go on. If a batched
    function raises, its rows are simulated again one by one, each with random numbers of its own.

    **Versions.** ``settings()`` holds a fingerprint of the function's code, so that simulations stored by an older
    version of it are not mixed with those of this one (:func:`implicit_simulators.code.fingerprint`).

    Args:
        function: ``theta -> x``. Batched, from (n, d) to (n, \*event_shape); otherwise from (d,) to event_shape.
            The outcome may be a tensor, an array, a number or nested lists of numbers; a number as the outcome of one
            row counts as a vector of length 1.
        prior: See :func:`implicit_simulators.adapters.prior.as_prior`: a distribution, a list of scalar ones or a pair
            (low, high) of arrays.
        parameter_names: The d names; theta_1, ..., theta_d if None.
        event_shape: Shape of one x; found by a trial run with draws from the prior if None.
        batched: Whether the function takes many rows at once.
        array: What the function is given: ``"torch"``, ``"numpy"``, or ``"auto"`` for torch if that works in the trial
            run and NumPy if not.
        differentiable: Whether gradients flow through the function (torch only); if not, it is given no graph.
        observed: Data, with shape ``event_shape``, available as ``observation("observed")``.
        summarize: Summary statistics, from (n, \*event_shape) to (n, k); x flattened if None.
        name: Name in reports; the function's if None.

    Attributes:
        failures: The first 1000 rows that raised, each as (theta, message).
        failed: How many rows raised in all.
        code: The fingerprint.

    Raises:
        TypeError: If ``function`` is not callable, or ``prior`` is no distribution.
        ValueError: If an argument does not fit the others, or the trial run raises for each of 20 draws of the prior.

    Example:
        >>> def toss(theta, seed):
        ...     return np.random.default_rng(seed).binomial(100, theta)
        >>> coin = FunctionSimulator(toss, prior=([0.0], [1.0]), parameter_names=["bias"], array="numpy")
        >>> coin.simulate([[0.0], [1.0]], seed=0)
        tensor([[  0.],
                [100.]])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        prior: Any,
        *,
        parameter_names: Any = None,
        event_shape: Any = None,
        batched: bool = True,
        array: str = "auto",
        differentiable: bool = False,
        observed: Any = None,
        summarize: Callable[[Tensor], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a callable theta -> x; got {type(function).__name__}")
        self._begin(summarize)
        if array not in ARRAYS:
            raise ValueError(f"array: expected one of {', '.join(ARRAYS)}; got {array!r}")
        if differentiable and array == "numpy":
            raise ValueError('differentiable: needs array="torch": gradients do not flow through NumPy')
        self.function, self.batched, self.differentiable = function, batched, differentiable
        self.prior = as_prior(prior)
        d = self.prior.event_shape[0]
        self.parameter_names = parameter_names_of(parameter_names, d)
        self.name = str(name or getattr(function, "__name__", type(function).__name__))
        self.code = fingerprint(function)  # before anything runs that could change what the function refers to
        self._takes = _random_keyword(function)
        if event_shape is not None:
            self.event_shape = event_shape_of(event_shape)  # which the trial run, if there is one, is held to
        self.array = "torch" if differentiable else array
        if event_shape is None or self.array == "auto":
            self.array, self.event_shape = self._try(self.array)
        self._take_data(observed)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        if not self.differentiable:
            theta = theta.detach()
        if not len(theta):
            return theta.new_zeros((0, *self.event_shape))
        with _global_generators_restored():
            if self.batched:
                try:
                    return self._call(theta, stream.key, self.array)
                except _WrongShapeError:
                    raise
                except Exception as error:
                    logger.debug("%s raised %r; trying its %d rows one by one", self.name, error, len(theta))
            return self._row_by_row(theta, stream)

    def _row_by_row(self, theta: Tensor, stream: Stream) -> Tensor:
        rows: list[Tensor] = []
        for i in range(len(theta)):
            try:
                with one_row(i):
                    rows.append(self._call(theta[i : i + 1], Stream.of(stream.key, i, "simulate").key, self.array)[0])
            except _WrongShapeError:
                raise
            except Exception as error:
                rows.append(self._fail(i, theta[i], f"{type(error).__name__}: {error}"))
        return torch.stack(rows)

    def _call(self, theta: Tensor, key: int, array: str) -> Tensor:
        r"""Run the function on rows (n, d), one at a time if it is not batched (n is then 1); (n, \*event_shape)."""
        stream = Stream(key)
        rows = theta.clone()  # the function may write into what it is given
        given: Any = rows if array == "torch" else rows.detach().cpu().numpy()
        _seed_global_generators(stream)
        raw = self.function(given if self.batched else given[0], **_random_argument(self._takes, stream, theta))
        x = _outcome(raw, self.name).to(device=theta.device, dtype=theta.dtype)
        x = x if self.differentiable else x.detach()
        x = x if self.batched else x[None]
        if x.ndim == 1 and len(x) == len(theta):
            x = x[:, None]
        expected = (len(theta), *getattr(self, "event_shape", x.shape[1:]))
        if tuple(x.shape) != expected:
            hint = "; a function of one row at a time needs batched=False" if self.batched else ""
            raise _WrongShapeError(
                f"function: {self.name} should give shape {expected}; it gave {tuple(x.shape)}{hint}"
            )
        return x

    def _try(self, array: str) -> tuple[str, torch.Size]:
        """What the function takes and the shape it gives, from the first draws of the prior that do not raise."""
        errors: dict[str, Exception] = {}
        for kind in ("torch", "numpy") if array == "auto" else (array,):
            for trial in range(TRIALS):
                theta = self.sample_prior(2 if self.batched else 1, seed=0, block=trial)
                try:
                    with _global_generators_restored():
                        return kind, self._call(theta, trial, kind).shape[1:]
                except _WrongShapeError:
                    raise
                except Exception as error:
                    errors[kind] = error
        said = "; ".join(f"given {kind}, {type(error).__name__}: {error}" for kind, error in errors.items())
        raise ValueError(f"function: {self.name} raised for each of {TRIALS} draws of the prior ({said})")

    def settings(self) -> dict[str, Any]:
        """The function, by module and name, a fingerprint of its code, and how it is called."""
        function = f"{getattr(self.function, '__module__', '?')}.{getattr(self.function, '__qualname__', self.name)}"
        called = {"name": self.name, "batched": self.batched, "array": self.array}
        return {"function": function, "code": self.code, **called}


def _outcome(raw: Any, name: str) -> Tensor:
    """What a function gave as a tensor, in the precision it came with: numbers, lists, arrays, lists of tensors."""
    if isinstance(raw, Tensor):
        return raw
    if isinstance(raw, (list, tuple)) and raw and all(isinstance(item, Tensor) for item in raw):
        return torch.stack(list(raw))
    array = np.asarray(raw)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"outcome of {name}: expected numbers; got {type(raw).__name__} of dtype {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype == np.float32 else np.float64))


class _WrongShapeError(ValueError):
    """A mistake in the program, which must be told, not a failed simulation."""


@contextlib.contextmanager
def _global_generators_restored() -> Iterator[None]:
    """Put the global generators of torch (CPU), NumPy and ``random`` back as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - the user's code may use it
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002 - as above
            random.setstate(python_state)


def _seed_global_generators(stream: Stream) -> None:
    """Seed the three from ``stream``; only inside :func:`_global_generators_restored`."""
    torch.default_generator.manual_seed(stream.key & (2**63 - 1))
    np.random.seed([stream.key & 0xFFFFFFFF, stream.key >> 32])  # noqa: NPY002 - as above
    random.seed(stream.key)


def _random_keyword(function: Callable[..., Any]) -> str | None:
    """The first of ``seed``, ``generator`` and ``rng`` that ``function`` takes by name, beside its first argument."""
    try:
        arguments = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):  # a builtin without a signature
        return None
    by_name = {a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)}
    return next((keyword for keyword in RANDOM if keyword in by_name), None)


def _random_argument(keyword: str | None, stream: Stream, theta: Tensor) -> dict[str, Any]:
    if keyword is None:
        return {}
    if keyword == "seed":
        return {"seed": stream.key % 2**32}  # what numpy.random.seed and C programs take
    return {keyword: stream.torch(theta.device) if keyword == "generator" else stream.numpy()}
