"""A fingerprint changes with what a function computes, and with nothing else."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from implicit_simulators.code import fingerprint


def made(source: str, **names: Any) -> Callable[..., Any]:
    """The function ``f`` that ``source`` defines, as if typed in a notebook."""
    space = {"__name__": "__main__", "np": np, "torch": torch, **names}
    exec(textwrap.dedent(source), space)
    function: Callable[..., Any] = space["f"]
    return function


SAME = {
    "comments and lines": ("def f(x): return x + 1", "# why\n\ndef f(x):\n    # how\n    return x + 1"),
    "docstrings": ("def f(x):\n  'One.'\n  return x + 1", "def f(x):\n  'Another.'\n  return x + 1"),
    "globals it does not read": ("a = 1\ndef f(x): return x", "a = 2\ndef f(x): return x"),
    "the order of a set": ("def f(x): return x in {1, 2, 3}", "def f(x): return x in {3, 2, 1}"),
    "the order of a dictionary": (
        "d = {'a': 1, 'b': 2}\ndef f(x): return d[x]",
        "d = {'b': 2, 'a': 1}\ndef f(x): return d[x]",
    ),
    "a generator's state": (
        "rng = np.random.default_rng(0)\ndef f(x): return rng.normal()",
        "rng = np.random.default_rng(1)\ndef f(x): return rng.normal()",
    ),
}

OTHER = {
    "an instruction": ("def f(x): return x + 1", "def f(x): return x - 1"),
    "a constant": ("def f(x): return x + 1", "def f(x): return x + 2"),
    "the sign of zero": ("def f(x): return x * 0.0", "def f(x): return x * -0.0"),
    "the type of a constant": ("def f(x): return x + 1", "def f(x): return x + True"),
    "a name": ("def f(x): return np.sin(x)", "def f(x): return np.cos(x)"),
    "an argument's name": ("def f(x, rng): return x", "def f(x, seed): return x"),
    "a default": ("def f(x, n=3): return x", "def f(x, n=4): return x"),
    "a keyword's default": ("def f(x, *, n=3): return x", "def f(x, *, n=4): return x"),
    "a list's length": ("def f(x): return [x]", "def f(x): return [x, x]"),
    "a nested function": (
        "def f(x):\n  def g(y): return y + 1\n  return g(x)",
        "def f(x):\n  def g(y): return y + 2\n  return g(x)",
    ),
    "what is caught": (
        "def f(x):\n  try:\n    return x()\n  except KeyError: return 0",
        "def f(x):\n  try:\n    return x()\n  except OSError: return 0",
    ),
    "a global": ("a = 1\ndef f(x): return x + a", "a = 2\ndef f(x): return x + a"),
    "a helper": ("def g(x): return x\ndef f(x): return g(x)", "def g(x): return -x\ndef f(x): return g(x)"),
    "a helper of a helper": (
        "def h(x): return x\ndef g(x): return h(x)\ndef f(x): return g(x)",
        "def h(x): return -x\ndef g(x): return h(x)\ndef f(x): return g(x)",
    ),
    "a function that calls itself": (
        "def f(x): return f(x - 1) if x else 1",
        "def f(x): return f(x - 1) if x else 2",
    ),
    "a table": ("a = np.arange(3.0)\ndef f(x): return a", "a = np.arange(3.0) + 1\ndef f(x): return a"),
    "an array's type": ("a = np.zeros(2)\ndef f(x): return a", "a = np.zeros(2, int)\ndef f(x): return a"),
    "a tensor": ("a = torch.zeros(2)\ndef f(x): return a", "a = torch.zeros(3)\ndef f(x): return a"),
    "a range": ("a = range(3)\ndef f(x): return a", "a = range(4)\ndef f(x): return a"),
    "a date": (
        "import datetime\na = datetime.date(2020, 1, 1)\ndef f(x): return a",
        "import datetime\na = datetime.date(2020, 1, 2)\ndef f(x): return a",
    ),
    "a distribution of torch": (
        "a = torch.distributions.Normal(0.0, 1.0)\ndef f(x): return a",
        "a = torch.distributions.Normal(0.0, 2.0)\ndef f(x): return a",
    ),
    "a distribution of scipy": (
        "import scipy.stats\na = scipy.stats.norm(0, 1)\ndef f(x): return a",
        "import scipy.stats\na = scipy.stats.norm(0, scale=2)\ndef f(x): return a",
    ),
    "a frame": (
        "import pandas\na = pandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\ndef f(x): return a",
        "import pandas\na = pandas.DataFrame({'a': [1, 2], 'b': ['x', 'z']})\ndef f(x): return a",
    ),
    "a list": ("a = [1, 2]\ndef f(x): return a", "a = [1, 3]\ndef f(x): return a"),
    "a dictionary": ("a = {'k': [1]}\ndef f(x): return a", "a = {'k': [2]}\ndef f(x): return a"),
    "a function of an installed package": ("g = np.exp\ndef f(x): return g(x)", "g = np.log\ndef f(x): return g(x)"),
    "a method of a class": (
        "class C:\n  def m(self): return 1\ndef f(x): return C().m()",
        "class C:\n  def m(self): return 2\ndef f(x): return C().m()",
    ),
    "a property of an object": (
        "class C:\n  @property\n  def m(self): return 1\nc = C()\ndef f(x): return c.m",
        "class C:\n  @property\n  def m(self): return 2\nc = C()\ndef f(x): return c.m",
    ),
    "a base class": (
        "class B:\n  def m(self): return 1\nclass C(B): pass\ndef f(x): return C().m()",
        "class B:\n  def m(self): return 2\nclass C(B): pass\ndef f(x): return C().m()",
    ),
    "an object's attribute": (
        "class C: pass\nc = C(); c.k = 1\ndef f(x): return c.k",
        "class C: pass\nc = C(); c.k = 2\ndef f(x): return c.k",
    ),
    "a closure": (
        "def o(a):\n  def f(x): return x + a\n  return f\nf = o(1)",
        "def o(a):\n  def f(x): return x + a\n  return f\nf = o(2)",
    ),
    "a closure's function": (
        "def o(a):\n  def f(x): return a(x)\n  return f\nf = o(lambda x: 1)",
        "def o(a):\n  def f(x): return a(x)\n  return f\nf = o(lambda x: 2)",
    ),
    "an argument given beforehand": (
        "import functools\ndef g(a, x): return a\nf = functools.partial(g, 1)",
        "import functools\ndef g(a, x): return a\nf = functools.partial(g, 2)",
    ),
    "what is cached": (
        "import functools\n@functools.cache\ndef f(x): return 1",
        "import functools\n@functools.cache\ndef f(x): return 2",
    ),
    "a method's object": (
        "class C:\n  def m(self, x): return self.k\nc = C(); c.k = 1\nf = c.m",
        "class C:\n  def m(self, x): return self.k\nc = C(); c.k = 2\nf = c.m",
    ),
    "an object that can be called": (
        "class C:\n  def __call__(self, x): return 1\nf = C()",
        "class C:\n  def __call__(self, x): return 2\nf = C()",
    ),
    "a network's weights": (
        "net = torch.nn.Linear(1, 1, bias=False); net.weight.data.fill_(1)\ndef f(x): return net(x)",
        "net = torch.nn.Linear(1, 1, bias=False); net.weight.data.fill_(2)\ndef f(x): return net(x)",
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_changes_no_number_changes_no_fingerprint(kind: str) -> None:
    one, other = SAME[kind]
    assert fingerprint(made(one)) == fingerprint(made(other))


@pytest.mark.parametrize("kind", OTHER)
def test_what_changes_a_number_changes_the_fingerprint(kind: str) -> None:
    one, other = OTHER[kind]
    assert fingerprint(made(one)) != fingerprint(made(other))
    assert fingerprint(made(one)) == fingerprint(made(one))


def test_helpers_in_the_users_own_modules_count() -> None:
    module = types.ModuleType("helpers")
    exec("def step(x): return x\ndef unused(x): return x", module.__dict__)
    f = made("def f(x): return helpers.step(x)", helpers=module)
    before = fingerprint(f)
    exec("def unused(x): return -x", module.__dict__)
    assert fingerprint(f) == before
    exec("def step(x): return -x", module.__dict__)
    assert fingerprint(f) != before


def test_compiled_functions_are_taken_for_what_they_compile() -> None:
    class Dispatcher:
        def __init__(self, py_func: Any) -> None:
            self.py_func = py_func

    one, same, other = (Dispatcher(made(f"def f(x): return x + {k}")) for k in (1, 1, 2))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


@pytest.mark.parametrize("f", [len, np.exp, torch.exp, functools.partial(np.add, 1), type, np.float64])
def test_functions_without_bytecode_are_known_by_name(f: Any) -> None:
    assert fingerprint(f) == fingerprint(f) != fingerprint(np.sqrt)


def test_what_refers_to_itself_ends() -> None:
    knot: list[Any] = [1]
    knot.append(knot)
    assert fingerprint(knot) == fingerprint(knot) != fingerprint([1, []])


TOY = """
import numpy as np

