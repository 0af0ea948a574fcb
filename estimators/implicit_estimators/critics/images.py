r"""The critic of images: convolutions that halve the picture until 4 x 4 are left, then one number.

The discriminator of DCGAN, without its batch normalisation (with which a sample's output depends on the others of its
batch, and a penalty on its slope means nothing).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import ACTIVATIONS
from implicit_estimators.networks.spectral import normalise_spectrally
from implicit_estimators.seeds import Seed, forked, resolve_seed


class ConvCritic(nn.Module):
    r"""Logits of images, given a condition or not.

    Each 4 x 4 convolution with stride 2 halves the image and doubles the channels, until the smaller side is 4; a last
    one over all that is left gives the outputs. A condition y (a vector; classes as one-hot rows) enters as constant
    channels beside the image's, or by projection: :math:`\psi(\phi(x)) + y^\top V \phi(x)` with :math:`\phi` what the
    last layer sees, which is the form of :math:`\log p(x \mid y) / q(x \mid y)` where y is a class.

    References:
        | Unsupervised Representation Learning with Deep Convolutional GANs (Radford, Metz and Chintala, 2016)
        | https://arxiv.org/abs/1511.06434
        | cGANs with Projection Discriminator (Miyato and Koyama, 2018)
        | https://arxiv.org/abs/1802.05637

    Args:
        event_shape: Channels, height and width of an image; height and width powers of two, 8 or more.
        conditions: Width of a condition; 0 for none.
        width: Channels after the first convolution.
        outputs: Numbers for each image: 1, or the width of the features.
        activation: A name in ``networks.mlp.ACTIVATIONS``.
        condition_by: "channels" or "projection".
        spectral_norm: Divide each weight, as a matrix, by its largest singular value; each strided convolution then
            has slope at most 2, and the last layer 1.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where the weights lie.

    Raises:
        ValueError: If a size is out of range or a name unknown.
    """

    def __init__(
        self,
        event_shape: tuple[int, int, int],
        conditions: int = 0,
        width: int = 32,
        *,
        outputs: int = 1,
        activation: str = "leaky_relu",
        condition_by: Literal["channels", "projection"] = "channels",
        spectral_norm: bool = False,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        event_shape = _checked(event_shape)
        for argument, value, least in (("conditions", conditions, 0), ("width", width, 1), ("outputs", outputs, 1)):
            if value < least:
                raise ValueError(f"{argument}: expected an int of {least} or more; got {value}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        if condition_by not in ("channels", "projection"):
            raise ValueError(f"condition_by: expected 'channels' or 'projection'; got {condition_by!r}")
        self.config: dict[str, Any] = {
            "event_shape": list(event_shape),
            "conditions": conditions,
            "width": width,
            "outputs": outputs,
            "activation": activation,
            "condition_by": condition_by,
            "spectral_norm": spectral_norm,
        }
        seed = resolve_seed(seed)
        with forked(seed):
            self._build()
        self.to(dtype=dtype, device=device)
        if spectral_norm:
            normalise_spectrally(self, seed)

    def _build(self) -> None:
        config = self.config
        channels, height, width = config["event_shape"]
        projected = config["conditions"] > 0 and config["condition_by"] == "projection"
        before, after = channels + (0 if projected else config["conditions"]), config["width"]
        layers: list[nn.Module] = []
        while min(height, width) > 4:
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), ACTIVATIONS[config["activation"]]()]
            before, after, height, width = after, 2 * after, height // 2, width // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(before * height * width, config["outputs"])
        self.projection = (
            nn.Linear(config["conditions"], before * height * width * config["outputs"], bias=False)
            if projected
            else None
        )

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits of each image, or its features.

        Args:
            samples: x, with shape (n, channels, height, width).
            condition: y, with shape (n, conditions); None if the critic has no condition.

        Returns:
            Logits with shape (n,), or with shape (n, outputs) if there are several.
        """
        return self.both(samples, condition)[0]

    def both(self, samples: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs and the features in one pass."""
        features = self.features(samples, condition)
        values = self.head(features)
        if self.projection is not None and condition is not None:
            values = values + torch.einsum(
                "nof,nf->no", self.projection(condition).unflatten(1, (-1, features.shape[1])), features
            )
        return (values.squeeze(-1) if self.config["outputs"] == 1 else values), features

    def features(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the last layer sees of each image, flat."""
        if condition is not None and self.projection is None:
            samples = torch.cat([samples, condition[:, :, None, None].expand(-1, -1, *samples.shape[2:])], 1)
        return self.body(samples)


def _checked(event_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = tuple(event_shape)
    sides = sizes[1:]
    if len(sizes) != 3 or sizes[0] < 1 or any(side < 8 or side & (side - 1) for side in sides):
        raise ValueError(
            "event_shape: expected (channels, height, width) with height and width powers of two from 8 on; "
            f"got {sizes}"
        )
    return sizes[0], sizes[1], sizes[2]
