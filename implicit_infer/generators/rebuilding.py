"""Builds again what a file describes: the package's own networks and comparisons, from names and numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from implicit_estimators.comparisons import Comparison


def rebuild_generator(config: Mapping[str, Any] | None, kind: str) -> nn.Module:
    """The generator network that ``config`` describes, with fresh weights.

    Raises:
        ValueError: If it is none of the package's.
    """
    from implicit_estimators.networks import MLP
    from implicit_infer.generators.networks import rebuild

    if config is not None and "name" in config:
        return rebuild(config)
    if config is not None and kind == MLP.__qualname__:
        return MLP(**config)
    raise ValueError(f"module: the file was saved with a {kind}, which must be given: load(path, module={kind}(...))")


def rebuild_critic(config: Mapping[str, Any] | None, kind: str) -> nn.Module | None:
    """The critic that ``config`` describes, with fresh weights; None if it is none of the package's."""
    from implicit_estimators import critics

    build = getattr(critics, kind, None) if kind in critics.__all__ else None
    if config is None or build is None:
        return None
    made: nn.Module = build(**config)
    return made


def rebuild_comparison(written: Mapping[str, Any]) -> Comparison:
    """The comparison that ``written`` describes.

    Raises:
        ValueError: If it, or a part of it, is none of the package's.
    """
    made = _rebuilt(written, dict(_known()))
    assert isinstance(made, Comparison)
    return made


def _rebuilt(value: Any, known: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_rebuilt(entry, known) for entry in value)
    if not isinstance(value, Mapping) or "class" not in value:
        return value
    if value["class"] not in known:
        raise ValueError(f"comparison: the file was saved with a {value['class']}, which must be given: comparison=...")
    settings = {key: _rebuilt(entry, known) for key, entry in value.items() if key != "class"}
    return known[value["class"]](**settings)


def _known() -> Iterator[tuple[str, type]]:
    """Classes of the package that a comparison can be made of, by name; users' own are not looked for."""
    from implicit_estimators.divergences import Divergence
    from implicit_estimators.generator_losses import GeneratorLoss
    from implicit_estimators.kernels import Kernel
    from implicit_estimators.penalties import Penalty
    from implicit_estimators.ratio_losses import RatioLoss
    from implicit_infer.generators.likelihood import MaximumLikelihood

    waiting: list[type] = [Comparison, Divergence, GeneratorLoss, Kernel, MaximumLikelihood, Penalty, RatioLoss]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("implicit_"):
            yield f"{kind.__module__}:{kind.__qualname__}", kind
