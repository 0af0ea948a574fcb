"""The one face of every simulator: a prior, names for its parameters, and ``simulate(theta, seed)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from implicit_simulators.streams import Seed, Stream, resolve_seed

BLOCK = 1000
"""Rows simulated with one stream: the unit of work, of storage and of restart."""


class Simulator:
    """Draws x given theta. A child sets the attributes below and writes ``_simulate``.

    To add a simulator, copy ``benchmark/gaussian_linear.py``: set ``name``, ``parameter_names``, ``event_shape`` and
    ``prior`` in ``__init__``, write ``_simulate(theta, stream)``, and add whatever is known exactly
    (``log_likelihood``, ``posterior``), which tests and reports then use. All of these are checked for every simulator
    by the contract in ``tests/simulators/test_contract.py``.

    Attributes:
        name: Short name, used on the command line and in stores.
        parameter_names: The d names of theta's columns.
        event_shape: Shape of one x.
        prior: A distribution with event shape (d,).
        differentiable: Whether gradients flow from x to theta (pathwise).
        reference_theta: The d parameters at which the literature usually tests it, or None.
        releases_gil: Whether ``simulate`` spends its time outside Python, so that threads run blocks side by side.
        block: Rows simulated with one stream.
        points: How many draws, independent and of one law given theta, one x consists of: the rows of
            ``x.reshape(points, -1)``. A method that knows may learn from each of them.
    """

    name: str = "simulator"
    parameter_names: tuple[str, ...]
    event_shape: torch.Size
    prior: Distribution
    differentiable: bool = False
    reference_theta: tuple[float, ...] | None = None
    releases_gil: bool = False
    block: int = BLOCK
    points: int = 1
    observations: ClassVar[tuple[str, ...]] = ()
    """Names of the real data sets that ship with this simulator (``observation(name)`` loads one)."""

    @property
    def dim(self) -> int:
        """Number of parameters, d."""
        return len(self.parameter_names)

    def simulate(self, theta: Any, seed: Seed = None) -> Tensor:
        r"""Draw one x for each row of ``theta``.

        Rows are simulated in blocks of ``self.block``; block i has the stream (seed, i), so that the result for a row
        depends on theta, the seed and the row's place, and on nothing else.

        Args:
            theta: Parameters with shape (n, d); NumPy arrays and frames are taken too.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.

        Returns:
            Simulations with shape (n, \*event_shape), on theta's device. Rows that failed are NaN.

        Raises:
            ValueError: If ``theta`` has another shape, or holds NaN or infinity.
        """
        theta = self.check_theta(theta)
        seed = resolve_seed(seed)
        blocks = [
            self.simulate_block(theta[start : start + self.block], seed, i)
            for i, start in enumerate(range(0, len(theta), self.block))
        ]
        return torch.cat(blocks) if blocks else theta.new_zeros((0, *self.event_shape))

    def simulate_block(self, theta: Tensor, seed: int, block: int) -> Tensor:
        """Simulate one block (at most ``self.block`` rows) with its own stream; what executors call."""
        x = self._simulate(theta, Stream.of(seed, block, "simulate"))
        expected = (len(theta), *self.event_shape)
        if tuple(x.shape) != expected:
            raise ValueError(f"{self.name}: expected simulations of shape {expected}; got {tuple(x.shape)}")
        return x

    def prepare(self) -> float:
        """Compile, or load from disk, what ``simulate`` needs, ahead of time; the seconds that took."""
        return 0.0

    def sample_prior(self, n: int, seed: Seed = None, block: int = 0) -> Tensor:
        """Draw ``n`` rows from the prior with the stream (seed, block), with shape (n, d) and dtype float32."""
        with Stream.of(seed, block, "prior").forked():
            return self.prior.sample((n,)).reshape(n, self.dim).float()

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _simulate(theta, stream)")

    def summarize(self, x: Tensor) -> Tensor:
        """Summary statistics of ``x``, with shape (n, k): what distances and networks see. Flattens by default."""
        return x.reshape(len(x), -1)

    def observation(self, name: str) -> Tensor:
        """The real data set ``name`` that ships with this simulator, with shape ``event_shape``.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in self.observations:
            known = ", ".join(self.observations) or "none"
            raise ValueError(f"observation: {self.name} ships {known}; got {name!r}")
        return self._observation(name)

    def _observation(self, name: str) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} lists observations but has no _observation(name)")

    def settings(self) -> dict[str, Any]:
        """What else made the simulator what it is (JSON-able), kept in stores and reports."""
        return {}

    def check_theta(self, theta: Any) -> Tensor:
        """``theta`` as a floating tensor with shape (n, d), or a clear ``ValueError``."""
        theta = as_tensor(theta, "theta")
        if theta.ndim != 2 or theta.shape[1] != self.dim:
            names = ", ".join(self.parameter_names)
            raise ValueError(f"theta: expected shape (n, {self.dim}) ({names}); got {tuple(theta.shape)}")
        if not torch.isfinite(theta).all():
            bad = int((~torch.isfinite(theta)).any(1).sum())
            raise ValueError(f"theta: expected finite values; {bad} of {len(theta)} rows hold NaN or infinity")
        return theta

    def check_observation(self, x: Any) -> Tensor:
        """``x`` as a finite tensor with shape ``event_shape`` (a leading axis of 1 is dropped), or a ``ValueError``."""
        x = as_tensor(x, "observed")
        if x.shape == (1, *self.event_shape):
            x = x[0]
        if x.shape != self.event_shape:
            hint = ""
            if x.ndim > len(self.event_shape) and x.shape[1:] == self.event_shape:
                hint = f"; for {len(x)} independent observations of one theta: Repeated(simulator, {len(x)})"
            raise ValueError(
                f"observed: {self.name} expects shape {tuple(self.event_shape)}; got {tuple(x.shape)}{hint}"
            )
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x)).sum())
            hint = "; for values that are missing: Missing(simulator)" if torch.isnan(x).any() else ""
            raise ValueError(f"observed: expected finite values; {bad} of {x.numel()} are NaN or infinite{hint}")
        return x

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({settings})"


def as_tensor(value: Any, name: str) -> Tensor:
    """A floating tensor from a tensor, a NumPy array, a pandas frame or a nested sequence of numbers.

    Floating tensors keep their dtype, device and graph; everything else becomes float32.

    Raises:
        TypeError: If ``value`` is not numeric.
    """
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else value.float()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, (np.ndarray, Sequence, int, float)) and not isinstance(value, (str, bytes)):
        try:
            return torch.as_tensor(np.asarray(value, dtype=np.float32))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected numbers; got {type(value).__name__} that is not numeric") from error
    raise TypeError(f"{name}: expected a tensor, an array or a frame; got {type(value).__name__}")
