"""Giving back pages of program files that were read for the start alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

_SMAPS = "/proc/self/smaps"
_MADV_DONTNEED = 4
_READ_ONLY = ("r--p", "r-xp")


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
            for start, end in program_ranges(smaps):
                advise(start, end - start, _MADV_DONTNEED)
    except OSError:  # no /proc here, or one that hides it
        return


def program_ranges(smaps: Iterator[str]) -> Iterator[tuple[int, int]]:
    """Addresses of read-only private mappings of files which hold nothing but the file's content,
    by the lines of proc(5)'s ``smaps``: pages that were written to exist nowhere else."""
    start = end = 0
    candidate = False
    for line in smaps:
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            addresses, permissions, _, _, inode = words[:5]
            start, end = (int(each, 16) for each in addresses.split("-"))
            candidate = permissions in _READ_ONLY and inode != "0"
        elif candidate and words[0] == "Anonymous:" and words[1] == "0":
            yield start, end
