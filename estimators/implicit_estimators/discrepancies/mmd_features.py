r"""Maximum mean discrepancy by random Fourier features: the distance of two mean vectors, in linear time.

.. math:: \varphi(x) = \frac{1}{\sqrt{D}} \left(\cos \omega_i \cdot x, \sin \omega_i \cdot x\right)_{i \le D}, \quad
    \mathbb{E}_\omega \, \varphi(x) \cdot \varphi(y) = k(x, y)

With frequencies drawn from the kernel's spectral law, inner products of features are the kernel up to an error of
:math:`1 / \sqrt{2 D}` at most, whatever the number of samples. The same frequencies serve all samples: values are
comparable, and a model can descend them, but two laws that differ only at other frequencies are at distance 0.

References:
    | Random Features for Large-Scale Kernel Machines (Rahimi and Recht, 2007)
    | https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    | On the Error of Random Fourier Features (Sutherland and Schneider, 2015), for cosines with sines
    | https://arxiv.org/abs/1506.02785
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair
from implicit_estimators.kernels import Gaussian, Kernel
from implicit_estimators.seeds import resolve_seed


@dataclass(frozen=True)
class FeatureMMD:
    r"""The squared distance of mean random Fourier features.

    Args:
        kernel: A kernel with a spectral law: Gaussian, rational quadratic, Laplace.
        features: Frequencies, D.
        unbiased: Leave out each sample's product with itself, which is 1.
        seed: Seed of the frequencies: an int, so that all calls have the same.

    Raises:
        TypeError: If the kernel has no spectral law, or the seed is no int.
        ValueError: If ``features`` is not positive.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(4, 1), torch.ones(4, 1)
        >>> value = FeatureMMD(Gaussian((1.0,)), features=10_000).squared(x, y)
        >>> bool((value - 0.7869).abs() < 0.03)  # 1 + 1 - 2 exp(-1/2), to three standard errors
        True
    """

    kernel: Kernel = field(default_factory=Gaussian)
    features: int = 1024
    unbiased: bool = True
    seed: int = 0

    name: ClassVar[str] = "feature-mmd"

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features: expected a positive int; got {self.features}")
        if isinstance(self.seed, torch.Generator) or self.seed is None:
            raise TypeError(f"seed: expected an int, for all calls to have the same; got {type(self.seed).__name__}")
        resolve_seed(self.seed)
        self.kernel.frequencies(1, 1, 0)

    def squared(self, x: Any, y: Any) -> Tensor:
        """The squared discrepancy.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 2 rows and ``unbiased`` is set.
        """
        x, y = as_pair(x, y, ("x", "y"), rows=2 if self.unbiased else 1)
        y = y.to(x)
        # a translation turns cosines and sines into each other and changes no product; near 0 they keep their digits
        centre = y.detach().mean(0)
        frequencies = self.kernel.frequencies(self.features, x.shape[1], self.seed).to(x)
        of_x, of_y = ((side - centre) @ frequencies.T for side in (x, y))
        means = [torch.cat([angles.cos().mean(0), angles.sin().mean(0)]) for angles in (of_x, of_y)]
        if not self.unbiased:
            return (means[0] - means[1]).square().sum() / self.features
        within = [
            (n * mean.square().sum() / self.features - 1) / (n - 1)
            for n, mean in zip((len(x), len(y)), means, strict=True)
        ]
        return within[0] + within[1] - 2 * (means[0] @ means[1]) / self.features
