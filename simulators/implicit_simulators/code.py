r"""A fingerprint of a function's code, so that simulations of an older version are not taken for those of this one.

It covers what the function does, wherever that is written: the instructions of its bytecode with the constants and
names they use, its defaults, the values it closes over, the globals it reads, and the same for every function and class
of the user's own that it reaches. It leaves out what changes no number: names of files, lines, comments, docstrings,
addresses in memory. Of installed packages it takes the names only, and of objects whose content it cannot tell (a
generator, an open file) the type.

The source need not be there, so it works in a notebook and for a function that came from another process. Bytecode
differs between versions of Python, and so does the fingerprint, which therefore names the version it is of.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import dis
import fractions
import functools
import hashlib
import inspect
import os
import pathlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

DIGITS = 20
FLAGS = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
"""What of a code object's flags changes what it does; others tell of docstrings and of how annotations are read."""
TOLD = (
    *(range, slice, bytearray, re.Pattern, pathlib.PurePath),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta),
)
"""Types whose ``repr`` is all that they are."""

PACKAGES = {"site-packages", "dist-packages"}
"""Folders that hold what is installed, wherever they are."""

OURS = ("implicit_simulators", "implicit_estimators", "implicit_infer")


def fingerprint(*values: Any) -> str:
    """The same string for the same code in every process, and another for other code.

    Args:
        values: Functions, and whatever else made them what they are.

    Returns:
        The version of Python and a digest, such as ``"cpython-311-0a1b2c..."``.
    """
    digest = Digest()
    for value in values:
        digest.add(value)
    return f"{sys.implementation.cache_tag}-{digest.hash.hexdigest()[:DIGITS]}"


