"""Run a Pyro model once, or as many rows at once, with chosen sites given and a stream of its own for every other.

This file imports pyro; it is imported where a model is run.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor

from implicit_simulators.streams import Stream


class ModelError(ValueError):
    """A model that is no prior and simulator in one."""


@dataclass(frozen=True)
class Site:
    """What a run left at one site.

    Attributes:
        fn: The site's distribution, expanded to its plates.
        value: Drawn or given.
        data: What the model itself observes there, if anything.
        deterministic: Whether it is a ``pyro.deterministic``.
        mask: A mask of the model's on its density, if there is one.
        depth: Dimensions that its batch and its plates take up.
    """

    fn: Any
    value: Tensor
    data: Tensor | None
    deterministic: bool
    mask: Any
    depth: int

    def log_prob(self, rows: int | None) -> Tensor:
        """Log density at the value, with shape () or, of a run of several rows, (rows,)."""
        density = scale_and_mask(self.fn.log_prob(self.value), 1.0, self.mask)
        return density.sum() if rows is None else density.reshape(rows, -1).sum(1)


@dataclass
class Run:
    """One run of a model.

    Attributes:
        sites: What is at each site, in the model's order.
        illegal: Which rows were given a value that its site cannot have; a draw stands in its place.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    illegal: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))


@contextlib.contextmanager
def _validated() -> Iterator[None]:
    """Let distributions refuse parameters they cannot have, whatever the process has set: a row that has them fails."""
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(True)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def run(
    model: Callable[[], Any],
    given: Mapping[str, Tensor],
    key: int,
    *,
    rows: int | None = None,
    dim: int = -1,
    until: Collection[str] = (),
    replace: bool = False,
) -> Run:
    """Run ``model`` with the values of ``given`` at their sites; observed sites without a given value are drawn.

    Args:
        model: A Pyro model without arguments.
        given: Values by the names of sites.
        key: Root of the sites' streams: what a site draws depends on its name and on nothing else that is drawn.
        rows: How many rows to run at once, in an outer plate; None runs the model as it is.
        dim: The dimension of that plate.
        until: Sites after which the rest of the model is not run.
        replace: Whether values that a site cannot have are replaced by draws, and their rows noted.

    Raises:
        ModelError: If the model has parameters, factors or subsamples.
    """
    handler = _Sites(given, key, rows, frozenset(until), replace)
    with (
        Stream(key).forked(),  # whatever else the model draws from torch; and handlers are not for two threads at once
        _validated(),
        pyro.get_param_store().scope(),
        pyro.poutine.block(),
        handler,
        contextlib.suppress(_Enough),
        contextlib.nullcontext() if rows is None else pyro.plate("_rows", rows, dim=dim),
    ):
        model()
    return handler.run


class _Enough(BaseException):
    """All that was asked for has been drawn; past whatever exceptions the model catches."""


class _Sites(Messenger):
    def __init__(
        self, given: Mapping[str, Tensor], key: int, rows: int | None, until: frozenset[str], replace: bool
    ) -> None:
        super().__init__()
        self.given, self.key, self.rows, self.replace = given, key, rows, replace
        self.missing = set(until)
        self.stops = bool(until)
        self.run = Run(illegal=torch.zeros(() if rows is None else (rows,), dtype=torch.bool))
        self.data: dict[str, Tensor | None] = {}

    def _pyro_param(self, msg: Any) -> None:
        raise ModelError(f"model: {msg['name']!r} is a pyro.param; give it a prior, or a value")

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if site_is_subsample(msg):
            size = fn.size if fn.subsample_size is None else fn.subsample_size
            if size != fn.size or (msg["value"] is not None and len(msg["value"]) != fn.size):
                raise ModelError(f"model: plate {name!r} takes a subsample; a simulation needs all of it")
            return
        if site_is_factor(msg):
            raise ModelError(f"model: {name!r} is a pyro.factor, which cannot be simulated")
        if msg["infer"].get("_deterministic"):
            return
        if not (isinstance(msg["scale"], (int, float)) and msg["scale"] == 1):
            raise ModelError(f"model: the density of {name!r} is scaled by {msg['scale']}; expected no scale")
        self.data[name] = msg["value"] if msg["is_observed"] else None
        if name not in self.given:
            msg["value"] = self._draw(name, fn)
        else:
            msg["value"] = self._legal(name, fn) if self.replace else self.given[name]

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        name, fn = msg["name"], msg["fn"]
        depth = max([len(fn.batch_shape), *(-f.dim for f in msg["cond_indep_stack"] if f.dim is not None)])
        deterministic = bool(msg["infer"].get("_deterministic"))
        self.run.sites[name] = Site(fn, msg["value"], self.data.get(name), deterministic, msg["mask"], depth)
        self.missing.discard(name)
        if self.stops and not self.missing:
            raise _Enough

    def _draw(self, name: str, fn: Any) -> Tensor:
        with Stream.of(self.key, zlib.crc32(name.encode())).forked():
            value: Tensor = fn()
        return value

    def _legal(self, name: str, fn: Any) -> Tensor:
        """The given value, with a draw in the place of what the site cannot have."""
        value = self.given[name]
        legal = fn.support.check(value)
        legal = legal.all() if self.rows is None else legal.reshape(self.rows, -1).all(1)
        if legal.all():
            return value
        self.run.illegal = self.run.illegal | ~legal
        keep = legal if self.rows is None else legal.reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(keep, value, self._draw(name, fn).detach().to(value))
