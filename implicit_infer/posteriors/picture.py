"""A posterior as a picture: every parameter by itself and every pair, at one observation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from implicit_infer.checks import check_count
from implicit_simulators import Seed

COLOURS = {"--ink-2": "#2b2b2b", "--line": "#b8b8b8", "--reference": "#9aa7b1", "--accent": "#12665d"}
"""What a report's page chooses for light and dark; a picture by itself is light."""


def draw_pairs(posterior: Any, path: str | os.PathLike[str], draws: int = 4000, seed: Seed = 0, x: Any = None) -> Path:
    """Write marginals and pairs of a posterior's draws as SVG: contours hold 50 % and 90 % of the mass.

    Args:
        posterior: The posterior; of more than ten parameters the first ten are shown.
        path: File to write, ending in ``.svg``.
        draws: How many draws.
        seed: An int, a ``torch.Generator`` or None.
        x: The observation, or None for the one that was asked about.

    Returns:
        The path.

    Raises:
        ValueError: If the file shall be of another kind, there are too few draws, or ``x`` has another shape.
    """
    from implicit_infer.report.pictures import pairs, parameter_limits

    path = Path(path)
    if path.suffix != ".svg":
        raise ValueError(f"path: expected a name that ends in .svg; got {path.name}")
    theta = posterior.sample((check_count(draws, "draws", least=10),), x, seed=seed).numpy()
    text = pairs(theta, None, posterior.parameter_names, parameter_limits([theta], None), "posterior")
    for variable, colour in COLOURS.items():
        text = text.replace(f"var({variable})", colour)
    # inside a page the namespaces are the page's; a file needs its own
    head, rest = text.split(">", 1)
    wanted = {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}
    missing = "".join(f' {name}="{value}"' for name, value in wanted.items() if f"{name}=" not in head)
    path.write_text(f"{head}{missing}>{rest}", encoding="utf-8")
    return path
