"""A directory with an authority, and members whose client ports are of TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import until
from tests.process.member import Member, etcdctl, server_under_test
from tests.process.secured import Secured


class TlsCase(SynchronousTestCase):
    timeout = 120

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.pki = Secured(self.root / "pki")

    def member(self, *flags: str, authenticated: bool = True) -> Member:
        """A started member whose client port is one of TLS."""
        member = Member(
            server_under_test(), *flags, client_tls=self.pki, authenticated=authenticated
        )
        self.addCleanup(member.close)
        member.start()
        return member

    def curl(self, member: Member, *words: str, pair: str | None = "client") -> tuple[int, str]:
        """Exit code and output of a GET of ``/version``, or of what the words say."""
        argv = [*self.pki.curl(pair), *words]
        if not any("://" in word for word in words):
            argv.append(f"https://{member.endpoint}/version")
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, done.stdout

    def etcdctl(self, member: Member, *words: str, pair: str | None = "client") -> str:
        endpoint = f"--endpoints=https://{member.endpoint}"
        argv = [etcdctl(), endpoint, *self.pki.etcdctl(pair), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout.strip()

    def assert_told(self, member: Member, *words: str) -> None:
        """One line of the log about a rejected connection has all these words."""

        def told() -> bool:
            return any(
                "rejected connection" in line and all(word in line for word in words)
                for line in member.output(20_000).splitlines()
            )

        until(told, lambda: f"{words} in a line of\n{member.output(20_000)}", 10)
