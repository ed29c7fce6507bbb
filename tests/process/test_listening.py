"""Where a member listens: sockets of every kind, all of them or none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.process.member import free_ports
from tests.process.secured import Secured
from tests.process.test_command_line import ETCDTW, READY, SECONDS_MAX
from tests.process.test_entry_points import EntryPointTestCase


class ListeningTests(EntryPointTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other_port = free_ports(1)[0]

    def listening_on(self, *urls: str) -> list[str]:
        """The member's flags, with these client URLs in place of its own."""
        rest = [flag for flag in self.flags if "client-urls" not in flag]
        listen, advertise = ",".join(urls), urls[0]
        return [*rest, f"--listen-client-urls={listen}", f"--advertise-client-urls={advertise}"]

    def ctl_at(self, endpoint: str, *words: str) -> str:
        return self.ctl(*words, f"--endpoints={endpoint}")

    def test_every_kind(self) -> None:
        """One member serves the same keys on IPv4, IPv6, a name and a Unix socket, and tells a
        supervisor when it does."""
        name = f"etcdtw-listening-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind("\0" + name)
            supervisor.settimeout(SECONDS_MAX)
            self.start(
                ETCDTW,
                *self.listening_on(
                    f"http://[::1]:{self.client_port}",
                    f"http://127.0.0.2:{self.client_port}",
                    f"http://localhost:{self.other_port}",
                    "unix://socket:0",
                ),
                NOTIFY_SOCKET=f"@{name}",
            )
            self.assertEqual(supervisor.recv(100), b"READY=1")
        self.ctl_at(f"[::1]:{self.client_port}", "put", "a", "1")
        for endpoint in (
            f"127.0.0.2:{self.client_port}",
            f"localhost:{self.other_port}",
            "unix://socket:0",
        ):
            self.assertEqual(self.ctl_at(endpoint, "get", "a"), "a\n1\n", endpoint)

    def test_every_address(self) -> None:
        """``0.0.0.0`` is every IPv4 address of the machine, ``[::]`` every address."""
        process = self.start(ETCDTW, *self.listening_on(f"http://0.0.0.0:{self.client_port}"))
        self.read_until(process, READY)
        self.ctl_at(f"127.0.0.3:{self.client_port}", "put", "a", "1")
        with socket.socket(socket.AF_INET6) as probe:
            self.assertNotEqual(probe.connect_ex(("::1", self.client_port)), 0)
        self.end(process, signal.SIGTERM)
        process = self.start(ETCDTW, *self.listening_on(f"http://[::]:{self.client_port}"))
        self.read_until(process, READY)
        for host in ("127.0.0.3", "[::1]"):
            self.assertEqual(self.ctl_at(f"{host}:{self.client_port}", "get", "a"), "a\n1\n")

    def test_plain_and_tls(self) -> None:
        """Clients may come with and without TLS to one address, and a URL given twice is one."""
        pki = Secured(Path(self.directory, "pki"))
        address = f"127.0.0.1:{self.client_port}"
        urls = (f"http://{address}", f"https://{address}", f"http://{address}")
        process = self.start(
            ETCDTW, *self.listening_on(*urls), *pki.client_port_flags(authenticated=False)
        )
        lines = self.read_until(process, READY)
        self.assertIn("enabled capabilities for version", "".join(lines), "scripts wait for it")
        for scheme in ("http", "https"):
            argv = [*pki.curl(None), f"{scheme}://{address}/version"]
            self.assertIn(b'"etcdserver"', subprocess.check_output(argv), scheme)
        self.ctl_at(address, "put", "a", "1")
        got = self.ctl_at(f"https://{address}", "get", "a", f"--cacert={pki.path('ca.crt')}")
        self.assertEqual(got, "a\n1\n")

    def test_all_or_none(self) -> None:
        """When one of the URLs is taken, no other stays bound and no directory is made."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.other_port))
            taken.listen()
            urls = [f"http://127.0.0.1:{port}" for port in (self.client_port, self.other_port)]
            refused = self.refused(ETCDTW, *self.listening_on(*urls))
        reason = f"listen tcp 127.0.0.1:{self.other_port}: bind: address already in use"
        self.assertEqual(refused, (1, reason))
        self.assertEqual(os.listdir(self.directory), [])
        process = self.start(ETCDTW, *self.listening_on(*urls))
        self.read_until(process, READY)

    def test_socket_left_behind(self) -> None:
        """The Unix socket of a killed member is replaced; one that somebody listens on, or a file
        that is no socket, is left alone and refused."""
        flags = self.listening_on("unix://socket:0")
        for _ in range(2):
            process = self.start(ETCDTW, *flags)
            self.read_until(process, READY)
            path = Path(self.directory, "socket:0")
            self.assertTrue(path.is_socket())
            process.send_signal(signal.SIGKILL)
            process.wait()
        path.unlink()
        reason = "listen unix socket:0: bind: address already in use"
        path.touch()
        self.assertEqual(self.refused(ETCDTW, *flags), (1, reason))
        path.unlink()
        with socket.socket(socket.AF_UNIX) as busy:
            # The address of a socket is short, the test's directory is not.
            busy.bind(os.path.relpath(path))
            busy.listen()
            self.assertEqual(self.refused(ETCDTW, *flags), (1, reason))
            self.assertTrue(path.is_socket())

    def test_peers_on_sockets(self) -> None:
        """Members of one machine may meet at Unix sockets, which are made where they run."""
        peers = "m0=unix://localhost:1,m1=unix://localhost:2"
        started = []
        for number, port in enumerate((self.client_port, self.other_port)):
            peer, client = f"unix://localhost:{number + 1}", f"http://127.0.0.1:{port}"
            member = self.start(
                ETCDTW,
                f"--name=m{number}",
                f"--data-dir=d{number}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster={peers}",
            )
            started.append(member)
        for process in started:
            self.read_until(process, READY)
        self.ctl("put", "a", "1")
        self.assertEqual(self.ctl_at(f"127.0.0.1:{self.other_port}", "get", "a"), "a\n1\n")
