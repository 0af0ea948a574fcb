"""Learns a pyramid of generators level by level: each is a conditional problem for ``learn``, with a critic of its own.

What is to be told apart at level k is the detail of an image, given its blurred self. The levels do not wait for each
other: all of them learn from the pyramid of the data, and only a draw passes through all.

References:
    | Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks (Denton et al., 2015)
    | https://arxiv.org/abs/1506.05751
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators import comparisons
from implicit_estimators.comparisons import Comparison
from implicit_estimators.seeds import Seed, forked, resolve_seed
from implicit_infer.generators.learn import learn
from implicit_infer.generators.learned import Learned
from implicit_infer.generators.networks.pyramid import PyramidGenerator


class LevelCritic(nn.Module):
    r"""A critic of details given the blurred image: convolutions over both, as planes of one picture.

    The paper's adds the blurred image to the detail first; a convolution over both side by side can do so, and need
    not. It normalises nothing over the batch, so that penalties may be taken of it.

    Args:
        event_shape: (channels, height, width) of the detail.
        blurred: Whether there is a blurred image of the same shape, as the first numbers of the condition; not at the
            coarsest level.
        beside: Further numbers of the condition: a plane for each.
        width: Channels of the first convolution; the second has twice as many.
        outputs: Numbers for each sample.
        spectral_norm: Divide each weight by its largest singular value.
        seed: Seed of the initial weights.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        event_shape: tuple[int, ...],
        blurred: bool,
        beside: int = 0,
        width: int = 32,
        *,
        outputs: int = 1,
        spectral_norm: bool = False,
        seed: Seed = None,
    ) -> None:
        super().__init__()
        channels, height, breadth = event_shape
        self.event_shape, self.blurred, self.outputs = tuple(event_shape), blurred, outputs
        small = ((height + 1) // 2) * ((breadth + 1) // 2)
        with forked(resolve_seed(seed)):
            self.layers = nn.Sequential(
                nn.Conv2d(channels * (1 + blurred) + beside, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 2 * width, 3, 2, 1),
                nn.LeakyReLU(0.2),
                nn.Flatten(),
                nn.Linear(2 * width * small, outputs),
            )
            if spectral_norm:
                for layer in list(self.layers):
                    if isinstance(layer, (nn.Conv2d, nn.Linear)):
                        nn.utils.parametrizations.spectral_norm(layer)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit_blurred(self, given: Tensor) -> None:
        """Take location and scale of the blurred images: what it is given of details is in standard units already."""
        images = given[:, : self._size]
        self.centre.copy_(images.mean())
        self.spread.copy_(images.std().clamp(min=1e-30))

    @property
    def _size(self) -> int:
        channels, height, breadth = self.event_shape
        return channels * height * breadth

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Values with shape (n,), or (n, outputs) for several.

        Args:
            samples: Details with shape (n, channels, height, width).
            condition: Blurred images as rows, and what stands beside them; None where there is nothing.
        """
        planes, rest = [samples], condition
        if self.blurred:
            assert condition is not None
            images = condition[:, : self._size].reshape(-1, *self.event_shape)
            planes.append((images - self.centre) / self.spread)
            rest = condition[:, self._size :]
        if rest is not None and rest.shape[1]:
            planes.append(rest[:, :, None, None].expand(-1, -1, *self.event_shape[1:]))
        values = self.layers(torch.cat(planes, 1))
        return values.squeeze(1) if self.outputs == 1 else values


def learn_pyramid(
    pyramid: PyramidGenerator,
    images: Tensor,
    comparison: str | Comparison = "gan",
    *,
    condition: Tensor | None = None,
    critic_width: int = 32,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    **settings: Any,
) -> list[Learned]:
    r"""Learn each level of a pyramid from the data's own pyramid; afterwards the pyramid draws whole images.

    .. math:: h_k \mid l_k: \quad h_k = I_k - u(I_{k+1}), \; l_k = u(I_{k+1})

    Args:
        pyramid: The network, which is learned in place.
        images: Data with shape (n, channels, height, width).
        comparison: A name of ``ii.comparisons()``, or a comparison: the same at each level.
        condition: What the images were drawn given, with n rows, where the pyramid has a condition.
        critic_width: Channels of the first layer of each level's :class:`LevelCritic`.
        checkpoint: A folder, with one for each level in it.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        settings: Whatever else ``ii.learn`` takes (``steps``, ``batch_size``, ``game``, ``device`` ...).

    Returns:
        What was learned of each level, finest first.

    Raises:
        ValueError: If shapes do not fit the pyramid, or a setting is out of its range.
    """
    expected = pyramid.event_shape
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or len(images) < 2:
        raise ValueError(f"images: expected shape (n, *{expected}) with n at least 2; got {tuple(images.shape)}")
    chosen, root = comparisons.comparison(comparison), resolve_seed(seed)
    device = torch.device(settings.get("device", "cpu"))
    pyramid.to(device)
    images = images.to(device, pyramid.location.dtype)
    condition = None if condition is None else condition.to(device)
    pyramid.fit_scale(images)
    levels = []
    for index in range(pyramid.levels):
        details, given = (None if part is None else part.detach() for part in pyramid.problem(index, images, condition))
        level = pyramid.level(index)
        critic = None
        if chosen.trained:
            blurred = index < pyramid.levels - 1
            critic = LevelCritic(
                level.event_shape,
                blurred,
                pyramid.encoded_width,
                critic_width,
                outputs=chosen.outputs,
                spectral_norm=chosen.spectral_norm,
                seed=root + index,
            ).to(device)
            if blurred and given is not None:
                critic.fit_blurred(given)
        folder = None if checkpoint is None else Path(checkpoint) / f"level-{index}"
        learned = learn(
            level, details, chosen, condition=given, critic=critic, checkpoint=folder, seed=root + index, **settings
        )
        if learned.module is not level:
            level.load_state_dict(learned.module.state_dict())
        levels.append(learned)
    pyramid.eval()
    return levels
