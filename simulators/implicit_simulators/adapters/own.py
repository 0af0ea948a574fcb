"""What every simulator of a user's own shares: the user's data, and the user's statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from implicit_simulators.base import Simulator, as_tensor


class OwnSimulator(Simulator):
    """A simulator whose data and statistics a user gives; children call the two ``_take`` methods in ``__init__``."""

    def _take_statistics(self, summarize: Callable[[Tensor], Any] | None) -> None:
        r"""Use ``summarize``, from (n, \*event_shape) to (n, k); x flattened if None."""
        if summarize is not None and not callable(summarize):
            raise TypeError(f"summarize: expected a callable or None; got {type(summarize).__name__}")
        self._summarize = summarize

    def _take_data(self, observed: Any) -> None:
        """Make data available as ``observation("observed")``, once ``event_shape`` is known."""
        if observed is not None:
            self._observed = self.check_observation(observed)
            self.observations = ("observed",)  # type: ignore[misc]  # a class constant of models, but one user's data

    def _observation(self, name: str) -> Tensor:
        return self._observed  # the only name is listed with the data

    def summarize(self, x: Tensor) -> Tensor:
        """Summary statistics of ``x``, with shape (n, k): the user's, or x flattened.

        Raises:
            ValueError: If the user's function does not give n rows.
        """
        if self._summarize is None:
            return super().summarize(x)
        s = as_tensor(self._summarize(x), "outcome of summarize").to(x)
        if not s.ndim or len(s) != len(x):
            raise ValueError(f"summarize: expected {len(x)} rows of statistics; got shape {tuple(s.shape)}")
        return s.reshape(len(x), -1)
