r"""A Pyro model as a simulator: its latent sites are the parameters, its observed sites the data.

A probabilistic program is a prior and a simulator in one,

.. math:: p(\theta, x) = \prod_i p(\theta_i \mid \theta_{<i}) \; \prod_j p(x_j \mid x_{<j}, \theta),

so nothing needs to be said twice: the prior draws and scores the latent sites, the simulator draws the observed ones
with the latent sites given. Where nothing else is drawn, the likelihood is known as well.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from implicit_simulators.adapters.program import ProgramSimulator
from implicit_simulators.adapters.pyro_program import Program
from implicit_simulators.base import as_tensor
from implicit_simulators.code import fingerprint
from implicit_simulators.failures import one_row
from implicit_simulators.streams import Stream

logger = logging.getLogger(__name__)

DRAWS_FOR_MEAN = {True: 10_000, False: 1_000}
"""By whether rows are run at once."""


class PyroSimulator(ProgramSimulator):
    r"""Draws the observed sites of ``model`` given its latent sites.

    **Parameters** are the numbers of the latent sites in the model's order: ``beta`` for a site of one number,
    ``beta_1``, ``beta_2``, ... for a vector. A later site may depend on earlier ones. Latent sites in ``nuisance`` are
    no parameters: they are drawn anew in every simulation, as a discrete one must be.

    **Data** are the numbers of the observed sites: those that the model observes (``obs=``), whose data then stand in
    ``observation("observed")``, or those named in ``observed``, sites of ``pyro.deterministic`` included. One site
    keeps its shape; several are joined to a vector (:meth:`data` takes it apart).

    **Rows.** All rows of a block are run at once inside an outer plate, if the model's own plates and shapes allow it,
    which a trial finds out by comparing, at every site, the densities of rows run together with those of each run by
    itself. A model that fails it (one that asks ``if rate > 1``, or writes a vector of data without a plate) runs row
    by row, and a warning says why. Write data in plates to have it fast.

    **Random numbers.** Every site has its own, made from the seed, the block and the site's name, so that a row does
    not depend on how many follow. (Where a distribution draws by rejection, such as Gamma, Beta and Poisson, it does
    depend on the rows before it; ``vectorised=False`` is free of that.) The model runs on the CPU; x is moved to
    theta's device. Pyro's parameter store and torch's global generator are left as they were.

    Args:
        model: A Pyro model. Parameters of its own (``pyro.param``), factors, subsamples and scaled densities are
            refused: they make no simulation.
        observed: Names of the sites that are data, or a dictionary of their data; the sites that the model observes
            if None.
        nuisance: Names of latent sites that are no parameters.
        args: Arguments that the model is called with.
        kwargs: Its keyword arguments.
        vectorised: True insists that rows are run at once, False that they are not, None finds out.
        summarize: Summary statistics, from (n, \*event_shape) to (n, k); x flattened if None.
        name: Name in reports; the model's if None.

    Attributes:
        vectorised: Whether rows are run at once.
        failures: The first 1000 rows that raised, each as (theta, message).
        failed: How many rows raised in all.

    Raises:
        TypeError: If ``model`` is not callable, or an argument has another type.
        ValueError: If the model is no prior and simulator in one (the message says where), or a name is not that of a
            site.

    References:
        | Pyro: deep universal probabilistic programming (Bingham et al., 2019)
        | https://arxiv.org/abs/1810.09538

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model():
        ...     mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("trials", 5):
        ...         pyro.sample("x", dist.Normal(mean, 0.5))
        >>> simulator = PyroSimulator(model, observed=["x"])
        >>> simulator.parameter_names, simulator.event_shape
        (('mean',), torch.Size([5]))
        >>> simulator.simulate([[0.0], [9.0]], seed=0).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        model: Callable[..., Any],
        observed: Collection[str] | Mapping[str, Any] | None = None,
        *,
        nuisance: Collection[str] = (),
        args: Collection[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        vectorised: bool | None = None,
        summarize: Callable[[Tensor], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model: expected a Pyro model; got {type(model).__name__}")
        if vectorised not in (True, False, None):
            raise TypeError(f"vectorised: expected True, False or None; got {vectorised!r}")
        for argument, names in (("observed", observed), ("nuisance", nuisance)):
            if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
                raise TypeError(f"{argument}: expected a list of names of sites; got {names!r}")
        self._begin(summarize)
        self.model = model
        self.code = fingerprint(model, list(args), dict(kwargs or {}))
        bound = functools.partial(model, *args, **(kwargs or {}))
        self._program = program = Program(bound, observed, nuisance, vectorised)
        self.name = str(name or getattr(model, "__name__", type(model).__name__))
        self.prior = ModelPrior(program)
        self.parameter_names = tuple(name for latent in program.latents for name in latent.names)
        self.vectorised, self.differentiable = program.vectorised, program.differentiable
        shapes = list(program.shapes.values())
        flat = torch.Size([sum(math.prod(shape) for shape in shapes)])
        self.event_shape = shapes[0] if len(shapes) == 1 and shapes[0] else flat
        data = program.join(observed) if isinstance(observed, Mapping) else program.data
        self._take_data(None if data is None else data.reshape(self.event_shape))

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        if not len(theta):
            return theta.new_zeros((0, *self.event_shape))
        given = self._program.prepared(theta if self.differentiable else theta.detach())
        x = self._at_once(given, stream) if self.vectorised else None
        if x is None:
            x = torch.stack([self._row(i, given[i], Stream.of(stream.key, i)) for i in range(len(given))])
        x = x.reshape(len(theta), *self.event_shape).to(theta)
        return x if self.differentiable else x.detach()

    def _at_once(self, theta: Tensor, stream: Stream) -> Tensor | None:
        try:
            return self._program.simulate(theta, stream.key)
        except Exception as error:
            logger.debug("%s raised %r; trying its %d rows one by one", self.name, error, len(theta))
            return None

    def _row(self, i: int, theta: Tensor, stream: Stream) -> Tensor:
        try:
            with one_row(i):
                return self._program.simulate(theta, stream.key)
        except Exception as error:
            return self._fail(i, theta, f"{type(error).__name__}: {error}").reshape(-1)

    @property
    def log_likelihood(self) -> Callable[[Tensor, Tensor], Tensor]:
        r"""``log_likelihood(theta, x)``: :math:`\log p(x \mid \theta)` with shape (n,).

        Theta has shape (n, d), x ``event_shape`` or (n, \*event_shape). It is minus infinity where theta is outside
        the prior's support, or x cannot be.

        Raises:
            AttributeError: If it is not known: there is nuisance, or an observed site is deterministic, or the model
                draws noise beside its sites.
        """
        if not self._program.knows_density:
            raise AttributeError(f"{self.name}: the likelihood is not known, since not all is drawn at observed sites")
        return self._log_likelihood

    def _log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        if x.shape[-len(self.event_shape) :] != self.event_shape or x.ndim > len(self.event_shape) + 1:
            raise ValueError(f"x: expected shape {tuple(self.event_shape)}, or n of it; got {tuple(x.shape)}")
        given = self._program.prepared(theta)
        flat = x.reshape(-1, math.prod(self.event_shape)).expand(len(theta), -1)
        return self._program.log_prob(given, flat.to(given)).to(theta)

    def parameters(self, theta: Any) -> dict[str, Tensor]:
        """Theta with shape (n, d) by the latent sites, each with shape (n, *its own)."""
        theta = self.check_theta(theta)
        parts = {latent.name: theta[:, latent.columns] for latent in self._program.latents}
        return {latent.name: parts[latent.name].reshape(len(theta), *latent.shape) for latent in self._program.latents}

    def data(self, x: Any) -> dict[str, Tensor]:
        r"""X with shape (n, \*event_shape) by the observed sites, each with shape (n, \*its own)."""
        x = as_tensor(x, "x")
        return self._program.split(x.reshape(len(x), math.prod(self.event_shape)))

    def settings(self) -> dict[str, Any]:
        """The model, by module and name, a fingerprint of its code and arguments, and how it is taken apart."""
        model = f"{getattr(self.model, '__module__', '?')}.{getattr(self.model, '__qualname__', self.name)}"
        return {
            "model": model,
            "code": self.code,
            "observed": list(self._program.observed),
            "nuisance": list(self._program.nuisance),
            "vectorised": self.vectorised,
            "name": self.name,
        }


class ModelPrior(Distribution):
    r"""The prior of a Pyro model's latent sites, as one distribution over vectors.

    .. math:: \log p(\theta) = \sum_i \log p(\theta_i \mid \theta_{<i})

    Args:
        program: The model; made by :class:`PyroSimulator`.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False

    def __init__(self, program: Program) -> None:
        self._program = program
        super().__init__(torch.Size(), torch.Size([program.dim]), validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """The product of the sites' supports.

        Raises:
            NotImplementedError: If that of a site depends on the values of others.
        """
        supports = []
        for latent in self._program.latents:
            if latent.support is None:
                raise NotImplementedError(f"the bounds of {latent.name!r} depend on other sites")
            supports.append(latent.support)
        lengths = [latent.size for latent in self._program.latents]
        return constraints.independent(constraints.cat(supports, dim=-1, lengths=lengths), 1)

    @functools.cached_property
    def mean(self) -> Tensor:
        """The mean with shape (d,); of 10,000 draws (1,000 row by row) at sites whose own depends on others."""
        means = [latent.mean for latent in self._program.latents]
        if all(mean is not None for mean in means):
            return torch.cat([mean for mean in means if mean is not None])
        drawn = self._program.sample_latents(DRAWS_FOR_MEAN[self._program.vectorised], 0).mean(0)
        parts = [drawn[latent.columns] if latent.mean is None else latent.mean for latent in self._program.latents]
        return torch.cat(parts)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws with shape (\*sample_shape, d)."""
        shape = torch.Size(sample_shape)
        key = int(torch.randint(2**63 - 1, ()))  # of torch's global generator, as its own distributions draw
        with torch.no_grad():
            return self._program.sample_latents(math.prod(shape), key).reshape(*shape, self._program.dim)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, with shape ``value.shape[:-1]``; minus infinity off the support."""
        theta = self._program.prepared(value.reshape(-1, self._program.dim))
        return self._program.log_prob(theta).to(value).reshape(value.shape[:-1])
