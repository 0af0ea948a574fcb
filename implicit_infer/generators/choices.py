"""What a user of ``learn`` names or gives, checked before anything runs: networks, comparison, game and steps."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.comparisons import comparison as comparison_of
from implicit_estimators.critics import make_critic
from implicit_estimators.seeds import forked
from implicit_infer.catalogue import comparisons, find
from implicit_infer.checks import check_count
from implicit_infer.games import Game, Training
from implicit_infer.games import game as game_of
from implicit_infer.games.ranks import Ranks
from implicit_infer.games.state import evaluating
from implicit_infer.generators.data import Source
from implicit_infer.generators.learned import written
from implicit_infer.generators.likelihood import MaximumLikelihood
from implicit_infer.generators.sight import Sight

TWICE = ("consensus", "unrolled")
"""Games that differentiate gradients, which compiled networks do not have."""


def check_numbers(batch_size: Any, packing: Any, penalise_every: Any, instance_noise: Any, max_time: Any) -> None:
    """Refuse numbers that are out of their range.

    Raises:
        TypeError: If a count is not an int, or a number is none.
        ValueError: If it is out of its range.
    """
    check_count(batch_size, "batch_size", 2)
    check_count(packing, "packing")
    check_count(penalise_every, "penalise_every")
    if packing > batch_size or batch_size % packing:
        raise ValueError(f"packing: expected a divisor of batch_size={batch_size}; got {packing}")
    if not _is_number(instance_noise) or not 0 <= instance_noise < math.inf:
        raise ValueError(f"instance_noise: expected a number that is not negative; got {instance_noise!r}")
    if max_time is not None and not (_is_number(max_time) and max_time > 0):
        raise ValueError(f"max_time: expected a positive number of seconds or None; got {max_time!r}")


def check_precision(precision: Any, compile: Any, chosen: Comparison, game: Game) -> None:
    """Refuse what networks cannot be run in.

    Raises:
        ValueError: If there is no such precision, or comparison or game cannot be had in it, or compiled.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision: expected 'float32' or 'bfloat16'; got {precision!r}")
    if precision != "float32" and isinstance(chosen, MaximumLikelihood):
        raise ValueError(f"precision: densities need 'float32'; got {precision!r}")
    if compile and game.name in TWICE:
        raise ValueError(f"compile: the game {game.name!r} differentiates gradients, which compiled networks lack")
    if compile and isinstance(chosen, MaximumLikelihood):
        raise ValueError("compile: expected False for 'mle', which calls log_prob, and no forward that is compiled")


def chosen_training(
    training: Training | None,
    steps: int | None,
    learning_rate: float | None,
    critic_learning_rate: float | None,
    average: float | None,
) -> Training:
    """The steps: those of ``training``, with what is given in their place.

    Raises:
        TypeError: If it is no ``Training``.
        ValueError: If a number is out of its range.
    """
    if training is not None and not isinstance(training, Training):
        raise TypeError(f"training: expected a Training; got {type(training).__name__}")
    given: dict[str, Any] = {}
    if steps is not None:
        given["steps"] = check_count(steps, "steps")
    rates = {"learning_rate": learning_rate, "critic_learning_rate": critic_learning_rate, "average": average}
    for name, value in rates.items():
        if value is not None:
            if not _is_number(value):
                raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
            given[name] = float(value)
    return replace(Training() if training is None else training, **given)


def chosen_comparison(name: Any, generator_loss: Any, penalty: Any) -> Comparison:
    """The comparison that is named or given, with another generator loss or penalty in place of its own.

    Raises:
        ValueError: If there is none of that name, or it has no such part.
        TypeError: If it is none.
    """
    if isinstance(name, str):
        name = find(name, comparisons(), "comparison")
    settings = {} if generator_loss is None else {"generator_loss": generator_loss}
    if not isinstance(penalty, str) or penalty != "default":
        settings["penalty"] = penalty
    chosen = comparison_of(name)
    known = [setting.name for setting in fields(chosen) if setting.init]
    if penalty is None and chosen.regulariser is None:
        del settings["penalty"]
    for setting, value in settings.items():
        if setting not in known:
            raise ValueError(f"{setting}: {chosen.name!r} has none that could be exchanged; got {value!r}")
    return comparison_of(chosen, **settings)


def chosen_game(game: Any, chosen: Comparison) -> Game:
    """The game that is named, with the critic steps that the comparison wants, or given."""
    if isinstance(game, str):
        return game_of(game, critic_steps=chosen.critic_steps)
    return game_of(game)


