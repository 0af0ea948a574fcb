"""What a Pyro model is as a simulator: which sites are parameters, which are data, and whether it runs rows at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_simulators.adapters.pyro_sites import find_latents, find_observed
from implicit_simulators.streams import Stream

if TYPE_CHECKING:
    from implicit_simulators.adapters.pyro_run import Run

logger = logging.getLogger(__name__)

TRIALS = 20
CHECKED_ROWS = 7
ORDER_RUNS = 8
"""Runs that look for parameters that depend on what is no parameter; a coin that decides it shows in 255 of 256."""

CHUNK = 16
"""Rows are run by multiples of this many: torch makes normal numbers in sixteens, and an odd rest of them anew."""


class Program:
    """A Pyro model, looked at once: its sites and their shapes, and the runs that prior and simulator ask for.

    Args:
        model: A Pyro model without arguments.
        observed: Names of the sites that are data; those that the model observes if None.
        nuisance: Names of sites that are neither: drawn anew in every simulation.
        vectorised: Whether to run rows at once; None finds out whether the model can.

    Raises:
        ValueError: If the model is no prior and simulator in one, or a name is not that of a site.
    """

    def __init__(
        self, model: Callable[[], Any], observed: Collection[str] | None, nuisance: Collection[str], vectorised: Any
    ) -> None:
        self.model = model
        first, second = self._trial_runs()
        self.observed = find_observed(first, observed)
        for name in nuisance:
            if name not in first.sites or name in self.observed or first.sites[name].deterministic:
                raise ValueError(f"nuisance: expected latent sites of the model; got {name!r}")
        self.nuisance = tuple(nuisance)
        self.latents = find_latents(first, second, (*self.observed, *self.nuisance))
        self.shapes = {name: first.sites[name].value.shape for name in self.observed}
        self.depth = 1 + max(site.depth for site in first.sites.values())
        self.native = first.sites[self.latents[0].name].value.dtype
        self.data = self._find_data(first)
        self.knows_density = not self.nuisance and self._is_told_by_densities(first)
        values = {latent.name: first.sites[latent.name].value for latent in self.latents}
        self._check_order(values, first)
        self.precisions = {dtype for dtype in (torch.float32, torch.float64) if self._runs_in(dtype, values)}
        drawn = [first.sites[name] for name in (*self.nuisance, *self.observed) if not first.sites[name].deterministic]
        self.vectorised = vectorised is not False and self._runs_rows_at_once(vectorised is True)
        self.differentiable = all(site.fn.has_rsample for site in drawn) and self._carries_gradients(values)

    @property
    def dim(self) -> int:
        """Number of parameters, d."""
        return self.latents[-1].columns.stop

    def prepared(self, theta: Tensor) -> Tensor:
        """Theta on the CPU, in a precision that the model runs in."""
        return theta.to("cpu", theta.dtype if theta.dtype in self.precisions else self.native)

    def given(self, theta: Tensor) -> dict[str, Tensor]:
        """The values of the latent sites: of one row with shape (d,), or of n rows to be run at once."""
        if theta.ndim == 1:
            return {latent.name: theta[latent.columns].reshape(latent.shape) for latent in self.latents}
        return {
            latent.name: self._lifted(theta[:, latent.columns].reshape(-1, *latent.shape), latent.name)
            for latent in self.latents
        }

    def run(self, given: Mapping[str, Tensor], key: int, rows: int | None = None, **how: Any) -> Run:
        """One run; see :func:`implicit_simulators.adapters.pyro_run.run`."""
        from implicit_simulators.adapters.pyro_run import run

        return run(self.model, given, key, rows=rows, dim=-self.depth, **how)

    def simulate(self, theta: Tensor, key: int) -> Tensor:
        """Data of one row (d,) with shape (k,), or of n rows at once with shape (n, k), flat."""
        if theta.ndim == 1:
            sites = self.run(self.given(theta), key).sites
            return torch.cat([sites[name].value.reshape(-1) for name in self.observed])
        n = len(theta)
        theta = _padded(theta)
        sites = self.run(self.given(theta), key, len(theta)).sites
        parts = [_rows(sites[name].value, len(theta), self.shapes[name]) for name in self.observed]
        return torch.cat([part.reshape(len(theta), -1) for part in parts], dim=1)[:n]

    def sample_latents(self, n: int, key: int) -> Tensor:
        """Draws from the prior with shape (n, d); the model is run no further than its last latent site."""
        until = [latent.name for latent in self.latents]
        if not self.vectorised:
            runs = [self.run({}, Stream.of(key, i).key, until=until).sites for i in range(n)]
            rows = [torch.cat([sites[name].value.reshape(-1) for name in until]) for sites in runs]
            return torch.stack(rows) if rows else torch.zeros((0, self.dim), dtype=self.native)
        padded = max(CHUNK, -(-n // CHUNK) * CHUNK)
        sites = self.run({}, key, padded, until=until).sites
        return torch.cat([sites[name].value.reshape(padded, -1) for name in until], dim=1)[:n]

    def log_prob(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        """Log density of theta (n, d), or of data x (n, k) given theta; minus infinity off the support."""
        if not self.vectorised:
            rows = [self._log_prob(theta[i], None if x is None else x[i], None) for i in range(len(theta))]
            return torch.stack(rows) if rows else theta.new_zeros(0)
        return self._log_prob(theta, x, len(theta)) if len(theta) else theta.new_zeros(0)

    def _log_prob(self, theta: Tensor, x: Tensor | None, rows: int | None) -> Tensor:
        given = self.given(theta)
        names = [latent.name for latent in self.latents]
        until: Collection[str] = names
        if x is not None:
            names, until = list(self.observed), ()
            for name, part in self.split(x).items():
                given[name] = part if rows is None else self._lifted(part, name)
        done = self.run(given, 0, rows, until=until, replace=True)
        total = torch.stack([done.sites[name].log_prob(rows) for name in names]).sum(0)
        return torch.where(done.illegal, torch.full_like(total, -torch.inf), total)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        r"""Flat data with shape (\*batch, k) by sites, each with shape (\*batch, \*its own)."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = x.split(sizes, -1)
        shapes = zip(self.shapes.items(), parts, strict=True)
        return {name: part.reshape((*x.shape[:-1], *shape)) for (name, shape), part in shapes}

    def join(self, data: Mapping[str, Any]) -> Tensor:
        """Data by sites as one flat vector."""
        parts = []
        for name, shape in self.shapes.items():
            value = torch.as_tensor(data[name], dtype=self.native)
            try:
                parts.append(value.broadcast_to(shape).reshape(-1))
            except RuntimeError:
                raise ValueError(f"observed: {name!r} has shape {tuple(shape)}; got {tuple(value.shape)}") from None
        return torch.cat(parts)

    def _lifted(self, value: Tensor, name: str) -> Tensor:
        """Values (n, *shape) of a site with room between, so that the rows stand in the outer plate's dimension."""
        batch = self._batch[name]
        return value.reshape(len(value), *[1] * (self.depth - 1 - batch), *value.shape[1:])

    # --- the look at the model

    def _trial_runs(self) -> tuple[Run, Run]:
        """Two runs that work."""
        from implicit_simulators.adapters.pyro_run import ModelError, run

        runs: list[Run] = []
        first: Exception | None = None
        for trial in range(TRIALS):
            try:
                runs.append(run(self.model, {}, trial))
            except ModelError:
                raise
            except Exception as error:
                first = first or error
            if len(runs) == 2:
                break
        else:
            raise ValueError(
                f"model: it raised for {TRIALS - len(runs)} of {TRIALS} draws; first: {first!r}"
            ) from first
        kinds = [{name: site.value.shape for name, site in done.sites.items()} for done in runs]
        if kinds[0] != kinds[1] or list(kinds[0]) != list(kinds[1]):
            raise ValueError(f"model: its sites differ from run to run: {kinds[0]} and {kinds[1]}")
        self._alone = kinds[0]
        self._batch = {name: len(site.fn.batch_shape) for name, site in runs[0].sites.items() if not site.deterministic}
        return runs[0], runs[1]

    def _find_data(self, first: Run) -> Tensor | None:
        """What the model observes, as flat data."""
        data = {name: first.sites[name].data for name in self.observed}
        return None if any(value is None for value in data.values()) else self.join(data)

    def _check_order(self, values: dict[str, Tensor], first: Run) -> None:
        """Refuse latents whose distribution depends on data or nuisance: they are not drawn before those."""
        for key in range(ORDER_RUNS):
            again = self.run(values, key).sites
            for latent in self.latents:
                a, b = (sites[latent.name].fn.log_prob(values[latent.name]) for sites in (first.sites, again))
                if not torch.allclose(a, b, rtol=1e-4, atol=1e-5):
                    raise ValueError(
                        f"model: the distribution of {latent.name!r} depends on what is drawn at sites that are no "
                        "parameters, so that the parameters have no prior of their own"
                    )

    def _is_told_by_densities(self, first: Run) -> bool:
        """Whether data are drawn at sites only: none is deterministic, and the model has no noise beside its sites."""
        if any(first.sites[name].deterministic for name in self.observed):
            return False
        values = {name: site.value for name, site in first.sites.items() if not site.deterministic}
        again = self.run(values, TRIALS).sites
        return all(
            torch.allclose(again[name].log_prob(None), first.sites[name].log_prob(None), rtol=1e-4, atol=1e-4)
            for name in self.observed
        )

    def _runs_in(self, dtype: torch.dtype, values: dict[str, Tensor]) -> bool:
        try:
            self.run({name: value.to(dtype) for name, value in values.items()}, 0)
        except Exception:
            return False
        return True

    def _carries_gradients(self, values: dict[str, Tensor]) -> bool:
        theta = torch.cat([value.detach().reshape(-1) for value in values.values()]).requires_grad_()
        return self.simulate(theta[None] if self.vectorised else theta, 0).requires_grad

    def _runs_rows_at_once(self, insist: bool) -> bool:
        """Whether rows run at once have the densities that each has by itself, at every site."""
        try:
            problem = self._difference()
        except Exception as error:
            problem = f"it raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if problem and insist:
            raise ValueError(f"vectorised: the model does not run rows at once: {problem}")
        if problem:
            logger.warning("the model runs row by row, since it does not run rows at once: %s", problem)
        return not problem

    def _difference(self) -> str:
        n = CHECKED_ROWS
        together = self.run({}, 0, n).sites
        values = {name: _rows(site.value, n, self._alone[name]) for name, site in together.items()}
        for i in range(n):
            given = {name: value[i] for name, value in values.items() if not together[name].deterministic}
            alone = self.run(given, 1 + i).sites  # other noise, should the model have any beside its sites
            if alone.keys() != together.keys():
                return "its sites are others"
            for name, site in alone.items():
                if site.deterministic:
                    same = torch.allclose(values[name][i], site.value, rtol=1e-4, atol=1e-4)
                else:
                    same = torch.allclose(together[name].log_prob(n)[i], site.log_prob(None), rtol=1e-4, atol=1e-3)
                if not same:
                    return f"at {name!r} a row is not what it is by itself"
        return ""


def _rows(value: Tensor, n: int, shape: torch.Size) -> Tensor:
    r"""What n rows left at a site, with shape (n, \*shape); what has no rows is the same for all."""
    lead = value.shape[: value.ndim - len(shape)]
    if value.ndim < len(shape) or value.shape[len(lead) :] != shape or math.prod(lead) not in (1, n):
        raise ValueError(f"{n} rows of shape {tuple(shape)} came as {tuple(value.shape)}")
    return value.reshape(-1, *shape).expand(n, *shape)


def _padded(theta: Tensor) -> Tensor:
    n = len(theta)
    return theta[torch.arange(-(-n // CHUNK) * CHUNK).clamp(max=n - 1)]
