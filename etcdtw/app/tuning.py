"""Settings of the whole process: made by the entry points, never for an embedding program."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_SECONDS = 1e-4
"""A busy reactor lets a thread that waits for the interpreter in after this long. At Python's
default of 5 ms a sync on the worker thread starves beside a reactor full of reads."""

_YOUNG_OBJECTS = 50_000


def tune_process() -> None:
    """Prefer short pauses: threads get their turn soon, and the collector runs rarely, because
    requests make almost no cycles and long-lived data are tuples and bytes."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def freeze_loaded() -> None:
    """Take everything loaded so far (modules, the store) out of future collections."""
    gc.collect()
    gc.freeze()
