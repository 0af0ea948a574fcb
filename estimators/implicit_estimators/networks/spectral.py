r"""Spectral normalisation of whole networks: every weight matrix divided by its largest singular value.

A network whose linear maps and activations have slope at most 1 has slope at most 1 itself. What is divided by is the
largest singular value as one step of the power iteration a forward pass (in training mode) tracks it; a convolution's
weight counts as the matrix (channels out, channels in x kernel), as in the paper.
"""

from __future__ import annotations

from torch import nn

from implicit_estimators.seeds import Seed, forked, resolve_seed

NORMALISED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weights are normalised."""


def normalise_spectrally(network: nn.Module, seed: Seed = None) -> None:
    r"""Make every linear and convolutional layer of ``network`` a spectrally normalised one, in place.

    .. math:: W \leftarrow W / \sigma(W), \quad \sigma(W) = \max_{\|h\| = 1} \|W h\|

    Slope at most 1 of every *weight matrix* bounds that of the network where the rest has it too: the activations
    relu, leaky_relu, elu, tanh and maxout have (silu reaches 1.10, gelu 1.13), layer norms and sums with a layer's
    input (residual layers) do not. A convolution whose kernel overlaps its neighbours' sees each number several times:
    with width k and stride s its slope is up to :math:`\lceil k / s \rceil^{\text{axes} / 2}`.

    Args:
        network: What is changed.
        seed: Seed of the vectors that the power iteration starts from.

    References:
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """
    with forked(resolve_seed(seed)):
        for module in list(network.modules()):
            if isinstance(module, NORMALISED):
                nn.utils.parametrizations.spectral_norm(module)
