"""Objects to JSON and tensors and back: what is held by whom, with each object and tensor written once.

A value is written as itself where JSON has it, and else as ``{"$": kind, ...}``. Objects stand in one list and are
referred to by their place, so that what was shared is shared again. A module is its parameters, buffers, submodules and
further attributes; any other object its attributes. Classes and functions are names, and only those of ``ALLOWED``.
"""

from __future__ import annotations

import functools
import importlib
import math
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_simulators import Simulator, Stream, unconstrained

ALLOWED = (
    "implicit_estimators.",
    "implicit_infer.abc.",
    "implicit_infer.games.",
    "implicit_infer.posteriors.",
    "implicit_infer.runs",
    "torch.nn.functional",
    "torch.nn.modules.",
    "zuko.",
)
"""Modules whose classes and functions a file may name: parts of posteriors, and nothing that acts on the machine."""

_OWN = set(vars(nn.Module()))
"""Attributes that every module has from torch; ``nn.Module.__init__`` makes them."""


class Writer:
    """Writes values of one posterior.

    Args:
        simulator: The posterior's simulator, which is not written.

    Attributes:
        objects: Every object that was met, as JSON.
        tensors: Every tensor, by the name that the JSON refers to it by.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.objects: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self._places: dict[int, Any] = {}
        self._kept: list[Any] = []  # an object that is gone may leave its id to another

    def write(self, value: Any, where: str) -> Any:
        """The JSON of a value.

        Args:
            value: What is written.
            where: How it was reached, for messages.

        Raises:
            TypeError: If it cannot be written.
        """
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "of": repr(value)}
        if type(value) is list:
            return [self.write(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
        kinds: dict[type, str] = {tuple: "tuple", torch.Size: "size", set: "set", frozenset: "frozenset"}
        kind = kinds.get(type(value))
        if kind is not None:
            return {"$": kind, "of": [self.write(entry, f"{where}[{i}]") for i, entry in enumerate(value)]}
        if isinstance(value, dict):
            entries = value.items()
            return {"$": "dict", "of": [[self.write(k, where), self.write(v, f"{where}[{k!r}]")] for k, v in entries]}
        if isinstance(value, slice):
            return {"$": "slice", "of": [self.write(part, where) for part in (value.start, value.stop, value.step)]}
        if isinstance(value, (torch.dtype, torch.device)):
            return {"$": type(value).__name__, "of": str(value).removeprefix("torch.")}
        if isinstance(value, (np.ndarray, np.generic)):
            return {"$": "numpy", "of": self._tensor(torch.as_tensor(np.array(value)), where)}
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        return self._whole(value, where)

    def _tensor(self, value: Tensor, where: str) -> Any:
        if value.device.type == "meta":
            about = {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            return {"$": "meta", **about, "parameter": isinstance(value, nn.Parameter)}
        if id(value) not in self._places:
            name = f"t{len(self.tensors)}"
            self.tensors[name] = value
            self._keep(value, {"$": "tensor", "of": name, "grad": value.requires_grad and value.is_leaf})
            if isinstance(value, nn.Parameter):
                self._places[id(value)]["parameter"] = True
        return self._places[id(value)]

    def _whole(self, value: Any, where: str) -> Any:
        if value is self.simulator or value is self.simulator.prior:
            return {"$": "simulator" if value is self.simulator else "prior"}
        if isinstance(value, Transform):
            if not _same(value, unconstrained(self.simulator.prior), self.simulator.dim):
                raise TypeError(f"{where}: expected the bijection of the prior's support; got {value!r}")
            return {"$": "transform"}
        if isinstance(value, types.MethodType):
            owner = self.write(value.__self__, f"{where}.__self__")
            return {"$": "method", "of": [owner, value.__func__.__name__]}
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return {"$": "name", "of": _name_of(value, where)}
        if isinstance(value, functools.partial):
            parts = [value.func, value.args, dict(value.keywords)]
            return {"$": "partial", "of": [self.write(part, f"{where}.partial") for part in parts]}
        if id(value) in self._places:
            return self._places[id(value)]
        if isinstance(value, Simulator) or not hasattr(value, "__dict__"):
            raise TypeError(f"{where}: a {type(value).__name__} cannot be saved{_advice(type(value))}")
        entry: dict[str, Any] = {"class": _name_of(type(value), where)}
        place = {"$": "object", "of": len(self.objects)}
        self.objects.append(entry)
        self._keep(value, place)
        state = value._state() if hasattr(value, "_state") else vars(value)
        if isinstance(value, nn.Module):
            for part in ("parameters", "buffers", "modules"):
                held = getattr(value, f"_{part}")
                entry[part] = [[name, self.write(one, f"{where}.{name}")] for name, one in held.items()]
            entry["passing"] = sorted(value._non_persistent_buffers_set)
            state = {name: one for name, one in state.items() if name not in _OWN} | {"training": value.training}
        entry["state"] = [[name, self.write(one, f"{where}.{name}")] for name, one in state.items()]
        return place

    def _keep(self, value: Any, place: Any) -> None:
        self._kept.append(value)
        self._places[id(value)] = place


class Reader:
    """Makes again what a :class:`Writer` wrote.

    Args:
        simulator: The simulator, for whatever held it.
        tensors: Tensors by name.
        objects: The list of objects.
    """

    def __init__(self, simulator: Simulator, tensors: Mapping[str, Tensor], objects: list[dict[str, Any]]) -> None:
        self.simulator, self.objects = simulator, objects
        self.tensors = dict(tensors)
        self._made: dict[Any, Any] = {}

    def read(self, value: Any) -> Any:
        """The value of some JSON.

        Raises:
            ValueError: If it names a class or function that is not ours.
        """
        if isinstance(value, list):
            return [self.read(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        kind: str = value["$"]
        of: Any = value.get("of")
        if kind == "object":
            return self._object(of)
        if kind == "tensor":
            return self._tensor(value)
        if kind == "name":
            return _named(of)
        if kind == "meta":
            empty = torch.empty(value["shape"], dtype=_dtype(value["dtype"]), device="meta")
            return nn.Parameter(empty) if value["parameter"] else empty
        if kind in ("simulator", "prior"):
            return self.simulator if kind == "simulator" else self.simulator.prior
        if kind == "transform":
            return self._made.setdefault("transform", unconstrained(self.simulator.prior))
        parts = self.read(of)
        if kind == "partial":
            function, arguments, keywords = parts
            return functools.partial(function, *arguments, **keywords)
        makers: dict[str, Any] = {
            "float": float,
            "tuple": tuple,
            "size": torch.Size,
            "set": set,
            "frozenset": frozenset,
            "dict": dict,
            "slice": lambda parts: slice(*parts),
            "method": lambda parts: _method(*parts),
            "dtype": _dtype,
            "device": torch.device,
            "numpy": lambda tensor: tensor.numpy()[()] if tensor.ndim == 0 else tensor.numpy(),
        }
        if kind not in makers:
            raise ValueError(f"path: the file holds a {kind!r}, which this version does not know")
        return makers[kind](parts)

    def _tensor(self, value: dict[str, Any]) -> Tensor:
        key = value["of"]
        if key not in self._made:
            tensor = self.tensors[key]
            if value.get("parameter"):
                self._made[key] = nn.Parameter(tensor, requires_grad=value["grad"])
            else:
                self._made[key] = tensor.requires_grad_(value["grad"])
        found: Tensor = self._made[key]
        return found

    def _object(self, place: int) -> Any:
        if ("object", place) in self._made:
            return self._made["object", place]
        entry = self.objects[place]
        kind = _named(entry["class"])
        if not isinstance(kind, type) or issubclass(kind, Simulator):
            raise ValueError(f"path: expected a class of posteriors' parts; the file names {entry['class']}")
        made = self._made["object", place] = kind.__new__(kind)
        if isinstance(made, nn.Module):
            nn.Module.__init__(made)
            for name, one in entry["parameters"]:
                made.register_parameter(name, self.read(one))
            for name, one in entry["buffers"]:
                made.register_buffer(name, self.read(one), persistent=name not in entry["passing"])
            for name, one in entry["modules"]:
                made.add_module(name, self.read(one))
        state = {name: self.read(one) for name, one in entry["state"]}
        if hasattr(made, "_of_state"):
            made._of_state(state)
        else:
            for name, one in state.items():
                object.__setattr__(made, name, one)
        return made


def _name_of(value: Any, where: str) -> str:
    """``module:name`` of a class or function that :func:`_named` finds again."""
    module, name = str(getattr(value, "__module__", "")), str(value.__qualname__)
    if module == "torch" or module.startswith("torch._C"):
        module = "torch.nn.functional"
    said = f"{module}:{name}"
    try:
        found = _named(said)
    except (ValueError, AttributeError, ModuleNotFoundError):
        found = None
    if found is not value:
        raise TypeError(f"{where}: {said.replace(':', '.')} cannot be saved{_advice(value)}")
    return said


def _named(name: str) -> Any:
    """What ``module:name`` names.

    Raises:
        ValueError: If the module is not one of ``ALLOWED``.
    """
    module, _, qualified = name.partition(":")
    if not any(module == known or module.startswith(known) for known in ALLOWED):
        raise ValueError(f"path: expected names of {', '.join(ALLOWED)}; the file holds {name!r}")
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
        # a name that a module of ours has imported from elsewhere is not ours, nor is anything behind it
        home = str(getattr(found, "__module__", None) or "")
        of_torch = module == "torch.nn.functional" and home in ("", "torch", "torch._C._nn") and callable(found)
        if not of_torch and not any(home == known or home.startswith(known) for known in ALLOWED):
            raise ValueError(f"path: expected names of {', '.join(ALLOWED)}; the file holds {name!r}")
    return found


def _method(owner: Any, name: str) -> Any:
    """A method that the class of ``owner`` writes in Python; of a class that a file may name."""
    kind = type(owner)
    _named(f"{kind.__module__}:{kind.__qualname__}")
    if not isinstance(getattr(kind, name, None), types.FunctionType):
        raise ValueError(f"path: {kind.__name__} has no method {name!r}")
    return getattr(owner, name)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"path: expected the name of a dtype; the file holds {name!r}")
    return found


def _same(ours: Transform, prior: Transform, d: int) -> bool:
    """Whether two bijections of d parameters agree at random points."""
    u = torch.randn((16, d), generator=Stream.of(0, role="sample").torch())
    try:
        return torch.equal(ours(u), prior(u))
    except (RuntimeError, ValueError, IndexError):
        return False


def _advice(value: Any) -> str:
    module = str(getattr(value, "__module__", ""))
    if module.startswith(("sbi.", "nflows.", "pyknos.")):
        return ": sbi's networks are not rebuilt without pickle; keep the draws, posterior.to_xarray()"
    if module.startswith("implicit_infer.stor"):
        return ": simulations on disk stay there; infer from them in memory, runs.in_memory()"
    return " without pickle"
