"""Pairs of distributions whose density ratio is known: what estimators are tested and compared on.

.. code-block:: python

    problem = PROBLEMS["a"]
    p, q = problem.samples(10_000, 10_000, seed=0)
    problem.log_ratio(p)                        # exact, in nats
    problem.kl                                  # its mean over p, exact
"""

from implicit_estimators.problems.dependence import DEPENDENCE
from implicit_estimators.problems.gaussians import GAUSSIANS
from implicit_estimators.problems.mixtures import MIXTURES
from implicit_estimators.problems.problem import Problem

PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (*GAUSSIANS, *MIXTURES, *DEPENDENCE)}
"""Every problem there is, by name."""

__all__ = ["PROBLEMS", "Problem"]
