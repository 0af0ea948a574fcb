r"""Logistic regression on all squares and products of the columns, without ever writing them down.

.. math:: \delta(u) = a + b^\top u + \frac{u^\top C u - \operatorname{tr} C}{\sqrt 2}

where u is white, so that the features have variance near 1 and a gradient step is near a Newton step. Values, gradients
and products with the Hessian cost a matrix product of the size of the samples each, O(n k^2), whereas the
k (k + 1) / 2 features of the samples would fill memory, and their Hessian more so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.ratio.densities.coordinates import Tensors

CLOSE = 1e-4
"""Where to stop: the log likelihood of all samples together is within this (nats) of its maximum."""


@dataclass(frozen=True)
class Tilt(Tensors):
    """A quadratic function of k coordinates, in float64.

    Attributes:
        constant: a, with shape ().
        linear: b, with shape (k,).
        quadratic: C, symmetric, with shape (k, k).
    """

    constant: Tensor
    linear: Tensor
    quadratic: Tensor

    @classmethod
    def zero(cls, u: Tensor) -> Tilt:
        """The function 0 of points like u."""
        k = u.shape[1]
        return cls(u.new_zeros(()), u.new_zeros(k), u.new_zeros(k, k))

    def __call__(self, u: Tensor) -> Tensor:
        """The value at u of shape (n, k), with shape (n,)."""
        squares = ((u @ self.quadratic) * u).sum(1) - self.quadratic.trace()
        return self.constant + u @ self.linear + squares / math.sqrt(2)

    def plus(self, step: float | Tensor, other: Tilt) -> Tilt:
        """This function and ``step`` times the other."""
        return Tilt(
            self.constant + step * other.constant,
            self.linear + step * other.linear,
            self.quadratic + step * other.quadratic,
        )

    def dot(self, other: Tilt) -> Tensor:
        """Inner product of the coefficients."""
        products = self.linear @ other.linear + (self.quadratic * other.quadratic).sum()
        return self.constant * other.constant + products

    @staticmethod
    def adjoint(u: Tensor, weights: Tensor) -> Tilt:
        """The slope of the values at u, summed with ``weights`` (n,), in the coefficients."""
        total = weights.sum()
        squares = u.T @ (u * weights[:, None])
        squares.diagonal().sub_(total)
        return Tilt(total, weights @ u, squares / math.sqrt(2))


def fit_tilt(
    p: Tensor, q: Tensor, offset_p: Tensor, offset_q: Tensor, deviation: float, start: Tilt, steps: int = 50
) -> Tilt:
    r"""The tilt of largest posterior density: logistic regression of the label, given an offset of each logit.

    .. math:: \min_\delta \sum_p \log(1 + e^{-o - \delta}) + \sum_q \log(1 + e^{o + \delta})
        + \frac{a^2 + \|b\|^2 + \|C\|^2}{2 \tau^2}

    which is strictly convex, so there is one answer also where the sets are separable. By Newton's method with the
    steps found by conjugate gradients and halved until they descend.

    Args:
        p: White samples labelled 1, with shape (n, k).
        q: White samples labelled 0, with shape (m, k).
        offset_p: o at p, with shape (n,).
        offset_q: o at q, with shape (m,).
        deviation: The prior standard deviation tau of each coefficient.
        start: Where to start; any start gives the same answer.
        steps: Largest number of Newton steps.
    """
    u = torch.cat([p, q])
    sign = torch.cat([torch.ones_like(offset_p), -torch.ones_like(offset_q)])
    offset = torch.cat([offset_p, offset_q])
    precision = 1 / deviation**2
    tilt, value = start, start(u)
    loss = _loss(sign, offset + value, tilt, precision)
    for _ in range(steps):
        logit = offset + value
        share = logit.sigmoid()
        weights = share * (-logit).sigmoid()
        slope = Tilt.adjoint(u, -sign * (-sign * logit).sigmoid()).plus(precision, tilt)
        step = _newton_step(u, weights, precision, slope)
        decrement = -step.dot(slope)
        if not float(decrement) > 2 * CLOSE:
            break
        change, size = step(u), 1.0
        while size > 1e-6:
            candidate = tilt.plus(size, step)
            lower = _loss(sign, offset + value + size * change, candidate, precision)
            if lower <= loss - 0.1 * size * decrement:
                tilt, value, loss = candidate, value + size * change, lower
                break
            size /= 2
        else:
            break
    return tilt


def _loss(sign: Tensor, logit: Tensor, tilt: Tilt, precision: float) -> Tensor:
    return softplus(-sign * logit).sum() + 0.5 * precision * tilt.dot(tilt)


def _newton_step(u: Tensor, weights: Tensor, precision: float, slope: Tilt) -> Tilt:
    """Solve (H + precision) step = -slope by conjugate gradients, to a tenth: Newton's method makes up for the rest."""
    step, residual = Tilt.zero(u), Tilt.zero(u).plus(-1, slope)
    direction, size = residual, residual.dot(residual)
    enough = 0.01 * size
    for _ in range(200):
        if not float(size) > float(enough):
            break
        curved = Tilt.adjoint(u, weights * direction(u)).plus(precision, direction)
        length = size / direction.dot(curved)
        step, residual = step.plus(length, direction), residual.plus(-length, curved)
        size, before = residual.dot(residual), size
        direction = residual.plus(size / before, direction)
    return step
