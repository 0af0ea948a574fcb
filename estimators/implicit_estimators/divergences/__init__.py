r"""f-divergences, written in the log-ratio so that nothing overflows and every part of one fits with the others.

With :math:`r = p / q` and a convex generator f with :math:`f(1) = 0`,

.. math:: D_f(p \| q) = \mathbb{E}_q[f(r)] = \sup_T \; \mathbb{E}_p[T] - \mathbb{E}_q[f^*(T)],
    \quad f^*(t) = \sup_{u \ge 0} \; u t - f(u),

and the supremum is reached by the critic :math:`T^* = f'(r)`. Every function here takes :math:`s = \log r`.

Conventions. Each f is *centred*: besides :math:`f(1) = 0` also :math:`f'(1) = 0`, which any f allows, because adding
:math:`c (u - 1)` changes neither :math:`D_f` nor the bound. Then :math:`f \ge 0` everywhere, an estimate of :math:`D_f`
cannot be negative, and the critic is 0 where p = q. Compared with the table of the f-GAN paper:

- KL and reverse KL are centred: :math:`u \log u - u + 1` for :math:`u \log u`, so :math:`T^* = \log r` for
  :math:`1 + \log r`.
- Jensen-Shannon is the divergence itself, at most log 2; the table's f gives *twice* that.
- Squared Hellinger is :math:`\frac{1}{2} \int (\sqrt p - \sqrt q)^2`, at most 1; the table's is twice that.
- Pearson is :math:`\int (p - q)^2 / q`; the table prints the denominator p, though its f is this one. With the
  denominator p it is Neyman's.
- The table's "GAN", :math:`u \log u - (u + 1) \log (u + 1)`, is twice Jensen-Shannon less log 4: no object of its own.
- Conjugates are suprema over :math:`u \ge 0`, so Pearson's is -1 (not a parabola) below t = -2.

Exponentials above the range of the dtype go on along their tangent (:func:`exp_minus_one`), so that values and
gradients stay finite and keep their sign at :math:`|\log r| = 100` in float32. Below 60 (float32) or 482 (float64) in
the exponent they are exact, and below half of that where a square is involved (Pearson, Neyman).

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016)
    | https://arxiv.org/abs/1606.00709
    | Estimating Divergence Functionals and the Likelihood Ratio by Convex Risk Minimization (Nguyen et al., 2010)
    | https://arxiv.org/abs/0809.0853
"""

from __future__ import annotations

from implicit_estimators.divergences.alpha import Alpha
from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.chi_squared import Neyman, Pearson
from implicit_estimators.divergences.hellinger import SquaredHellinger
from implicit_estimators.divergences.jensen_shannon import JensenShannon
from implicit_estimators.divergences.kullback_leibler import KL, Jeffreys, ReverseKL
from implicit_estimators.divergences.tamed import exp_minus_one, softplus
from implicit_estimators.divergences.total_variation import TotalVariation
from implicit_estimators.names import unknown

DIVERGENCES: dict[str, Divergence] = {
    "kl": KL(),
    "reverse-kl": ReverseKL(),
    "js": JensenShannon(),
    "pearson": Pearson(),
    "neyman": Neyman(),
    "hellinger": SquaredHellinger(),
    "jeffreys": Jeffreys(),
    "tv": TotalVariation(),
    "alpha": Alpha(),
}
"""Every divergence there is, by name."""


def divergence(name: str | Divergence) -> Divergence:
    """The divergence called ``name``; one that is given is returned as it is.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Divergence):
        return name
    if name not in DIVERGENCES:
        raise unknown(name, DIVERGENCES, "divergence")
    return DIVERGENCES[name]


__all__ = [
    "DIVERGENCES",
    "KL",
    "Alpha",
    "Divergence",
    "Jeffreys",
    "JensenShannon",
    "Neyman",
    "Pearson",
    "ReverseKL",
    "SquaredHellinger",
    "TotalVariation",
    "divergence",
    "exp_minus_one",
    "softplus",
]
