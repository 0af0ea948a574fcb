"""Compiled kernels on disk, so that the seconds of compiling a model are paid once and not by every process.

numba files a function's machine code under its source file and line (``cache=True``), which cannot tell two networks
apart whose loop is the same source. Here each kernel has files of its own, named by a fingerprint of everything that
went into it: in numba's one index for all, two processes that save at once can leave each other's code under their own
key. The rest is numba's: where files lie (``NUMBA_CACHE_DIR``, or beside the source, or in the user's cache folder),
atomic replacement, and the processor and versions that they are valid for. numba reads its files with ``pickle``; they
are written by this user on this machine, and are as trusted as the ``__pycache__`` of any module.

Importing this module imports numba.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

from implicit_simulators.code import Digest

logger = logging.getLogger(__name__)


class _Cache(FunctionCache):
    """numba's cache of one function, in files of our naming; disks that are full or not ours are done without."""

    def __init__(self, function: Any, key: str) -> None:
        super().__init__(function)
        self._key = key
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}-{key[:24]}",
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return signature, codegen.magic_tuple(), self._key

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(signature, target_context)
        except Exception as error:
            logger.debug("the kernel on disk cannot be read and is compiled again: %s", error)
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            try:
                super().save_overload(signature, data)
            except OSError:
                raise
            except Exception:  # an index that cannot be read is read before it is written
                self.flush()
                super().save_overload(signature, data)
        except Exception as error:
            logger.debug("the kernel is not kept on disk: %s", error)


class _Contents(Digest):
    """A digest of what functions do that takes none by its name: a kernel has their very numbers in it.

    For the fingerprint of a simulator, an installed function is known by its package; but a function made by another,
    in any package, has closed over other values each time.
    """

    installed_by_name = False


class CachedKernel:
    """A numba function whose machine code is looked up on disk before it is compiled.

    Args:
        dispatcher: What ``njit`` gave.
        parts: All that it was made from: functions of the user and plain values.
        name: What is being compiled, for the log.

    Attributes:
        seconds: What compiling, or loading, has taken in all.
        compiled: How many times it was compiled in this process rather than loaded.
    """

    def __init__(self, dispatcher: Any, parts: Any, name: str) -> None:
        self._dispatcher, self._name = dispatcher, name
        contents = _Contents()
        contents.add(parts)
        self._key = f"{sys.implementation.cache_tag} {_sources()} {contents.hash.hexdigest()}"
        self.seconds, self.compiled = 0.0, 0
        self._one_at_a_time = threading.Lock()  # numba's cache is pointed at one signature's files

    def prepare(self, *arguments: Any) -> float:
        """Compile, or load, for arguments of these types, and say how long it took, in seconds."""
        import numba

        signature = tuple(numba.typeof(argument) for argument in arguments)
        if signature in self._dispatcher.overloads:
            return 0.0
        with self._one_at_a_time:
            return 0.0 if signature in self._dispatcher.overloads else self._compile(signature)

    def _compile(self, signature: Any) -> float:
        begun = time.perf_counter()
        folder = self._look_on_disk(signature)
        misses = sum(self._dispatcher.stats.cache_misses.values())
        self._dispatcher.compile(signature)
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        if folder is None or sum(self._dispatcher.stats.cache_misses.values()) > misses:
            self.compiled += 1
            kept = "not kept on disk" if folder is None else f"once: it is kept in {folder}"
            logger.info("compiled %s in %.1f s (%s)", self._name, seconds, kept)
        return seconds

    def _look_on_disk(self, signature: Any) -> str | None:
        """Point numba at the files for these types; the folder, or None where none can be written."""
        key = hashlib.sha256(f"{self._key} {signature}".encode()).hexdigest()
        try:
            self._dispatcher._cache = _Cache(self._dispatcher.py_func, key)
        except (RuntimeError, AttributeError, TypeError) as error:  # no folder can be written, or numba has moved on
            logger.debug("kernels are not kept on disk: %s", error)
            return None
        return str(self._dispatcher._cache.cache_path)

    def __call__(self, *arguments: Any) -> Any:
        """Run it; the first time for arguments of these types, compile or load it before."""
        self.prepare(*arguments)
        return self._dispatcher(*arguments)


@functools.cache
def _sources() -> str:
    """A digest of the engines' own files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
