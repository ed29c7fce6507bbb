"""Giving back pages of program files that were read for the start alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

_SMAPS = "/proc/self/smaps"
_MADV_DONTNEED = 4
_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ ([0-9]+) .*\n(?:[A-Z].*\n)*?Anonymous: +([0-9]+) kB",
    re.M,
)


def give_back_program_pages() -> None:
    """Let go of what is resident of the interpreter's and the libraries' files: half of it is only
    used while a program loads. What is needed again comes back from the system's cache of files,
    a few microseconds for 64 KiB. Linux only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    import ctypes

    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    try:
        with open(_SMAPS, encoding="ascii", errors="replace") as smaps:
            for start, end in program_ranges(smaps.read()):
                advise(start, end - start, _MADV_DONTNEED)
    except OSError:  # no /proc here, or one that hides it
        return


def program_ranges(smaps: str) -> Iterator[tuple[int, int]]:
    """Addresses of read-only private mappings of files which hold nothing but the file's content,
    by proc(5)'s ``smaps``: pages that were written to exist nowhere else."""
    for mapping in _MAPPING.finditer(smaps):
        start, end, inode, anonymous = mapping.groups()
        if inode != "0" and anonymous == "0":
            yield int(start, 16), int(end, 16)
