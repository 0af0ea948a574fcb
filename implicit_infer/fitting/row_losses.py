r"""What one draw adds to a comparison's loss: what a score-function gradient needs in place of a slope.

A proposal :math:`q_\psi` over theta makes the law :math:`q_\psi(y) = \int p(y \mid \theta) q_\psi(\theta) d\theta`. For
a loss L of that law,

.. math:: \nabla_\psi L(q_\psi) = \mathbb{E}_{\theta \sim q_\psi} \mathbb{E}_{y \mid \theta}
    [h(y) \nabla_\psi \log q_\psi(\theta)], \qquad h(y) = \frac{\delta L}{\delta q}(y),

with h the first variation of L, up to a constant. No slope of y is needed, but the *value* of h is: a loss that gets
its gradient along samples right by other means (``DivergenceLoss`` reports f(r), and lets the slope of h flow back)
must be asked for h itself. In closed form:

- means over draws, :math:`L = \mathbb{E}_q[\ell(c(y))]`, of nearly all trained critics: :math:`h = \ell(c(y))`;
- f-divergences: :math:`h = f(r) - r f'(r)`;
- maximum likelihood by importance, :math:`L = -\log \mathbb{E}_q[e^s]`: :math:`h = -e^{s(y)} / \mathbb{E}_q[e^s]`;
- relativistic, over all pairs: :math:`h = \mathbb{E}_{x \sim p}[\operatorname{softplus}(c(x) - c(y))]`; relativistic
  average: :math:`\operatorname{softplus}(\bar c_p - c(y)) - \mathbb{E}_p[\sigma(c(x) - \bar c_q)] \, c(y)`;
- squared MMD, also of a critic's features: the witness,
  :math:`h = 2 (\mathbb{E}_{y'} k(y, y') - \mathbb{E}_x k(y, x))`;
- energy and Cramér distances: the same with :math:`k = -|x - y|^\beta`;
- squared difference of means of features: :math:`h = 2 (\mathbb{E}_q \phi - \mathbb{E}_p \phi)^\top \phi(y)`.

Expectations over :math:`y'` leave out the draw's own theta. Every other comparison (moments, sliced Wasserstein,
Sinkhorn, a user's) is asked again without each draw: Tukey's pseudo-values :math:`n L - (n - 1) L_{-i}` are h at draw i
to first order, equal it for means, and give an unbiased gradient of the expected loss of a batch for any L whatever,
since :math:`L_{-i}` does not depend on draw i. They cost n evaluations of the loss in place of one.

References:
    | Bias and confidence in not-quite large samples (Tukey, 1958), for pseudo-values
    | https://doi.org/10.1214/aoms/1177706647
    | A kernel two-sample test (Gretton et al., 2012), for the witness
    | https://jmlr.org/papers/v13/gretton12a.html
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.comparisons import (
    MMDGAN,
    Adversarial,
    Comparison,
    CramerGAN,
    EnergyMatching,
    FeatureMatching,
    MMDMatching,
)
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.divergences import divergence
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.generator_losses.divergence import DivergenceLoss
from implicit_estimators.generator_losses.importance import MaximumLikelihood
from implicit_estimators.generator_losses.relativistic import Relativistic, RelativisticAverage


@torch.no_grad()
def draw_losses(comparison: Comparison, at_data: Tensor, at_model: Tensor) -> Tensor:
    """What each draw of theta adds to the loss, up to a constant that all share.

    Args:
        comparison: The comparison.
        at_data: The critic's outputs at rows of data, with shape (m,) or (m, outputs); the rows themselves, with shape
            (m, width), where nothing is trained.
        at_model: The same at rows of the model: those of one draw side by side, with shape (n, each) or
            (n, each, width).

    Returns:
        The mean of h over the rows of each draw, with shape (n,).
    """
    if isinstance(comparison, Adversarial) and at_model.ndim == 2:
        model = comparison.learns.log_ratio(at_model)
        found = _of_critic(comparison.moves, model, comparison.learns.log_ratio(at_data))
        if found is not None:
            return found.mean(1)
    if isinstance(comparison, (MMDMatching, MMDGAN, EnergyMatching, CramerGAN)):
        return _of_kernel(comparison, at_data, at_model)
    if isinstance(comparison, FeatureMatching):
        at_theta = at_model[..., 1:].mean(1)
        others = (at_theta.sum(0) - at_theta) / max(len(at_theta) - 1, 1)
        return 2 * ((others - at_data[:, 1:].mean(0)) * at_theta).sum(1)
    return pseudo_values(comparison, at_data, at_model)


@torch.no_grad()
def pseudo_values(comparison: Comparison, at_data: Tensor, at_model: Tensor) -> Tensor:
    """The loss of all draws n times, less that of all but one n - 1 times, with shape (n,).

    Each time the comparison is in the state that it was in before, so that what it draws is the same.

    Args:
        comparison: Any.
        at_data: See :func:`draw_losses`.
        at_model: See :func:`draw_losses`.
    """
    n = len(at_model)
    if n < 3:
        raise ValueError(f"draws: expected 3 or more to leave one out; got {n}")
    before = {key: value.clone() for key, value in comparison.state_dict().items()}
    whole = comparison.generator_objective(at_data, at_model.flatten(0, 1))
    after = {key: value.clone() for key, value in comparison.state_dict().items()}
    if not before:  # what the first call has placed or seeded is where all of them begin
        before = after
        whole = _anew(comparison, before, at_data, at_model)
        after = {key: value.clone() for key, value in comparison.state_dict().items()}
    left_out = []
    for i in range(n):
        rest = torch.cat([at_model[:i], at_model[i + 1 :]])
        left_out.append(_anew(comparison, before, at_data, rest))
    comparison.load_state_dict(after)
    return n * whole - (n - 1) * torch.stack(left_out)


def _anew(comparison: Comparison, state: dict[str, Tensor], at_data: Tensor, at_model: Tensor) -> Tensor:
    comparison.load_state_dict({key: value.clone() for key, value in state.items()})
    return comparison.generator_objective(at_data, at_model.flatten(0, 1))


def _of_critic(moves: GeneratorLoss, at_model: Tensor, at_data: Tensor) -> Tensor | None:
    """H of each row, elementwise; None for a loss that is not known to be a mean."""
    if isinstance(moves, DivergenceLoss):
        return divergence(moves.divergence).generator_integrand(at_model)
    if isinstance(moves, MaximumLikelihood):
        return -at_model.numel() * at_model.flatten().softmax(0).reshape(at_model.shape)
    if isinstance(moves, Relativistic):
        return softplus(at_data - at_model[..., None]).mean(-1)
    if isinstance(moves, RelativisticAverage):
        pull = torch.sigmoid(at_data - at_model.mean()).mean()
        return softplus(at_data.mean() - at_model) - pull * at_model
    if type(moves).loss is GeneratorLoss.loss:
        return moves.each(at_model)
    return None


def kernel_of(comparison: Comparison, x: Tensor, y: Tensor) -> Tensor | None:
    """The kernel of which the comparison is the squared MMD, at all pairs; None where it is none.

    Args:
        comparison: The comparison.
        x: Rows of data (what the critic says of them, if there is one), with shape (n, width).
        y: Rows of either side, with shape (m, width).

    Returns:
        With shape (m, n).
    """
    if isinstance(comparison, (EnergyMatching, CramerGAN)):
        return -torch.cdist(y, x).pow(comparison.beta if isinstance(comparison, EnergyMatching) else 1.0)
    if isinstance(comparison, (MMDMatching, MMDGAN)):
        kernel = comparison.kernel if isinstance(comparison, MMDGAN) else comparison.kernel_for(x)
        return kernel.matrix(y, x)
    return None


def _of_kernel(comparison: Comparison, at_data: Tensor, at_model: Tensor) -> Tensor:
    """The witness, with the draws of other thetas for the model's own side."""
    n = len(at_model)
    x, y = matrices(at_data, at_model.flatten(0, 1), 1)
    # the data first: they are what a kernel that has none yet places its bandwidths by
    across, within = kernel_of(comparison, x, y), kernel_of(comparison, y, y)
    assert across is not None
    assert within is not None
    between = within.reshape(n, len(y) // n, n, len(y) // n).mean((1, 3))
    others = (between.sum(1) - between.diagonal()) / max(n - 1, 1)
    return (2 * (others - across.mean(1).reshape(n, -1).mean(1))).to(at_model.dtype)
