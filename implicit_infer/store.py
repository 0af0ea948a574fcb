"""Keep simulations on disk so that no kill, full disk or second writer can lose or corrupt them.

A store is a Zarr (version 3) group that ``xarray.open_zarr`` reads:

=============  ======================================  =====================================================
variable       dimensions                              holds
=============  ======================================  =====================================================
``theta``      (simulation, parameter)                 parameters; NaN where not simulated yet
``x``          (simulation, x_dim_0, x_dim_1, ...)     simulations; NaN where failed or not simulated yet
``reason``     (simulation)                            why a simulation failed, or an empty string
``rows``       (block)                                 how many rows of each block are finished
``parameter``  (parameter)                             coordinate: names of the parameters
=============  ======================================  =====================================================

Its attributes say who made it: simulator, settings, parameter names, seed, block size, versions.

**Surviving.** One chunk is one block. A block's data are written and flushed to the disk first, its entry in ``rows``
(a chunk of its own, replaced atomically) after that. A block counts only by that entry, so whatever a kill, a crash or
a full disk leaves of an unfinished block is never read, and is overwritten when the run is resumed. Metadata are
flushed before they take the place of the old ones. An entry that the power left empty does not count.

**One writer.** A writer holds a lock of the operating system on ``<store>.lock``. The system frees it when the process
ends, however it ends, so there are no stale locks to judge; the file names the holder's process and host for the
message that a second writer gets. Readers need no lock.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import socket
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import torch
from torch import Tensor

from implicit_infer.blocks import Block
from implicit_simulators import Seed, Simulator, resolve_seed

logger = logging.getLogger(__name__)

FORMAT = 2


def open_store(path: str | os.PathLike[str], mode: Literal["r", "r+"] = "r") -> tuple[Any, dict[str, Any]]:
    """The Zarr group of a store, and its attributes.

    Raises:
        ValueError: If there is nothing at ``path``, or something else.
    """
    import zarr

    if not Path(path).exists():
        raise ValueError(f"store: there is nothing at {path}")
    try:
        group: Any = zarr.open_group(path, mode=mode, use_consolidated=False)
        about = dict(group.attrs)
        if about["format"] != FORMAT:
            raise ValueError(f"store: {path} has format {about['format']!r}; this version reads {FORMAT}")
    except (FileNotFoundError, FileExistsError, NotADirectoryError, KeyError) as error:
        raise ValueError(f"store: {path} exists and is not a store of simulations") from error
    return group, about


def finished_rows(group: Any, path: Path) -> np.ndarray:
    """How many rows of each block are finished, by the entries that were written whole."""
    torn = [entry for entry in (path / "rows" / "c").glob("*") if not entry.stat().st_size]
    if not torn:
        return np.asarray(group["rows"][:])
    lost = {int(entry.name) for entry in torn}
    return np.array([0 if block in lost else int(group["rows"][block]) for block in range(group["rows"].shape[0])])


class Store:
    """Blocks of one run on disk; use it as a context, ``with Store(path, simulator, seed) as store``.

    Args:
        path: Folder of the store; made when the first block is written.
        simulator: What makes the simulations.
        seed: Root of the streams; None takes the seed of the store that is there, or fresh entropy.

    Attributes:
        seed: The seed of the run.

    Raises:
        ValueError: If there is something else at ``path``, or a store of another simulator, settings, prior, block
            size or seed; the message says which.
        RuntimeError: If another process writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], simulator: Simulator, seed: Seed = None) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"store: expected the path of a folder; got {type(path).__name__}")
        if "://" in os.fspath(path):
            raise ValueError(f"store: expected a folder on this machine; got {os.fspath(path)!r}")
        self.path = Path(path)
        self.simulator = simulator
        self._lock = _Lock(self.path.with_name(self.path.name + ".lock"))
        self._group: Any = None
        self._reserved = 0
        self._rows = np.zeros(0, dtype=np.int64)
        try:
            self.seed = self._open(seed)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def reserve(self, n: int) -> None:
        """Make room for ``n`` simulations; room once made stays."""
        self._reserved = max(self._reserved, n)
        if self._group is not None:
            self._resize()

    def holds(self, block: int, size: int) -> bool:
        """Whether at least the first ``size`` rows of ``block`` are finished."""
        return block < len(self._rows) and int(self._rows[block]) >= size

    def read(self, block: int, size: int) -> Block:
        """The first ``size`` rows of a finished block."""
        start = block * self.simulator.block
        part = slice(start, start + size)
        errors = {row: str(reason) for row, reason in enumerate(self._group["reason"][part]) if reason}
        theta, x = (torch.from_numpy(np.ascontiguousarray(self._group[name][part])) for name in ("theta", "x"))
        return Block(block, theta, x, errors)

    def write(self, block: Block) -> None:
        """Keep a finished block: first its data, flushed to the disk, then the entry that makes it count."""
        if self._group is None:
            self._create(block.x)
        size = len(block.theta)
        start = block.index * self.simulator.block
        part = slice(start, start + size)
        if self._rows[block.index]:  # a shorter block is being replaced: from here on it does not count
            self._count(block.index, 0)
        reasons = np.array([block.errors.get(row, "") for row in range(size)], dtype=object)
        self._group["theta"][part] = block.theta.numpy()
        self._group["x"][part] = block.x.cpu().numpy()
        self._group["reason"][part] = reasons
        for name in ("theta", "x", "reason"):
            self._flush(name, block.index)
        self._count(block.index, size)

    def _count(self, block: int, size: int) -> None:
        self._group["rows"][block] = size
        self._flush("rows", block)
        self._rows[block] = size

    def _flush(self, name: str, block: int) -> None:
        """Have the operating system write the chunks of one block, and the folders that list them, to the disk."""
        chunks = self.path / name / "c"
        place = chunks / str(block)
        for path in (place, *place.rglob("*"), chunks, chunks.parent):
            if path.exists():  # a chunk that holds only the fill value is not written
                fsync(path)

    def _open(self, seed: Seed) -> int:
        """Check that what is at ``path`` is ours, mend a resizing that was cut short, and find the seed."""
        if not self.path.exists():
            return resolve_seed(seed)
        group, theirs = open_store(self.path, "r+")
        seed = int(theirs["seed"]) if seed is None else resolve_seed(seed)
        check_identity(self.simulator, seed, theirs, self.path)
        if theirs["versions"] != _versions():
            logger.warning("%s was begun with %s; this run has %s", self.path, theirs["versions"], _versions())
        for partial in self.path.rglob("*.partial"):
            partial.unlink()  # a file that a killed process was writing
        for entry in (self.path / "rows" / "c").glob("*"):
            if not entry.stat().st_size:  # moved into place, but not written when the power went
                entry.unlink()
        self._group = group
        self._reserved = int(group["theta"].shape[0])
        self._resize()
        self._check_prior(seed)
        return seed

    def _check_prior(self, seed: int) -> None:
        """Settings do not tell one prior from another; the parameters that the prior draws do."""
        for block in np.flatnonzero(self._rows)[:1].tolist():
            size = int(self._rows[block])
            kept, drawn = self.read(block, size).theta, self.simulator.sample_prior(size, seed, block)
            if not torch.equal(kept, drawn):
                raise ValueError(
                    f"store: the prior draws other parameters than {self.path} holds: it has changed, or another "
                    "version of torch draws other random numbers"
                )

    def _create(self, x: Tensor) -> None:
        """Write an empty store beside ``path`` and move it there whole."""
        import zarr

        draft = self.path.with_name(self.path.name + ".draft")
        shutil.rmtree(draft, ignore_errors=True)
        simulator, n, size = self.simulator, self._reserved, self.simulator.block
        identity = {"format": FORMAT, **_identity(simulator, self.seed), "versions": _versions()}
        group = zarr.open_group(draft, mode="w", attributes=identity)

        def add(name: str, dtype: Any, fill: Any, dims: tuple[str, ...], row: tuple[int, ...]) -> None:
            chunks = (size, *row)
            group.create_array(name, shape=(n, *row), chunks=chunks, dtype=dtype, fill_value=fill, dimension_names=dims)

        event = tuple(simulator.event_shape)
        add("theta", "float32", float("nan"), ("simulation", "parameter"), (simulator.dim,))
        x_dims = (f"x_dim_{i}" for i in range(len(event)))
        add("x", x.cpu().numpy().dtype, float("nan"), ("simulation", *x_dims), event)
        add("reason", str, "", ("simulation",), ())
        blocks = -(-n // size)
        group.create_array("rows", shape=(blocks,), chunks=(1,), dtype="int64", dimension_names=("block",))
        names = np.array(simulator.parameter_names, dtype=object)
        group.create_array("parameter", shape=names.shape, dtype=str, dimension_names=("parameter",))[:] = names
        _consolidate(draft)
        for path in (*draft.rglob("*"), draft):
            fsync(path)
        os.replace(draft, self.path)
        fsync(self.path.parent)
        self._group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        self._rows = np.asarray(self._group["rows"][:])

    def _resize(self) -> None:
        """Give all variables room for what is reserved. Cut short at any point, the next opening does it again."""
        import zarr

        n = self._reserved
        lengths = {"theta": n, "x": n, "reason": n, "rows": -(-n // self.simulator.block)}
        for name, length in lengths.items():
            _edit(self.path / name / "zarr.json", functools.partial(_lengthen, length=length))

        def gathered(group: dict[str, Any]) -> None:
            for name, length in lengths.items():
                _lengthen(group["consolidated_metadata"]["metadata"][name], length)

        _edit(self.path / "zarr.json", gathered)
        self._group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        self._rows = np.asarray(self._group["rows"][:])


def _lengthen(array: dict[str, Any], length: int) -> None:
    array["shape"][0] = max(array["shape"][0], length)


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a file of metadata; at any moment the disk holds either the old one or the new one, whole."""
    old = path.read_text()
    content = json.loads(old)
    change(content)
    if content == json.loads(old):
        return
    draft = path.with_name(f"{path.name}.partial")
    draft.write_text(json.dumps(content, indent=2))
    fsync(draft)
    os.replace(draft, path)
    fsync(path.parent)


def check_identity(simulator: Simulator, seed: int, about: dict[str, Any], path: Path) -> None:
    """Refuse a store that another simulator, settings or seed has made.

    Raises:
        ValueError: If it is one; the message says what differs.
    """
    for key, ours in _identity(simulator, seed).items():
        if about.get(key) != ours:
            there, here = _difference(about.get(key), ours)
            raise ValueError(
                f"store: {path} was made with {key} {there!r}; this run has {here!r}: "
                "give another path, or what made the store"
            )


def _difference(theirs: Any, ours: Any) -> tuple[Any, Any]:
    """What differs: of two dicts only the entries that do."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return theirs, ours
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return {key: theirs[key] for key in keys if key in theirs}, {key: ours[key] for key in keys if key in ours}


def _identity(simulator: Simulator, seed: int) -> dict[str, Any]:
    """What two runs must share to belong to one store, as JSON gives it back."""
    identity = {
        "simulator": simulator.name,
        "class": f"{type(simulator).__module__}.{type(simulator).__qualname__}",
        "settings": simulator.settings(),
        "parameter_names": list(simulator.parameter_names),
        "event_shape": list(simulator.event_shape),
        "block": simulator.block,
        "seed": seed,
    }
    loaded: dict[str, Any] = json.loads(json.dumps(identity, default=repr))
    return loaded


def _versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("implicit-infer", "torch", "numpy", "numba")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _consolidate(path: Path) -> None:
    """Gather the variables' metadata in one file, which readers such as xarray look for first."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(path)


def fsync(path: Path) -> None:
    """Have the operating system write a file, or a folder's list of files, to the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Lock:
    """An exclusive lock of the operating system on a file, freed by the system when its holder ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("a+")
            if not _try_lock(file):
                file.seek(0)
                holder = file.read().strip() or "another process"
                file.close()
                raise RuntimeError(f"store: {path.with_suffix('')} is being written by {holder}")
            # the holder before us may have removed the file between our opening and our locking it
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
            file.close()
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self.file = file
        _held.add(self)

    def release(self) -> None:
        """Remove the file while it is still ours, then let go."""
        if not self.file.closed:
            try:
                if sys.platform != "win32":
                    self.path.unlink(missing_ok=True)
            finally:
                self.file.close()


_held: weakref.WeakSet[_Lock] = weakref.WeakSet()


def _let_go() -> None:
    """A forked child must not keep its parent's locks alive after the parent has ended."""
    for lock in _held:
        lock.file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _try_lock(file: TextIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(2**30)  # beyond the text, so that others can read who holds it
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
