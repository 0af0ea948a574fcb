r"""The generator that paints from coarse to fine: one conditional network for each level of a Laplacian pyramid.

An image is taken apart into what each halving of its size loses,

.. math:: I_{k+1} = d(I_k), \quad h_k = I_k - u(I_{k+1}), \quad h_K = I_K,

with d the mean of squares of four pixels and u a doubling, and put together again without loss by
:math:`I_k = u(I_{k+1}) + h_k`. Level k learns :math:`h_k` given :math:`l_k = u(I_{k+1})`: a conditional problem of its
own, and a draw passes the levels from the coarsest. Levels meet each other's mistakes only when they are sampled.

References:
    | Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks (Denton et al., 2015)
    | https://arxiv.org/abs/1506.05751
    | The Laplacian Pyramid as a Compact Image Code (Burt and Adelson, 1983)
    | https://doi.org/10.1109/TCOM.1983.1095851
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.generators.networks.base import Generator, joined
from implicit_infer.generators.networks.conv import picture
from implicit_infer.generators.networks.mlp import MLPGenerator


def smaller(images: Tensor) -> Tensor:
    """Each square of four pixels as its mean: (n, C, H, W) to (n, C, H/2, W/2)."""
    return functional.avg_pool2d(images, 2)


def larger(images: Tensor) -> Tensor:
    """Twice the size, linear between pixels: (n, C, H, W) to (n, C, 2H, 2W)."""
    return functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def analyse(images: Tensor, levels: int) -> list[Tensor]:
    """The coefficients of the Laplacian pyramid, finest first; the last is the smallest image itself.

    Args:
        images: With shape (n, C, H, W); H and W are divisible by ``2**(levels - 1)``.
        levels: How many there are to be.

    Returns:
        Level k with shape (n, C, H / 2**k, W / 2**k).

    Raises:
        ValueError: If the shape is another.
    """
    if levels < 1 or images.ndim != 4 or any(side % 2 ** (levels - 1) for side in images.shape[2:]):
        raise ValueError(
            f"images: expected shape (n, C, H, W) with sides divisible by {2 ** (levels - 1)}; "
            f"got {tuple(images.shape)}"
        )
    coefficients = []
    for _ in range(levels - 1):
        coarse = smaller(images)
        coefficients.append(images - larger(coarse))
        images = coarse
    return [*coefficients, images]


def synthesise(coefficients: Sequence[Tensor]) -> Tensor:
    """The images that :func:`analyse` took apart, exactly up to rounding."""
    images = coefficients[-1]
    for detail in reversed(coefficients[:-1]):
        images = larger(images) + detail
    return images


class DetailGenerator(Generator):
    r"""One level: the detail h of an image given its blurred self l, by convolutions that keep the size.

    Noise is one more plane beside those of l, as in the paper.

    Args:
        event_shape: (channels, height, width), sides powers of two from 2.
        condition: What every level is given beside l (for class labels: one-hot columns): a plane for each number.
        width: Channels of the two hidden layers.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where they lie.

    Raises:
        ValueError: If the shape is another, or a width is out of its range.
    """

    name = "detail"

    def __init__(
        self,
        event_shape: Sequence[int],
        condition: int = 0,
        width: int = 32,
        *,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        channels, height, breadth = picture(event_shape, smallest=2)
        if width < 1 or condition < 0:
            raise ValueError(f"width, condition: expected a positive int and a width; got {width}, {condition}")
        with forked(resolve_seed(seed)):
            # the condition of the level: the blurred image, and behind it what the whole pyramid is given
            super().__init__(event_shape, height * breadth, channels * height * breadth + condition)
            self.planes = nn.Sequential(
                nn.Conv2d(channels + 1 + condition, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, channels, 3, padding=1),
            )
        # convolutions see the blurred image in standard units
        self.register_buffer("blurred_location", torch.zeros(()))
        self.register_buffer("blurred_scale", torch.ones(()))
        self.beside = condition
        self.config = {
            "name": self.name,
            "event_shape": list(self.event_shape),
            "condition": condition,
            "width": width,
        }
        self.to(dtype=dtype, device=device)

    blurred_location: Tensor
    blurred_scale: Tensor

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The detail in standard units."""
        assert condition is not None
        n, (_, height, breadth) = len(z), self.event_shape
        blurred = condition[:, : self.size].reshape(n, *self.event_shape)
        planes = [(blurred - self.blurred_location) / self.blurred_scale, z.reshape(n, 1, height, breadth)]
        if self.beside:
            planes.append(condition[:, self.size :, None, None].expand(-1, -1, height, breadth))
        return self.planes(torch.cat(planes, 1))

    @torch.no_grad()
    def fit_blurred(self, blurred: Tensor) -> None:
        """Take the location and the scale of the blurred images, one number each."""
        self.blurred_location.copy_(blurred.mean())
        self.blurred_scale.copy_(blurred.std().clamp(min=1e-30) if blurred.numel() > 1 else torch.ones(()))


