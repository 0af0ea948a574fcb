"""What a comparison sees of samples: standardised, with instance noise, packed, beside what they were made given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from implicit_estimators.networks.standardise import Standardiser


@dataclass
class Sight:
    r"""What the comparison sees of a sample: :math:`(x - m) / s + \sigma \epsilon`, and ``packing`` of them at a time.

    References:
        | Amortised MAP Inference for Image Super-resolution (Sønderby et al., 2017), for instance noise
        | https://arxiv.org/abs/1610.04490
        | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018)
        | https://arxiv.org/abs/1712.04086

    Attributes:
        centre: m, with the samples' event shape, or one that broadcasts to it.
        scale: s, positive, the same.
        packing: Samples that the critic sees at a time (PacGAN), side by side along the first event axis.
        noise: Standard deviation :math:`\sigma` of the instance noise now, in standardised units: the loop lowers it.
        random: Source of the noise.
        condition_centre: What is taken off conditions, or None where there are none.
        condition_scale: What they are then divided by.
        classes: How many labels there are, where the condition is a label: it is then seen as one-hot columns.
    """

    centre: Tensor
    scale: Tensor
    packing: int = 1
    noise: float = 0.0
    random: torch.Generator | None = None
    condition_centre: Tensor | None = None
    condition_scale: Tensor | None = None
    classes: int | None = None

    @classmethod
    def of(
        cls,
        samples: Tensor,
        condition: Tensor | None,
        *,
        standardise: bool = True,
        packing: int = 1,
        noise: float = 0.0,
        random: torch.Generator | None = None,
        classes: int | None = None,
    ) -> Sight:
        """Of samples as these: each column standardised, or each channel of images.

        Args:
            samples: Samples of the data, with shape (n, *event_shape).
            condition: Their conditions with shape (n, width), or None.
            standardise: Whether to; if not, m is 0 and s is 1.
            packing: See the class.
            noise: See the class.
            random: See the class.
            classes: See the class.
        """
        centre, scale = torch.zeros((), device=samples.device), torch.ones((), device=samples.device)
        if standardise:
            columns = samples.movedim(1, -1).reshape(-1, samples.shape[1])
            units = Standardiser.fit(columns)
            shape = (samples.shape[1], *[1] * (samples.ndim - 2))
            centre, scale = units.location.reshape(shape), units.scale.reshape(shape)
        if condition is None or classes is not None:
            return cls(centre, scale, packing, noise, random, classes=classes)
        units = Standardiser.fit(condition)
        return cls(centre, scale, packing, noise, random, units.location, units.scale)

    def __call__(self, samples: Tensor) -> Tensor:
        """The samples as the critic gets them, with shape (n / packing, packing * first, ...)."""
        seen = (samples - self.centre) / self.scale
        if self.noise:
            seen = seen + self.noise * torch.randn(
                seen.shape, generator=self.random, device=seen.device, dtype=seen.dtype
            )
        return self.packed(seen)

    def given(self, condition: Tensor | None) -> Tensor | None:
        """Conditions as the critic gets them."""
        if condition is None:
            return None
        if self.classes is not None:
            return self.packed(one_hot(condition.reshape(-1).round().long(), self.classes).to(condition.dtype))
        if self.condition_centre is not None and self.condition_scale is not None:
            condition = (condition - self.condition_centre) / self.condition_scale
        return self.packed(condition)

    def given_width(self, width: int) -> int:
        """Width of what the critic gets of a condition that has this width."""
        return width if self.classes is None else self.classes

    def packed(self, rows: Tensor) -> Tensor:
        """Rows side by side, ``packing`` at a time; what is left over is dropped."""
        if self.packing == 1:
            return rows
        whole = len(rows) // self.packing
        return rows[: whole * self.packing].reshape(whole, self.packing * rows.shape[1], *rows.shape[2:])
