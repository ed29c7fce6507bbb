"""Plugins that come in packages of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.bootstrap.sample import build_wheel
from tests.process.cluster import Cluster, until
from tests.process.member import Member, server_under_test
from tests.process.secured import Secured
from tests.tls import sample as tls_sample

CONFORMANCE = """
import sys
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from etcdtw.bootstrap.interfaces import BootstrapSettings, IBootstrapFactory
from etcdtw.testing.bootstrap_conformance import BootstrapConformance

class MembersFileTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self):
        return next(f for f in getPlugins(IBootstrapFactory) if f.name == "members-file")

    def make_settings(self):
        return BootstrapSettings(
            name="a", peer_urls=("http://10.0.1.10:2380",), provider="members-file",
            provider_argument={path!r},
        )
"""


class PluginCase(SynchronousTestCase):
    timeout = 180

    def build(self) -> Path:
        """The wheel with the plugin."""
        raise NotImplementedError

    def setUp(self) -> None:
        """The wheel is installed where only these processes look."""
        self.directory = Path(tempfile.mkdtemp(prefix="plugin-"))
        self.addCleanup(shutil.rmtree, self.directory)
        installed = self.directory / "installed"
        wheel = self.build()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run(
            [*pip, "--no-compile", "--target", str(installed), str(wheel)], check=True, timeout=100
        )
        before = os.environ.get("PYTHONPATH", "")
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": f"{installed}:{before}".rstrip(":")})


class ProviderTests(PluginCase):
    def build(self) -> Path:
        return build_wheel(self.directory)

    def setUp(self) -> None:
        super().setUp()
        self.list = self.directory / "members"

    def test_conformance(self) -> None:
        """It keeps the rules that the suite for authors checks."""
        self.list.write_text("a http://10.0.1.10:2380\nb http://10.0.1.11:2380\n")
        tests = self.directory / "test_members_file.py"
        tests.write_text(CONFORMANCE.format(path=str(self.list)))
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", str(tests)],
            cwd=self.directory,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("successes=7", done.stdout)

    def test_founds_a_cluster(self) -> None:
        """OV6: three members find each other by it, with the ids that a static list would give."""
        commands = [server_under_test()] * 3
        static = Cluster(*commands)
        self.addCleanup(static.close)
        static.start()
        with static.client(0) as client:
            ids = {each.ID for each in client.call("Cluster.MemberList").members}
        lines = [f"m{n} {each.peer_url}" for n, each in enumerate(static.members)]
        self.list.write_text("\n".join(lines) + "\n")
        for each in static.members:
            each.stop()
            each.wipe()
            each.add_flags(f"--bootstrap-provider=members-file:{self.list}", "--initial-cluster=")
            each.launch()
        static.wait_healthy()
        with static.client(0) as client:
            self.assertEqual({m.ID for m in client.call("Cluster.MemberList").members}, ids)

    def test_refusal(self) -> None:
        """What it refuses, and a name that nobody has, are told as other refusals are."""
        self.list.write_text("a http://10.0.1.10:2380\n")
        for word, text in (
            (f"members-file:{self.list}", f"{self.list} does not list default"),
            ("members-fil", "no way called 'members-fil' to find the cluster"),
        ):
            member = Member(server_under_test(), f"--bootstrap-provider={word}")
            self.addCleanup(member.close)
            member.launch()
            until(lambda member=member: not member.running, "it has given up")  # type: ignore[misc]
            self.assertEqual(member.process.returncode, 1)
            self.assertIn(text, member.output())


class TlsProviderTests(PluginCase):
    """TLS by somebody else's context factory."""

    def build(self) -> Path:
        return tls_sample.build_wheel(self.directory)

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