TABLE = {"rates": np.linspace(0, 1, 5), "names": ("a", "b"), "kinds": frozenset({"x", "y", "z"})}

class Step:
    size = 0.5
    def __call__(self, x): return self.size * x

def helper(x): return x in {"p", "q", "r"}

step = Step()

def f(theta, n=3, *, scale=(1.0, 2.0)):
    '''A toy.'''
    inner = lambda y: [step(z) for z in y if helper("p")]
    return inner(theta) + TABLE["rates"][0]
"""


def test_every_process_finds_the_same() -> None:
    """Strings hash differently in each, addresses differ, and a pickled function has no source."""
    program = f"""
import json, sys, pickle
from implicit_simulators.code import fingerprint
space = {{"__name__": "__main__"}}
exec({TOY!r}, space)
print(json.dumps([fingerprint(space["f"]), fingerprint(pickle.loads(bytes.fromhex(sys.argv[1])))]))
"""
    f = made(TOY)
    packed = cloudpickle.dumps(f).hex()
    done = subprocess.run(
        [sys.executable, "-c", program, packed], capture_output=True, text=True, check=True, env=_paths("7")
    )
    assert set(json.loads(done.stdout)) == {fingerprint(f)}


def _paths(seed: str) -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}


def test_packages_are_known_wherever_they_are(tmp_path, monkeypatch) -> None:
    """An environment may borrow another's: what is in its ``site-packages`` counts by name, all else by content."""
    prints = {}
    for place in ("site-packages", "own"):
        folder = tmp_path / place
        folder.mkdir()
        for version in (1, 2):
            name = f"borrowed_{place.replace('-', '_')}"
            module = types.ModuleType(name)
            module.__file__ = str(folder / f"{name}.py")
            exec(f"def step(x): return x + {version}", vars(module))
            monkeypatch.setitem(sys.modules, name, module)
            f = made("def f(x): return step(x)", step=module.step)
            prints[place, version] = fingerprint(f)
    assert prints["site-packages", 1] == prints["site-packages", 2]
    assert prints["own", 1] != prints["own", 2]


def test_objects_that_answer_for_any_name_are_taken_by_type() -> None:
    class Anything:
        def __getattr__(self, name: str):
            raise RuntimeError(f"no {name} here")

    assert fingerprint(made("def f(x): return x", thing=Anything())) == fingerprint(made("def f(x): return x"))
    f = made("def f(x): return thing", thing=torch.fx.operator_schemas._FakeGlobalNamespace())
    assert fingerprint(f) == fingerprint(f)
