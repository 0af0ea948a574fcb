"""What a user gets by installing: light imports, a quick command line, the data, and none of the habits we ban."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.resources
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import implicit_estimators
import implicit_infer
import implicit_simulators

PACKAGES = (implicit_simulators, implicit_estimators, implicit_infer)
ROOTS = {package.__name__: Path(str(package.__file__)).parent for package in PACKAGES}
FILES = {
    str(Path(name, path.relative_to(root))): path for name, root in ROOTS.items() for path in sorted(root.rglob("*.py"))
}
HEAVY = {"sbi", "pyro", "numba", "matplotlib", "dask", "pandas", "sklearn", "scipy", "zarr", "xarray", "zuko", "rich"}


# --- what is installed


def test_what_is_tested_is_what_was_meant(pytestconfig: pytest.Config) -> None:
    """The checkout, where pytest has source roots; the installed wheel, where `make test-wheel` takes them away."""
    roots = [pytestconfig.rootpath / root for root in pytestconfig.getini("pythonpath")]
    site_packages = Path(sysconfig.get_path("purelib"))
    found = {root.parent.resolve() for root in ROOTS.values()}
    assert found == {root.resolve() for root in roots or [site_packages]}


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("implicit_simulators", "py.typed"),
        ("implicit_estimators", "py.typed"),
        ("implicit_infer", "py.typed"),
        ("implicit_simulators", "observations/hudson_bay.csv"),
        ("implicit_simulators", "observations/boarding_school_flu.csv"),
        ("implicit_simulators", "observations/SOURCES.md"),
        ("implicit_infer", "report/page.html"),
    ],
)
def test_data_ships_with_the_package(package: str, path: str) -> None:
    assert importlib.resources.files(package).joinpath(path).is_file()


def test_every_file_of_the_checkout_is_in_the_package(pytestconfig: pytest.Config) -> None:
    """A data file or a subpackage that `pyproject.toml` forgets is missed by no other test of the checkout."""
    sources = {
        "implicit_simulators": pytestconfig.rootpath / "simulators" / "implicit_simulators",
        "implicit_estimators": pytestconfig.rootpath / "estimators" / "implicit_estimators",
        "implicit_infer": pytestconfig.rootpath / "implicit_infer",
    }
    for name, source in sources.items():
        files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
        there = {path for path in files if "__pycache__" not in path.parts}  # bytecode, and kernels
        installed = {path.relative_to(ROOTS[name]) for path in ROOTS[name].rglob("*") if path.is_file()}
        assert there - installed == set()


def test_the_distribution_says_what_it_is() -> None:
    metadata = importlib.metadata.metadata("implicit-infer")
    assert metadata["License-Expression"] == "MIT"
    assert "dask" in metadata.get_all("Provides-Extra", [])


def test_what_is_imported_is_declared() -> None:
    """A package that only comes along with another one is missing as soon as that one no longer needs it."""
    lines = importlib.metadata.metadata("implicit-infer").get_all("Requires-Dist", [])
    declared = {normal(re.split(r"[^\w.-]", line)[0]) for line in lines if not line.endswith(('== "dev"', '== "docs"'))}
    distributions = importlib.metadata.packages_distributions()
    ours = set(ROOTS) | sys.stdlib_module_names
    for file, path in FILES.items():
        for name in imported(path.read_text()) - ours:
            offered = {normal(distribution) for distribution in distributions.get(name, [name])}
            assert offered & declared, f"{file} imports {name}, which pyproject.toml does not declare"


def imported(source: str) -> set[str]:
    """The top-level names of what ``source`` imports, inside functions too."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.split(".")[0] for name in names}


def normal(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- imports and the command line are quick


@functools.cache
def loaded_by(statement: str) -> frozenset[str]:
    """The modules in a fresh interpreter after ``statement``."""
    program = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", list(ROOTS))
def test_import_is_light(package: str) -> None:
    beyond_torch = loaded_by(f"import {package}") - loaded_by("import torch")
    assert {name for name in beyond_torch if name.split(".")[0] in HEAVY} == set()
    assert len(beyond_torch) < 200


def seconds(*command: str) -> float:
    """Processor time of a command: what it takes on an idle machine, whatever else this one does."""
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_answers_in_half_a_second() -> None:
    """Half a second beyond interpreter start, by medians."""
    command = str(Path(sysconfig.get_path("scripts")) / "implicit-infer")
    pairs = [(seconds(command, "--help"), seconds(sys.executable, "-c", "pass")) for _ in range(5)]
    help_time, start_time = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert help_time - start_time < 0.5


# --- habits that are banned, read from the source


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """The full name of what an expression such as ``np.random.seed`` refers to, or "" for anything else."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, aliases)
        return f"{before}.{node.attr}" if before else ""
    return ""


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in ``source`` with the full name of its function."""
    tree = ast.parse(source)
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            aliases.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func, aliases), node


