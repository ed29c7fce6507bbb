"""Giving back what is resident of program files."""

from __future__ import annotations

import sys
from mmap import MAP_PRIVATE, PROT_READ, mmap
from pathlib import Path
from unittest import SkipTest
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.resident import SMAPS, ProgramPages, program_ranges
from tests.process.member import Member, server_under_test

SHOWN = """\
55d0c0000000-55d0c0002000 r--p 00000000 08:01 131 /usr/bin/python with a space
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d0c0002000-55d0c0003000 r-xp 00002000 08:01 131 /usr/bin/python with a space
Anonymous:             0 kB
55d0c0003000-55d0c0004000 r--p 00003000 08:01 131 /usr/bin/python with a space
Anonymous:             4 kB
55d0c0004000-55d0c0005000 rw-p 00004000 08:01 131 /usr/bin/python with a space
Anonymous:             0 kB
7f0000000000-7f0000001000 r--s 00000000 08:01 977 /data/member/snap/kv.lmdb
Anonymous:             0 kB
7f0000002000-7f0000003000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000006000-7f0000008000 r--p 00000000 08:01 5 /lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
7f0000008000-7f0000009000 r--p 00002000 08:01 5 /lib/libc.so.6
Anonymous:             0 kB
Swap:                  4 kB
SwapPss:               4 kB
7f000000a000-7f000000b000 r--p 00000000 08:01 6 /lib/libm.so.6
Anonymous:             0 kB
"""


class ProgramRangesTests(SynchronousTestCase):
    def test_chosen(self) -> None:
        """Read-only private mappings of files, unless something was written there, also where that
        was swapped out since: relocated addresses are nowhere else."""
        self.assertEqual(
            program_ranges(SHOWN),
            {
                (0x55D0C0000000, 0x55D0C0002000),
                (0x55D0C0002000, 0x55D0C0003000),
                (0x7F0000006000, 0x7F0000008000),
                (0x7F000000A000, 0x7F000000B000),
            },
        )


class GivenBackTests(SynchronousTestCase):
    def test_loaded(self) -> None:
        """Only what was mapped before is given back, and this process goes on."""
        if not Path(SMAPS).exists():
            raise SkipTest("this system does not show a process's mappings in /proc")
        pages = ProgramPages()
        with (
            open(__file__, "rb") as file,
            mmap(file.fileno(), 0, prot=PROT_READ, flags=MAP_PRIVATE),
        ):
            mapped = program_ranges(Path(SMAPS).read_text())
            given_back = pages.give_back()
        self.assertLess(set(given_back), mapped)
        self.assertGreater(len(given_back), 10)
        self.assertEqual(pages.give_back(), given_back)

    def test_cannot(self) -> None:
        """Where the mappings cannot be seen, or there is no ctypes, nothing happens."""
        self.assertEqual(ProgramPages(self.mktemp()).give_back(), [])
        pages = ProgramPages()
        with patch.dict(sys.modules, {"ctypes": None}):
            self.assertEqual(pages.give_back(), [])

    def test_member(self) -> None:
        """A member that is ready has little of the interpreter's file resident, and works on."""
        if not Path(SMAPS).exists():
            raise SkipTest("this system does not show a process's mappings in /proc")
        member = Member(server_under_test())
        self.addCleanup(member.close)
        member.start()
        of_files = next(
            int(line.split()[1])
            for line in Path(f"/proc/{member.pid}/status").read_text().splitlines()
            if line.startswith("RssFile:")
        )
        self.assertLess(of_files, 7_500, "kB; half of what was mapped in for the start")
        self.assertTrue(member.healthy())
