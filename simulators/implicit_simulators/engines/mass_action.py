r"""Mass action: the rates of a reaction network from what its reactions take, as a function that engines compile.

A reaction that takes :math:`r_i` individuals of species i happens to each choice of them at rate c:

.. math:: h(x) = c \prod_i \binom{x_i}{r_i}

so c x for a decay, c x y for a meeting of two species and c x (x - 1) / 2 for a dimerisation. In the limit of many
individuals, where rate equations hold, the binomial coefficients are powers, :math:`x_i^{r_i} / r_i!`.

References:
    | A general method for numerically simulating the stochastic time evolution of coupled chemical reactions
      (Gillespie, 1976)
    | https://doi.org/10.1016/0021-9991(76)90041-3
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from implicit_simulators.engines.jump import Propensities


@lru_cache(maxsize=64)
def mass_action(reactants: tuple[tuple[int, ...], ...], continuous: bool = False) -> Propensities:
    """The rates of R reactions among k species, with one rate constant a reaction.

    Args:
        reactants: How many individuals of each species a reaction takes, as R tuples of k ints.
        continuous: Whether counts are so large that powers take the place of binomial coefficients.

    Returns:
        ``(x_1, ..., x_k, c_1, ..., c_R) -> (h_1, ..., h_R)``, plain arithmetic on floats or on columns of tensors; the
        same function for the same reactants, so that it is compiled once.

    Example:
        >>> mass_action(((2, 0), (1, 1), (0, 0)))(5.0, 3.0, 0.1, 1.0, 7.0)
        (1.0, 15.0, 7.0)
    """
    species = [f"x_{i + 1}" for i in range(len(reactants[0]))]
    constants = [f"c_{r + 1}" for r in range(len(reactants))]
    rates = []
    for constant, row in zip(constants, reactants, strict=True):
        factors = [constant]
        for name, taken in zip(species, row, strict=True):
            factors += [name if continuous or not j else f"({name} - {j}.0)" for j in range(taken)]
            factors += [repr(1 / math.factorial(taken))] * (taken > 1)
        rates.append(" * ".join(factors))
    namespace: dict[str, Any] = {}
    exec(f"def rates({', '.join(species + constants)}):\n    return ({', '.join(rates)},)", namespace)
    return namespace["rates"]