class PyramidGenerator(Generator):
    """Levels from coarse to fine, as one network: it is called, sampled and kept as any other.

    Its noise is that of the coarsest level followed by that of each finer one. Train the levels one by one
    (:func:`implicit_infer.generators.pyramid.learn_pyramid`), or all together, as the network that they make.

    Args:
        event_shape: (channels, height, width), sides powers of two.
        latent: Width of the coarsest level's noise.
        condition: Width of a condition, given to each level; 0 for none.
        levels: How many, at least 2; as many as leave the coarsest image 4 pixels high or wide if None.
        width: Channels of the hidden layers of finer levels.
        hidden: Widths of the hidden layers of the coarsest, an MLP.
        classes: How many classes, where the condition is a label; None where it is a row of numbers.
        seed: Seed of the initial weights.
        dtype: Floating type of the weights; float32 if None.
        device: Where they lie.

    Raises:
        ValueError: If the shape is another, or a number is out of its range.
    """

    name = "pyramid"

    def __init__(
        self,
        event_shape: Sequence[int],
        latent: int,
        condition: int = 0,
        levels: int | None = None,
        width: int = 32,
        hidden: Sequence[int] = (128, 128, 128),
        *,
        classes: int | None = None,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        channels, height, breadth = picture(event_shape, smallest=4)
        deepest = min(height, breadth).bit_length() - 1  # the coarsest side is 2 pixels or more
        if levels is None:
            levels = max(2, deepest - 1)
        if not 2 <= levels <= deepest:
            raise ValueError(f"levels: expected from 2 to {deepest} for {tuple(event_shape)}; got {levels}")
        root = resolve_seed(seed)
        super().__init__(event_shape, latent, condition, classes)
        beside = self.encoded_width
        shapes = [(channels, height >> level, breadth >> level) for level in range(levels)]
        self.coarsest = MLPGenerator(shapes[-1], latent, beside, hidden, seed=root)
        self.details = nn.ModuleList(
            DetailGenerator(shape, beside, width, seed=root + 1 + level) for level, shape in enumerate(shapes[:-1])
        )
        self.latent_shape = (latent + sum(h * w for _, h, w in shapes[:-1]),)
        self.config |= {"levels": levels, "width": width, "hidden": list(hidden)}
        del self.config["embedding"]
        del self.config["bounds"]
        self.to(dtype=dtype, device=device)

    @property
    def levels(self) -> int:
        """How many levels there are, the coarsest included."""
        return len(self.details) + 1

    def level(self, index: int) -> Generator:
        """The network of a level: 0 is the finest."""
        chosen = self.coarsest if index == self.levels - 1 else self.details[index]
        assert isinstance(chosen, Generator)
        return chosen

    def problem(self, index: int, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What a level learns: its coefficients of the images, and what it is given.

        Args:
            index: Of the level; 0 is the finest.
            images: With shape (n, C, H, W).
            condition: What the images were drawn given, with n rows, or None.

        Returns:
            Coefficients with shape (n, C, h, w), and conditions with shape (n, width), None for the coarsest level of
            an unconditional pyramid.
        """
        coefficients = analyse(images, self.levels)
        columns = self.encode(condition, len(images))
        if index == self.levels - 1:
            return coefficients[index], columns
        blurred = larger(synthesise(coefficients[index + 1 :])).flatten(1)
        return coefficients[index], joined(blurred, columns)

    def draw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """From the coarsest image to the finest."""
        widths = [self.level(index).latent_shape[0] for index in reversed(range(self.levels))]
        first, *rest = z.split(widths, 1)
        images = self.coarsest(first, condition)
        for index, noise in zip(reversed(range(self.levels - 1)), rest, strict=True):
            blurred = larger(images)
            images = blurred + self.level(index)(noise, joined(blurred.flatten(1), condition))
        return images

    @torch.no_grad()
    def fit_scale(self, data: Tensor) -> None:
        """Take the location and the scale of each level's coefficients.

        Args:
            data: Images with shape (n, C, H, W), n at least 2.

        Raises:
            ValueError: If the shape is another.
        """
        if data.shape[1:] != self.event_shape or len(data) < 2:
            raise ValueError(f"data: expected shape (n, *{self.event_shape}), n at least 2; got {tuple(data.shape)}")
        coefficients = analyse(data.to(self.location.dtype), self.levels)
        for index, values in enumerate(coefficients):
            self.level(index).fit_scale(values)
        for index, detail in enumerate(self.details):
            assert isinstance(detail, DetailGenerator)
            detail.fit_blurred(larger(synthesise(coefficients[index + 1 :])))