UNPICKLES = {
    *(f"{module}.{name}" for module in ("pickle", "cloudpickle", "dill", "marshal") for name in ("load", "loads")),
    *("pickle.Unpickler", "joblib.load", "torch.load", "torch.jit.load", "pandas.read_pickle", "shelve.open"),
}
"""What could run code hidden in a file. (``numpy.load`` is seen by its ``allow_pickle``.)"""

GLOBAL_STATE = {
    *(f"torch.{name}" for name in ("manual_seed", "seed", "random.manual_seed", "set_rng_state")),
    *(f"torch.{name}" for name in ("cuda.manual_seed", "cuda.manual_seed_all", "default_generator.manual_seed")),
    *(f"torch.set_{name}" for name in ("default_dtype", "default_device", "num_threads", "num_interop_threads")),
    *(f"torch.{name}" for name in ("set_grad_enabled", "use_deterministic_algorithms", "set_printoptions")),
    *(f"numpy.random.{name}" for name in ("seed", "set_state")),
    *("random.seed", "pyro.set_rng_seed", "pyro.clear_param_store", "logging.basicConfig", "matplotlib.use"),
}
"""What belongs to the user's program."""

RESTORED = "the caller's generators are put back right after"
WORKER = "in a worker process, which is ours"
SENT = "in a worker process, of what its own parent sent; never a file"
ALLOWED = {
    ("implicit_simulators/streams.py", "torch.default_generator.manual_seed"): RESTORED,
    ("implicit_simulators/priors.py", "torch.default_generator.manual_seed"): RESTORED,
    ("implicit_estimators/seeds.py", "torch.default_generator.manual_seed"): RESTORED,
    ("implicit_simulators/adapters/function.py", "torch.default_generator.manual_seed"): RESTORED,
    ("implicit_simulators/adapters/function.py", "numpy.random.seed"): RESTORED,
    ("implicit_simulators/adapters/function.py", "numpy.random.set_state"): RESTORED,
    ("implicit_simulators/adapters/function.py", "random.seed"): RESTORED,
    ("implicit_infer/posteriors/sbi_peers.py", "numpy.random.seed"): RESTORED,
    ("implicit_infer/posteriors/sbi_peers.py", "numpy.random.set_state"): RESTORED,
    ("implicit_infer/posteriors/ratio/truncated_prior.py", "torch.default_generator.manual_seed"): RESTORED,
    ("implicit_infer/processes.py", "torch.set_num_threads"): WORKER,
    ("implicit_infer/processes.py", "pickle.loads"): SENT,
    ("implicit_infer/compare/jobs.py", "torch.set_num_threads"): WORKER,
    ("implicit_infer/compare/jobs.py", "pickle.loads"): SENT,
}
"""Where it is done all the same, and why no user notices."""


def banned(source: str) -> set[str]:
    """The banned functions that ``source`` calls."""
    return {
        name
        for name, call in calls(source)
        if name in UNPICKLES
        or name in GLOBAL_STATE
        or (
            name == "numpy.load"
            and any(w.arg == "allow_pickle" and ast.unparse(w.value) != "False" for w in call.keywords)
        )
    }


def test_nothing_is_unpickled_and_no_global_state_is_changed() -> None:
    found = {(file, name) for file, path in FILES.items() for name in banned(path.read_text())}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "from pickle import load as read\nread(file)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "def late():\n    import pandas as pd\n    return pd.read_pickle(path)",
        "import torch\ntorch.manual_seed(0)",
        "import numpy as np\nnp.random.seed(0)",
        "from torch import set_default_dtype, float64\nset_default_dtype(float64)",
    ],
)
def test_a_banned_call_is_seen(source: str) -> None:
    assert len(banned(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.Generator().manual_seed(0)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import json\njson.load(file)",
    ],
)
def test_its_harmless_neighbour_is_not(source: str) -> None:
    assert banned(source) == set()


@pytest.mark.parametrize("file", FILES)
def test_a_file_opens_with_why_it_exists(file: str) -> None:
    documentation = ast.get_docstring(ast.parse(FILES[file].read_text()))
    assert documentation, f"{file} has no docstring"
    assert documentation.splitlines()[0].rstrip().endswith((".", ":", "!", "?"))
