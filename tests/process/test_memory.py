"""What an idle member costs."""

from __future__ import annotations

from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.process.member import Member, server_under_test

RESIDENT_BYTES_MAX = 38 << 20
"""A third above what was measured, for other versions of Python and the libraries."""


class IdleMemoryTests(SynchronousTestCase):
    def test_resident(self) -> None:
        """A member without TLS has none of OpenSSL mapped, keeps within its memory, and has no
        threads but its own and those of workers that had to do something."""
        if not Path("/proc/self/maps").exists():
            raise SkipTest("this system does not show a process's mappings in /proc")
        member = Member(server_under_test())
        self.addCleanup(member.close)
        member.start()
        mapped = Path(f"/proc/{member.pid}/maps").read_text(encoding="utf-8")
        for library in ("libssl", "libcrypto", "_rust.abi3"):
            self.assertNotIn(library, mapped)
        self.assertLess(member.resident_bytes(), RESIDENT_BYTES_MAX)
        self.assertLessEqual(len(list(Path(f"/proc/{member.pid}/task").iterdir())), 4)