def chosen_generator(
    generator: Any,
    latent: Any,
    samples: Tensor,
    given: Tensor | None,
    seed: int,
    device: torch.device,
) -> tuple[nn.Module, tuple[int, ...]]:
    """The network that is named or given, on the device, and the shape of its noise.

    Raises:
        TypeError: If it is no network.
        ValueError: If it has nothing to learn, cannot be called so, or draws something of another shape than data.
    """
    shape, width = tuple(samples.shape[1:]), 0 if given is None else given.shape[1]
    noise = _noise_shape(latent)
    if isinstance(generator, str):
        from implicit_infer.generators.networks import GENERATORS, make_generator

        find(generator, GENERATORS, "generator")
        if noise is not None and len(noise) != 1:
            raise ValueError(f"latent: expected a width for a generator by name; got {latent!r}")
        generator = make_generator(generator, shape, None if noise is None else noise[0], width, seed)
        generator.to(dtype=samples.dtype)
    if not isinstance(generator, nn.Module):
        raise TypeError(f"generator: expected an nn.Module or a name; got {type(generator).__name__}")
    if noise is None:
        noise = getattr(generator, "latent_shape", None)
    if noise is None:
        raise ValueError("latent: expected the width or shape of the noise that the generator is called with; got None")
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise ValueError("generator: expected a network with parameters that can be learned; it has none")
    generator.to(device).train()
    _take_scale(generator, samples)
    z = samples.new_zeros((2, *noise))
    inputs = f"z of shape (n, {', '.join(map(str, noise))})" + ("" if given is None else f" and {width} conditions")
    made = _tried(generator, (z,) if given is None else (z, given[:2]), "generator", inputs)
    if not isinstance(made, Tensor) or made.shape != (2, *shape):
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"generator: expected draws of the shape of data, {(2, *shape)} for 2 of them; got {got}")
    return generator, tuple(noise)


def chosen_critic(
    critic: Any,
    chosen: Comparison,
    sight: Sight,
    samples: Tensor,
    given: Tensor | None,
    seed: int,
    device: torch.device,
) -> nn.Module | None:
    """The critic that is given, or one that suits; None where the comparison trains none.

    Raises:
        TypeError: If it is no network.
        ValueError: If the comparison trains none, or the critic gives something else than the comparison needs.
    """
    if not chosen.trained:
        if critic is not None:
            raise ValueError(f"critic: {chosen.name!r} trains none; got a {type(critic).__name__}")
        if sight.packing > 1:
            raise ValueError(f"packing: {chosen.name!r} compares all of a batch already; got {sight.packing}")
        return None
    if critic is None:
        width = 0 if given is None else sight.given_width(given.shape[1])
        critic = make_critic(
            tuple(samples.shape[1:]), width, chosen, packing=sight.packing, seed=seed, dtype=samples.dtype
        )
    if not isinstance(critic, nn.Module):
        raise TypeError(f"critic: expected an nn.Module or None; got {type(critic).__name__}")
    critic.to(device).train()
    rows = samples[: 2 * sight.packing]
    if len(rows) < 2 * sight.packing:
        rows = rows[torch.arange(2 * sight.packing, device=rows.device) % len(rows)]
    seen = replace(sight, noise=0.0)(rows)
    conditions = (
        None if given is None else sight.given(given[torch.arange(len(rows), device=given.device) % len(given)])
    )
    inputs = f"samples of shape {tuple(seen.shape)}" + ("" if conditions is None else f", {tuple(conditions.shape)}")
    made = _tried(critic, (seen,) if conditions is None else (seen, conditions), "critic", inputs)
    if not isinstance(made, Tensor) or len(made) != 2 or (chosen.outputs == 1 and made.numel() != 2):
        wanted = "one number" if chosen.outputs == 1 else f"{chosen.outputs} numbers"
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"critic: expected {wanted} for each of 2 samples; got {got}")
    return critic


def identity(
    module: nn.Module,
    critic: nn.Module | None,
    chosen: Comparison,
    game: Game,
    training: Training,
    noise: tuple[int, ...],
    source: Source,
    seed: int,
    device: torch.device,
    ranks: Ranks,
    **settings: Any,
) -> dict[str, Any]:
    """What two runs must share to be the same game, as JSON."""
    return {
        "seed": seed,
        "comparison": written(chosen),
        "game": written(game),
        "training": vars(training),
        "generator": _structure(module),
        "critic": None if critic is None else _structure(critic),
        "latent": list(noise),
        "data": source.identity(),
        "device": device.type,
        "processes": ranks.world,
        **settings,
    }


def _structure(network: nn.Module) -> dict[str, Any]:
    return {
        "class": type(network).__qualname__,
        "tensors": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
    }


def _take_scale(generator: nn.Module, samples: Tensor) -> None:
    """A network of ours that knows nothing of the data starts where they are."""
    from implicit_infer.generators.networks import Generator

    if not isinstance(generator, Generator) or generator.event_shape != samples.shape[1:]:
        return
    if not generator.location.any() and bool((generator.scale == 1).all()):
        generator.fit_scale(samples)


@torch.no_grad()
def _tried(network: nn.Module, inputs: tuple[Tensor, ...], name: str, what: str) -> Any:
    """What a network says, with its own state and torch's left as they were."""
    with forked(0), evaluating(network):
        try:
            return network(*inputs)
        except Exception as error:  # whatever a user's network raises
            raise ValueError(f"{name}: calling it with {what} failed: {' '.join(str(error).split())}") from error


def _noise_shape(latent: Any) -> tuple[int, ...] | None:
    if latent is None:
        return None
    shape = tuple(latent) if isinstance(latent, (tuple, list)) else (latent,)
    return tuple(check_count(width, "latent") for width in shape)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
