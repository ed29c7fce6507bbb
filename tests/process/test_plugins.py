"""Plugins that come in packages of others."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.ids import member_id
from tests.bootstrap.sample import write_package
from tests.process.cluster import Cluster, until
from tests.process.member import Member, free_ports, reserved, server_under_test
from tests.process.secured import Secured
from tests.tls import sample as tls_sample


class PluginCase(SynchronousTestCase):
    timeout = 180

    @classmethod
    def build(cls, directory: Path) -> Path:
        """Make the wheel or package with the plugin in a directory; its path."""
        raise NotImplementedError

    def setUp(self) -> None:
        """It is installed where only these processes look."""
        self.directory = installed(self.build)
        before = os.environ.get("PYTHONPATH", "")
        path = f"{self.directory / 'installed'}:{before}".rstrip(":")
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": path})


@cache
def installed(build: Callable[[Path], Path]) -> Path:
    """A directory with what a case builds, and with ``installed``; for all of its tests."""
    directory = Path(tempfile.mkdtemp(prefix="plugin-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", "--no-compile", "--target", str(directory / "installed")]
    subprocess.run([*pip, str(build(directory))], check=True, timeout=100)
    return directory


class ProviderTests(PluginCase):
    """The package of the guide to bootstrap providers."""

    @classmethod
    def build(cls, directory: Path) -> Path:
        write_package(directory / "package")
        return directory / "package"

    def test_its_tests(self) -> None:
        """It passes its own tests and those for all providers, as they stand in the guide."""
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "test_etcdtw_numbered"],
            cwd=self.directory / "package",
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("successes=8", done.stdout)

    def test_founds_a_cluster(self) -> None:
        """OV6: three members find each other by it, with the ids that a static list would give."""
        first = ports_in_a_row(3)
        template = f"http://127.0.0.1:{first // 10}%d"
        cluster = Cluster(*[server_under_test()] * 3)
        self.addCleanup(cluster.close)
        for number, each in enumerate(cluster.members):
            url = template % number
            each.add_flags(
                *(f"--listen-peer-urls={url}", f"--initial-advertise-peer-urls={url}"),
                *("--initial-cluster=", f"--bootstrap-provider=numbered:3:{template}"),
            )
        cluster.start()
        with cluster.client(0) as client:
            members = client.members()
        self.assertEqual(
            {each.name: each.ID for each in members},
            {f"m{n}": member_id([template % n], "etcd-cluster") for n in range(3)},
        )

    def test_refusal(self) -> None:
        """What it refuses, and a name that nobody has, are told as other refusals are."""
        for word, text in (
            ("numbered:x", "numbered:x is not numbered:COUNT:URL with a %d"),
            ("numberd:3", "no way called 'numberd' to find the cluster"),
        ):
            member = Member(server_under_test(), f"--bootstrap-provider={word}")
            self.addCleanup(member.close)
            member.launch()
            until(lambda member=member: not member.running, "it has given up")  # type: ignore[misc]
            self.assertEqual(member.process.returncode, 1)
            self.assertIn(text, member.output())


def ports_in_a_row(count: int) -> int:
    """The first of so many free ports that differ in the last digit alone."""
    while True:
        first = free_ports(1)[0] // 10 * 10
        if all(reserved.take(port) and is_free(port) for port in range(first, first + count)):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class TlsProviderTests(PluginCase):
    """TLS by somebody else's context factory."""

    @classmethod
    def build(cls, directory: Path) -> Path:
        return tls_sample.build_wheel(directory)

    def test_serves(self) -> None:
        """Both ports take their TLS from it; its refusals are told in its words."""
        pki = Secured(self.directory / "pki")
        flags = (f"--tls-provider=folder:{pki.directory}",)
        cluster = Cluster(*[server_under_test()] * 2, flags=flags, client_tls=pki, peer_tls=pki)
        self.addCleanup(cluster.close)
        cluster.start()
        with cluster.client(0) as client:
            client.call("KV.Put", key=b"k", value=b"v")
        with cluster.client(1) as client:
            self.assertEqual(client.call("KV.Range", key=b"k").kvs[0].value, b"v")
        member = cluster.members[0]
        argv = [*pki.curl(None), f"https://{member.endpoint}/version"]
        self.assertNotEqual(subprocess.run(argv, capture_output=True, check=False).returncode, 0)
        until(lambda: "the folder's rules: " in member.output(), lambda: member.output())

    def test_refusal(self) -> None:
        """What its provider refuses ends the start."""
        member = Member(server_under_test(), "--tls-provider=folder:/none", client_tls=None)
        self.addCleanup(member.close)
        url = f"https://{member.endpoint}"
        member.add_flags(f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
        member.launch()
        until(lambda: not member.running, "it has given up")
        self.assertEqual(member.process.returncode, 1)
        self.assertIn("/none is no directory", member.output())
