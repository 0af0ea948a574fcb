r"""Multi-scale structural similarity of images, and what it says of diversity: draws that all look alike.

At each scale, means, variances and covariances in a Gaussian window give

.. math:: l = \frac{2 \mu_x \mu_y + c_1}{\mu_x^2 + \mu_y^2 + c_1}, \quad
    cs = \frac{2 \sigma_{xy} + c_2}{\sigma_x^2 + \sigma_y^2 + c_2}, \quad
    \text{MS-SSIM} = \overline{l_S \, cs_S}^{\,w_S} \prod_{s < S} \overline{cs_s}^{\,w_s},

with :math:`c_i = (K_i \cdot \text{range})^2` and averages over the image, which is halved from scale to scale. The
paper's five scales and its window of 11 need images of 176 pixels; smaller ones get as many scales as fit a window of
at most 11 (at least 3), the weights scaled to sum to 1. Averages of cs below 0 are taken as 0.

References:
    | Multiscale structural similarity for image quality assessment (Wang, Simoncelli and Bovik, 2003)
    | https://doi.org/10.1109/ACSSC.2003.1292216
    | Conditional Image Synthesis with Auxiliary Classifier GANs (Odena, Olah and Shlens, 2017), for diversity
    | https://arxiv.org/abs/1610.09585
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from implicit_estimators.estimate import Estimate
from implicit_estimators.seeds import Seed, generator
from implicit_simulators.base import as_tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
K1, K2, SPREAD, WINDOW = 0.01, 0.03, 1.5, 11


def ms_ssim(first: Any, second: Any, *, value_range: float) -> Tensor:
    """Multi-scale structural similarity of pairs of images; see the module.

    Args:
        first: Images with shape (n, C, H, W), H and W at least 3.
        second: As many, of the same shape.
        value_range: The largest value that a pixel can have less the smallest one.

    Returns:
        Similarities with shape (n,), the mean over channels; 1 for identical images.

    Raises:
        ValueError: If shapes differ or are no images, a value is not finite, or the range is not positive.
    """
    x, y = (as_tensor(images, name).detach().double() for images, name in ((first, "first"), (second, "second")))
    if x.shape != y.shape or x.ndim != 4 or min(x.shape[2:]) < 3:
        raise ValueError(
            f"first, second: expected one shape (n, C, H, W) from 3 pixels on; got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    if not bool(x.isfinite().all() & y.isfinite().all()):
        raise ValueError("first, second: expected finite values")
    if not value_range > 0:
        raise ValueError(f"value_range: expected a positive number; got {value_range}")
    small = min(x.shape[2:])
    window = min(WINDOW, small if small % 2 else small - 1)
    scales = max(s for s in range(1, len(WEIGHTS) + 1) if s == 1 or small // 2 ** (s - 1) >= window)
    weights = torch.tensor(WEIGHTS[:scales], dtype=x.dtype, device=x.device)
    parts = []
    for scale in range(scales):
        if scale:
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        whole, structure = _similarity(x, y, window, value_range)
        parts.append((whole if scale == scales - 1 else structure).clamp(min=0))
    powers = weights / weights.sum()
    return (torch.stack(parts, -1) ** powers).prod(-1).mean(1)


def diversity(images: Any, *, value_range: float, pairs: int = 500, seed: Seed = 0) -> Estimate:
    """Mean similarity of random pairs of different images of one set: near 1, all look alike.

    Args:
        images: Images with shape (n, C, H, W), n at least 2.
        value_range: The largest value that a pixel can have less the smallest one.
        pairs: Pairs that are drawn.
        seed: Seed of the pairs.

    Returns:
        The mean and its standard error over pairs. Hold it against that of the data: what is alike there may be here.

    Raises:
        ValueError: If there are fewer than 2 images or pairs, or :func:`ms_ssim` refuses them.
    """
    x = as_tensor(images, "images").detach()
    if len(x) < 2 or pairs < 2:
        raise ValueError(f"images, pairs: expected at least 2 of each; got {len(x)} and {pairs}")
    random = generator(seed, "cpu")
    one = torch.randint(len(x), (pairs,), generator=random)
    other = (one + torch.randint(1, len(x), (pairs,), generator=random)) % len(x)
    return Estimate.mean(ms_ssim(x[one.to(x.device)], x[other.to(x.device)], value_range=value_range))


def _similarity(x: Tensor, y: Tensor, window: int, value_range: float) -> tuple[Tensor, Tensor]:
    """Means over the image of luminance times contrast and structure, and of the latter, each with shape (n, C)."""
    c1, c2 = ((k * value_range) ** 2 for k in (K1, K2))
    at = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    bell = (-0.5 * (at / SPREAD) ** 2).exp()
    bell = bell / bell.sum()

    def smooth(z: Tensor) -> Tensor:
        flat = z.reshape(-1, 1, *z.shape[2:])
        for kernel in (bell[None, None, :, None], bell[None, None, None, :]):
            flat = conv2d(flat, kernel)
        return flat.reshape(*z.shape[:2], *flat.shape[2:])

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x, variance_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))
