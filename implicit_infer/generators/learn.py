"""The verb ``learn``: fits a network to data by any comparison, in any game."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch import nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.penalties import Penalty
from implicit_estimators.seeds import Seed, resolve_seed, stream
from implicit_infer.checks import check_device
from implicit_infer.games import Batch, Game, Play, Training
from implicit_infer.games.instance_noise import AnnealedNoise
from implicit_infer.games.loop import Watch
from implicit_infer.games.ranks import Ranks
from implicit_infer.games.state import evaluating
from implicit_infer.generators.checkpoint import Checkpoint
from implicit_infer.generators.choices import (
    check_numbers,
    check_precision,
    chosen_comparison,
    chosen_critic,
    chosen_game,
    chosen_generator,
    chosen_training,
    identity,
)
from implicit_infer.generators.data import as_source
from implicit_infer.generators.duels import Calls, make_duel
from implicit_infer.generators.learned import Learned
from implicit_infer.generators.modes import compiled, own_globals
from implicit_infer.generators.sight import Sight
from implicit_infer.generators.watching import Watching, warnings_of
from implicit_infer.interrupts import stopping

SHOWN = 2000
"""Rows of data that are kept for pictures."""


def learn(
    generator: nn.Module | str,
    data: Any,
    comparison: str | Comparison | type[Comparison] = "gan-r1",
    *,
    latent: int | tuple[int, ...] | None = None,
    condition: Any = None,
    generator_loss: str | GeneratorLoss | None = None,
    penalty: str | Penalty | None = "default",
    game: str | Game | type[Game] = "alternating",
    critic: nn.Module | None = None,
    steps: int | None = None,
    batch_size: int = 256,
    learning_rate: float | None = None,
    critic_learning_rate: float | None = None,
    average: float | None = None,
    training: Training | None = None,
    instance_noise: float = 0.0,
    packing: int = 1,
    standardise: bool = True,
    penalise_every: int = 1,
    precision: str = "float32",
    compile: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    max_time: float | None = None,
    watch: Watch | None = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Learned:
    r"""Fit a generator network to data: draw from it, let something tell the draws from data, and move it.

    The comparison says what tells them apart and what the network descends; its generator loss and its penalty, and
    the game that both players play, can be exchanged each for itself. Within a group that ``torch.distributed`` has
    made, every process plays with its share of each batch.

    Args:
        generator: An ``nn.Module`` called with noise of shape (n, \*latent), and with the condition where there is one;
            or a name of ``ii.generators()``. It is trained in place. The package's own networks, unless they have been
            told otherwise, first take the location and scale of the data.
        data: Samples with shape (n, d), (n,), (n, length) or (n, channels, height, width): a tensor, an array or a
            frame; a map-style dataset of samples, or of pairs (sample, condition); or a function ``data(n, seed)`` of a
            number of rows and a ``torch.Generator`` that gives either.
        comparison: A name of ``ii.comparisons()``, or a comparison with its settings.
        latent: Width or shape of the noise; that of the generator if None.
        condition: One row for each sample, for a generator and a critic that are called with it; None if there is none.
        generator_loss: In place of the comparison's own: a name in ``GENERATOR_LOSSES``, or a loss.
        penalty: In place of the comparison's own: a name in ``PENALTIES``, a penalty, or None for none.
        game: A name of ``ii.games()``, which takes as many critic steps as the comparison wants, or a game.
        critic: A network that gives one number for each sample; one that suits samples and comparison if None.
        steps: Generator steps; 8,000 if None. So with the next three: None is what ``training`` says.
        batch_size: Samples of each side in a batch.
        learning_rate: Adam's step size of the generator.
        critic_learning_rate: The same of the critic.
        average: Decay of the moving average of the generator's weights, which is what is kept.
        training: Everything about the steps: ``Training()``, 8,000 of them, if None.
        instance_noise: Standard deviation of the noise on what the critic sees, in standardised units, at the start; it
            falls to 0 on a straight line until the middle of the game.
        packing: Samples that the critic sees at a time (PacGAN).
        standardise: Whether what is compared is in units of the data's standard deviation.
        penalise_every: Critic steps between two penalties, whose weight is multiplied accordingly.
        precision: "float32", or "bfloat16", which does the networks' matrix products in half the bits (autocast):
            meant for GPUs, slower on processors.
        compile: Whether ``torch.compile`` is to fuse the networks; the critic only where no penalty differentiates it
            twice. It costs half a minute at first; meant for GPUs, slower on processors.
        checkpoint: A folder. The game is kept there as it goes on; the same call goes on from it, bit by bit as if it
            had never stopped, on the same machine and library versions.
        max_time: Seconds after which the game stops where it is.
        watch: Called with the game at each mark, for more figures in the history.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        progress: Whether to show progress.

    Returns:
        The learned generator, with ``sample``, ``module``, ``log_ratio``, ``log_prob``, ``history``, ``warnings``,
        ``plot`` and ``save``. After Ctrl-C it is what there is, and ``warnings`` says so.

    Raises:
        ValueError: If a name is unknown, a number is out of its range, shapes do not fit each other, the device is not
            there, or ``checkpoint`` is of another game; before any work.
        TypeError: If an argument is of the wrong kind.
        KeyboardInterrupt: If it is stopped before the first step.

    Example:
        >>> import torch, implicit_infer as ii
        >>> data = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> gen = ii.learn("mlp", data, comparison="gan", latent=2, steps=10, seed=0, progress=False)
        >>> gen.sample((5,), seed=0).shape
        torch.Size([5, 2])
    """
    place, root, ranks = torch.device(check_device(device)), resolve_seed(seed), Ranks.here()
    check_numbers(batch_size, packing, penalise_every, instance_noise, max_time)
    plan = chosen_training(training, steps, learning_rate, critic_learning_rate, average)
    chosen = chosen_comparison(comparison, generator_loss, penalty)
    played = chosen_game(game, chosen)
    check_precision(precision, compile, chosen, played)
    share = ranks.share(batch_size)
    dtype = next((p.dtype for p in generator.parameters()), None) if isinstance(generator, nn.Module) else None
    source = as_source(data, condition, place, dtype or torch.float32)
    samples, given = source.look(stream(root, "split", source.device))
    module, noise_shape = chosen_generator(generator, latent, samples, given, root, place)

    private = stream(root, "draws", place, 1, ranks.rank)
    sight = Sight.of(
        samples,
        given,
        standardise=standardise,
        packing=packing,
        noise=float(instance_noise),
        random=private,
        classes=getattr(module, "classes", None),
    )
    judge = chosen_critic(critic, chosen, sight, samples, given, root, place)
    call = Calls(precision == "bfloat16")
    batches, draws = stream(root, "batches", source.device), stream(root, "draws", place)

    def look(n: int, rows: torch.Generator, noise: torch.Generator, part: slice = slice(None)) -> Batch:
        real, conditions = source.batch(n, rows, part)
        # all of the noise is drawn, so that shares of a batch are shares of the same batch
        z = torch.randn((n, *noise_shape), generator=noise, device=place, dtype=real.dtype)[part]
        return Batch(real, z, conditions)

    def draw() -> Batch:
        return look(batch_size, batches, draws, share)

    duel = make_duel(module, judge, chosen, draw, sight, private, penalise_every, call)
    played.check(duel)
    kept = None
    if checkpoint is not None:
        settings = identity(
            module, judge, chosen, played, plan, noise_shape, source, root, place, ranks,
            batch_size=batch_size, instance_noise=float(instance_noise), packing=packing, standardise=standardise,
            penalise_every=penalise_every, precision=precision, compile=compile,
        )  # fmt: skip
        kept = Checkpoint(checkpoint, settings)
        kept.check()

    looks = Watching(chosen, sight, call, look, root, place, source.device)

    def at_mark(play: Play) -> dict[str, float]:
        return looks(play) | ({} if watch is None else watch(play))

    start = time.monotonic()
    with own_globals(root, place) as globals_, compiled(module, judge, compile, chosen), stopping("this step") as stop:
        streams = {"batches": batches, "draws": draws, "private": private, **globals_}
        play = Play(duel, played, plan, streams=streams, remembers={"comparison": chosen}, ranks=ranks)
        found = None if kept is None else kept.read(place)
        if found is not None:
            state, play.history = found
            play.put_back(state)
            if ranks.rank:  # what rank 0 has written is its own position
                private.set_state(stream(root, "draws", place, 1, ranks.rank, state.step).get_state())
        seconds = None if max_time is None else max_time - (time.monotonic() - start)
        history = play.run(
            name=chosen.name,
            progress=progress,
            watch=at_mark,
            before=AnnealedNoise(float(instance_noise)).on(sight) if instance_noise else None,
            keep=kept,
            stop=stop,
            seconds=seconds,
        )
    if play.step == 0 and history.stopped == "interrupted":
        raise KeyboardInterrupt("stopped before the first step was finished")
    module.load_state_dict(play.averaged.state_dict())
    with evaluating(module):
        final = looks.final(module, play.step)
    module.eval()
    if judge is not None:
        judge.eval()
    return Learned(
        module,
        judge,
        chosen,
        noise_shape,
        tuple(samples.shape[1:]),
        0 if given is None else given.shape[1],
        Sight(
            sight.centre, sight.scale, packing, 0.0, None, sight.condition_centre, sight.condition_scale, sight.classes
        ),
        history,
        warnings_of(history, final, play.step, plan.steps, kept is not None),
        {"steps": play.step, **final},
        samples[:SHOWN],
        None if given is None else given[:SHOWN],
    )


def load_learned(
    path: str | os.PathLike[str],
    *,
    module: nn.Module | None = None,
    critic: nn.Module | None = None,
    comparison: Comparison | None = None,
    device: str = "cpu",
) -> Learned:
    """Read a learned generator that ``save(path)`` wrote.

    Args:
        path: The file.
        module: The generator, of the same structure, where it is none of the package's.
        critic: The critic, likewise; one that can neither be built nor was given is left out.
        comparison: What the game was played by, where it is none of the package's.
        device: Where they shall lie.

    Returns:
        The learned generator.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else, or the generator must be given, or the device is not there.
    """
    device = check_device(device)
    return Learned.load(path, module=module, critic=critic, comparison=comparison, device=device)
