"""Giving back pages of program files that were read for the start alone."""

from __future__ import annotations

import re
from contextlib import suppress

SMAPS = "/proc/self/smaps"
_MADV_DONTNEED = 4
_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ ([0-9]+) .*\n"
    r"(?:[A-Z].*\n)*?Anonymous: +([0-9]+) kB\n(?:(?:[A-Z].*\n)*?Swap: +([0-9]+) kB)?",
    re.M,
)

Range = tuple[int, int]


class ProgramPages:
    """What is mapped of the interpreter's and the libraries' files, half of which is only used
    while a program loads. To be made while there is one thread: a library that another one is
    loading would look finished, and its pages be lost."""

    def __init__(self, smaps: str = SMAPS) -> None:
        self._smaps = smaps
        self._ranges = self._look()

    def give_back(self) -> list[Range]:
        """Let go of those that are still there, and say which. What is needed again comes back from
        the system's cache of files, some microseconds for 64 KiB. Where there is no such ``/proc``,
        no ctypes or no madvise, nothing happens."""
        with suppress(ImportError, AttributeError):
            import ctypes

            advise = ctypes.CDLL(None).madvise
            advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
            ranges = sorted(self._ranges & self._look())
            for start, end in ranges:
                advise(start, end - start, _MADV_DONTNEED)
            return ranges
        return []

    def _look(self) -> set[Range]:
        with suppress(OSError), open(self._smaps, encoding="ascii", errors="replace") as smaps:
            return program_ranges(smaps.read())
        return set()


def program_ranges(smaps: str) -> set[Range]:
    """Addresses of read-only private mappings of files which hold nothing but the file's content,
    by proc(5)'s ``smaps``: pages that were written to exist nowhere else, and count as anonymous
    only until they are swapped out."""
    return {
        (int(start, 16), int(end, 16))
        for start, end, inode, anonymous, swapped in _MAPPING.findall(smaps)
        if inode != "0" and anonymous == "0" and swapped in ("", "0")
    }
