"""Imported once, by the process that every fit is forked from: no fit pays for imports or for compilation."""

from __future__ import annotations

import contextlib
import importlib
import io
import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

for module in (
    "torch._dynamo",  # torch.optim imports it when the first optimiser is made
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sbi.inference",
    "zuko",
    "benchmarks.ratios.classic",
    "benchmarks.ratios.measure",
    "benchmarks.ratios.sketches",
):
    importlib.import_module(module)

with contextlib.suppress(ImportError), contextlib.redirect_stdout(io.StringIO()):
    import numpy as np
    from densratio import densratio

    line = np.linspace(0, 1, 20)
    densratio(line, line, verbose=False)
