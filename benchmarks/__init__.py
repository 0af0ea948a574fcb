"""What is measured: each benchmark is one command, and its CPU times are of one thread."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before anything that reads them: CPU time means little when threads spin
