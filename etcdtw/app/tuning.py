"""Settings of the whole process: made by the entry points, never for an embedding program."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence, Sized

SWITCH_INTERVAL_SECONDS = 1e-4
"""A busy reactor lets a thread that waits for the interpreter in after this long. At Python's
default of 5 ms a sync on the worker thread starves beside a reactor full of reads."""

_YOUNG_OBJECTS = 50_000

_WALKED_MAX = 100_000
"""Elements of large containers that the collector may walk, which takes it some milliseconds."""


def tune_process() -> None:
    """Prefer short pauses: threads get their turn soon, and the collector runs rarely, because
    requests make almost no cycles and long-lived data are tuples and bytes."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def freeze_loaded() -> None:
    """Take everything loaded so far (modules, the store) out of future collections. What of it is
    garbage stays, too little to be worth a walk over all while the first requests wait."""
    gc.freeze()


def hide_from_collector(containers: Callable[[], Sequence[Sized]]) -> Callable[[], None]:
    """Keep the collector from walking containers that cannot be part of a cycle, since they hold
    bytes and numbers alone: 80 ms for a million of those, once in each generation. Returns what
    ends that.

    ``containers`` gives them, before each collection. CPython only; elsewhere nothing happens.
    """

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and sum(map(len, found := containers())) > _WALKED_MAX:
            _untrack([each for each in found if gc.is_tracked(each)])

    if sys.implementation.name == "cpython":
        gc.callbacks.append(look)
    return lambda: gc.callbacks.remove(look) if look in gc.callbacks else None


def _untrack(containers: list[Sized]) -> None:
    # Imported late: it costs memory, which only those have to give who have many keys.
    import ctypes

    untrack = ctypes.pythonapi.PyObject_GC_UnTrack
    untrack.argtypes = [ctypes.py_object]
    untrack.restype = None
    for each in containers:
        untrack(each)
