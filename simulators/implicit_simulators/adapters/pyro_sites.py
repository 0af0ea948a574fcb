"""Which sites of a Pyro model are parameters and which are data."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import constraints

if TYPE_CHECKING:
    from implicit_simulators.adapters.pyro_run import Run, Site


@dataclass(frozen=True)
class Latent:
    """A site whose values are parameters.

    Attributes:
        name: Of the site.
        shape: Of its value.
        columns: Its places in theta.
        support: What each of its numbers may be, or None if that depends on other sites.
        mean: Its mean, with shape (size,), or None if that depends on other sites.
    """

    name: str
    shape: torch.Size
    columns: slice
    support: constraints.Constraint | None
    mean: Tensor | None

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return self.columns.stop - self.columns.start

    @property
    def names(self) -> list[str]:
        """Like beta for one number; beta_1, beta_2, ... for a vector; beta_1_1, beta_1_2, ... for a matrix."""
        stem = re.sub(r"\W", "_", self.name)
        stem = stem if stem.isidentifier() else f"_{stem}"
        places = torch.cartesian_prod(*[torch.arange(1, n + 1) for n in self.shape]) if self.shape else None
        if places is None:
            return [stem]
        return ["_".join([stem, *map(str, place)]) for place in places.reshape(self.size, -1).tolist()]


def find_observed(first: Run, observed: Collection[str] | None) -> tuple[str, ...]:
    """The names of the sites that are data: those that are named, or those that the model observes.

    Raises:
        ValueError: If there are none, or they are not what the model observes.
    """
    inside = [name for name, site in first.sites.items() if site.data is not None]
    if observed is None:
        if not inside:
            raise ValueError(f"observed: the model observes nothing; name sites among {', '.join(first.sites)}")
        return tuple(inside)
    names = (observed,) if isinstance(observed, str) else tuple(observed)
    for name in names:
        if name not in first.sites:
            raise ValueError(f"observed: expected sites among {', '.join(first.sites)}; got {name!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"observed: expected names of different sites; got {list(names)}")
    for name in inside:
        if name not in names:
            raise ValueError(f"observed: the model observes {name!r}, too; name it or take its data away")
    return names


def find_latents(first: Run, second: Run, others: Collection[str]) -> tuple[Latent, ...]:
    """The sites that are parameters, all but ``others``, from two runs.

    Raises:
        ValueError: If there are none, or one has no density of its numbers, or two parameters would have one name.
    """
    latents: list[Latent] = []
    start = 0
    for name, site in first.sites.items():
        if name in others or site.deterministic:
            continue
        if site.fn.support.is_discrete:
            raise ValueError(f"model: {name!r} is discrete, which parameters are not; list it in nuisance=")
        if site.mask is not None:
            raise ValueError(f"model: {name!r} is masked, so that its density is none; list it in nuisance=")
        size = site.value.numel()
        again = second.sites[name]
        support = _elementwise(site, name)
        fixed = _same_bounds(support, _elementwise(again, name))
        columns = slice(start, start + size)
        latents.append(Latent(name, site.value.shape, columns, support if fixed else None, _mean(site, again)))
        start += size
    if not latents:
        raise ValueError("model: no latent site is left to be a parameter")
    names = [name for latent in latents for name in latent.names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"model: two parameters would be named {twice!r}; rename a site")
    return tuple(latents)


def _elementwise(site: Site, name: str) -> constraints.Constraint:
    """The support of each number of a site, bounds as vectors."""
    support = site.fn.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if isinstance(support, type(constraints.real)):
        return support
    bounds = [getattr(support, bound) for bound in ("lower_bound", "upper_bound") if hasattr(support, bound)]
    if not bounds:
        raise ValueError(
            f"model: the numbers of {name!r} are bound to each other ({support}), so that they have no density of "
            "their own; write it with free numbers, or list it in nuisance="
        )
    shape = site.value.shape
    made: constraints.Constraint = type(support)(*[torch.as_tensor(b).broadcast_to(shape).reshape(-1) for b in bounds])
    return made


def _same_bounds(a: Any, b: Any) -> bool:
    bounds = ("lower_bound", "upper_bound")
    return all(torch.equal(getattr(a, bound), getattr(b, bound)) for bound in bounds if hasattr(a, bound))


def _mean(a: Site, b: Site) -> Tensor | None:
    """A site's mean, if it has one and it is the same in two runs."""
    try:
        means = [site.fn.mean.broadcast_to(site.value.shape).reshape(-1) for site in (a, b)]
    except (NotImplementedError, AttributeError):
        return None
    return means[0].detach() if torch.allclose(means[0], means[1], equal_nan=True) else None