class Digest:
    """Feeds values to a hash.

    What was seen before is named by its place, so that cycles end: for good where an object is one thing in every
    process (functions, classes, instances), and only inside itself where equal copies may stand for it (tuples).
    """

    installed_by_name = True
    """Whether functions of installed packages count by their name alone."""

    def __init__(self, seen: dict[int, tuple[int, Any]] | None = None) -> None:
        self.hash = hashlib.sha256()
        self.seen = {} if seen is None else seen
        self.inside: list[int] = []

    def put(self, *words: object) -> None:
        """Take in words, each with its length, so that ("ab", "c") is not ("a", "bc")."""
        for word in words:
            raw = word if isinstance(word, bytes) else str(word).encode()
            self.hash.update(b"%d:" % len(raw))
            self.hash.update(raw)

    def add(self, value: Any) -> None:
        """Take in one value by its type and content."""
        if value is None or isinstance(value, (bool, int, str, bytes, complex, types.EllipsisType)):
            self.put(type(value).__name__, value)
        elif isinstance(value, float):
            self.put("float", value.hex())
        elif isinstance(value, types.CodeType):
            self._code(value, {})
        elif isinstance(value, types.ModuleType):
            self.put("module", value.__name__)
        elif isinstance(value, type) or not self._plain(value):
            if id(value) in self.seen:
                self.put("again", self.seen[id(value)][0])
                return
            self.seen[id(value)] = (len(self.seen), value)  # kept alive, so that its id stays its own
            self._object(value)

    def _plain(self, value: Any) -> bool:
        """Take in a collection or an array; False if it is neither."""
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) or _has_array(value):
            self._array(value)
            return True
        if not isinstance(value, (tuple, list, collections.deque, set, frozenset, dict, types.MappingProxyType)):
            return False
        if id(value) in self.inside:
            self.put("inside", self.inside.index(id(value)))
            return True
        self.inside.append(id(value))
        self.put(type(value).__name__, len(value))
        if isinstance(value, (tuple, list, collections.deque)):
            for item in value:
                self.add(item)
        elif isinstance(value, (set, frozenset)):
            self.put(*sorted(self._apart(item) for item in value))
        else:
            items = {self._apart(key): item for key, item in value.items()}
            for key in sorted(items):
                self.put(key)
                self.add(items[key])
        self.inside.pop()
        return True

    def _apart(self, value: Any) -> str:
        """The digest of one value by itself, for collections without an order."""
        digest = Digest(dict(self.seen) if not isinstance(value, (str, int, float)) else {})
        digest.inside = list(self.inside)
        digest.add(value)
        return digest.hash.hexdigest()

    def _object(self, value: Any) -> None:
        kind = type(value)
        # numba, functools and others
        inner = _attribute(value, "py_func", None) or _attribute(value, "__wrapped__", None)
        if isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self.put("method")
            self.add(value.__func__)
            self.add(value.__self__)
        elif isinstance(value, functools.partial):
            self.put("partial")
            self.add([value.func, value.args, value.keywords])
        elif isinstance(inner, types.FunctionType):
            self.put("wrapped", kind.__name__)
            self.add(inner)
        elif isinstance(value, torch.nn.Module):
            self.put("module", repr(value))
            self.add(kind)
            self.add(dict(value.state_dict()))
        elif isinstance(value, TOLD):
            self.put(kind.__qualname__, repr(value))
        elif isinstance(value, torch.distributions.Distribution):
            self.put("distribution", kind.__qualname__)
            self.add(vars(value))
        elif isinstance(_attribute(value, "kwds", None), dict):
            self.put("frozen")  # a distribution of scipy with its parameters
            self.add([getattr(_attribute(value, "dist", None), "name", ""), getattr(value, "args", ()), value.kwds])
        elif _installed(kind):
            self.put("object", kind.__module__, kind.__qualname__, _attribute(value, "__name__", ""))
        else:
            self.put("object")
            self.add(kind)
            self.add(_attribute(value, "__dict__", {}))

    def _array(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.put("tensor", value.dtype, tuple(value.shape))
            if value.layout == torch.strided and not value.is_meta:
                self.put(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            return
        array = np.asarray(value)
        self.put(type(value).__name__, array.dtype, array.shape)
        if array.dtype.hasobject:
            self.add(array.tolist())
        else:
            self.put(array.tobytes())

    def _function(self, function: types.FunctionType) -> None:
        if self.installed_by_name and _installed(function):
            self.put("function", function.__module__, function.__qualname__)
            return
        self.put("function")
        self._code(function.__code__, function.__globals__)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:
                self.put("an empty cell")

    def _code(self, code: types.CodeType, names: Mapping[str, Any]) -> None:
        """Instructions with what they refer to, rather than with its place in a table."""
        flags = code.co_flags & FLAGS
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.put("code", flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, *arguments)
        instructions = list(dis.get_instructions(code))
        for instruction in instructions:
            self.put(instruction.opname)
            if isinstance(instruction.argval, types.CodeType):
                self._code(instruction.argval, names)
            else:
                self.add(instruction.argval)
        self.put(getattr(code, "co_exceptiontable", b""))
        for value in _globals(instructions, names):
            self.add(value)

    def _class(self, kind: type) -> None:
        self.put("class", kind.__module__, kind.__qualname__)
        if _installed(kind):
            return
        for base in kind.__bases__:
            self.add(base)
        for name, member in sorted(vars(kind).items()):
            if name.startswith("__") and not inspect.isfunction(member):
                continue  # its docstring, its module, the slots for weak references
            self.put(name)
            self.add(member.fget if isinstance(member, property) else getattr(member, "__func__", member))


def _globals(instructions: list[dis.Instruction], names: Mapping[str, Any]) -> Iterator[Any]:
    """The values of the globals that are read, and of what is read from modules of the user's own."""
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        if instruction.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or instruction.argval not in names:
            continue
        value = names[instruction.argval]
        if isinstance(value, types.ModuleType):
            if following is not None and following.opname in ("LOAD_ATTR", "LOAD_METHOD") and not _installed(value):
                yield getattr(value, following.argval, None)
        else:
            yield value


def _attribute(value: Any, name: str, default: Any) -> Any:
    """An attribute, of objects too that raise at names they do not know."""
    try:
        return getattr(value, name, default)
    except Exception:
        return default


def _has_array(value: Any) -> bool:
    """Whether a value can be made an array; objects that answer for any name, or raise at one, cannot."""
    return callable(getattr(type(value), "__array__", None))


def _installed(thing: Any) -> bool:
    """Whether a module, or that of a function or class, is a package's and not the user's own."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    if name in (None, "__main__"):
        return False
    if name.split(".")[0] in OURS:
        return True
    module = sys.modules.get(name)
    if module is None:
        return False  # gone, or it came from another process
    file = getattr(module, "__file__", None)
    # an environment may borrow another's packages, and so may a user's own folder of them
    return file is None or file.startswith(_folders()) or not PACKAGES.isdisjoint(Path(file).parts)


@functools.cache
def _folders() -> tuple[str, ...]:
    places = sysconfig.get_paths()
    return tuple({os.path.join(places[name], "") for name in ("stdlib", "platstdlib", "purelib", "platlib")})
