"""Dry runs: what they say, and that they leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.app.check import DryRun
from etcdtw.bootstrap.factories import BUILT_IN
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapFactory,
    IBootstrapProvider,
    IDryRun,
    PlannedMember,
    ReactorView,
)
from etcdtw.bootstrap.refusal import CLUSTER_IS_FULL, BootstrapError
from etcdtw.config.load import Loaded, load
from etcdtw.config.problems import ConfigProblems
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.wal import Wal, encode_metadata
from etcdtw.tls.pki import CERT_MODE, KEY_MODE, YEAR, issue, make_authority, write_files

PLAN = ClusterPlan(
    cluster_id=0xABC,
    member_id=2,
    members=(
        PlannedMember(1, "", ("http://a.test:2380",)),
        PlannedMember(2, "b", ("http://127.0.0.1:2380",)),
        PlannedMember(3, "c", ("http://nowhere.test:2380", "http://10.0.0.3:2380")),
    ),
    token="t",
    new=False,
)


class Hosts(Clock):
    """A clock that knows one host."""

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        return succeed("10.0.0.1") if name == "a.test" else fail(DNSLookupError(name))


@implementer(IPlugin, IBootstrapFactory)
class Finds:
    """A provider named ``finds`` that has one answer, and must not be asked for a plan."""

    name = "finds"
    help = "answers as the test wants"
    flags = ("bootstrap-provider",)

    def __init__(self, answer: ClusterPlan | str | BootstrapError) -> None:
        self.answer = answer

    def claims(self, settings: BootstrapSettings) -> bool:
        return False

    def provider(self, reactor: ReactorView) -> Any:
        return _Finding(self.answer)


@implementer(IBootstrapProvider, IDryRun)
class _Finding:
    def __init__(self, answer: ClusterPlan | str | BootstrapError) -> None:
        self._answer = answer

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred()  # as if it had to ask

    def look(self, settings: BootstrapSettings) -> Deferred[ClusterPlan | str]:
        answer = self._answer
        return fail(answer) if isinstance(answer, BootstrapError) else succeed(answer)


class CheckCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.factories: list[Any] = list(BUILT_IN)

    def check(self, *words: str) -> tuple[str, ConfigProblems | None]:
        loaded = load(("--check", *words), {}, self.directory, lambda path: "")
        assert isinstance(loaded, Loaded)
        said: list[str] = []
        before = sorted(os.walk(self.directory))
        begun = Deferred.fromCoroutine(DryRun(loaded, self.factories, Hosts(), said.append).run())
        refused = self.successResultOf(begun)
        self.assertEqual(sorted(os.walk(self.directory)), before)
        return "".join(said), refused

    def finds(self, answer: ClusterPlan | str | BootstrapError, *words: str) -> tuple[str, Any]:
        self.factories = [*BUILT_IN, Finds(answer)]
        return self.check("--name=b", "--bootstrap-provider=finds", *words)


class PlanTests(CheckCase):
    def test_alone(self) -> None:
        """P3: a start without flags, with all that it would do."""
        said, refused = self.check()
        self.assertIsNone(refused)
        self.assertEqual(
            said,
            f"""\
data directory: {self.directory}/default.etcd, new
listens for peers: http://localhost:2380 (127.0.0.1)
listens for clients: http://localhost:2379 (127.0.0.1)
tells peers: http://localhost:2380
tells clients: http://localhost:2379
TLS for clients: none
TLS for peers: none
warning: 'data-dir' was empty; using default (data-dir default.etcd)
member: 8e9e05c52164694d
provider: static
cluster: founds cdf818194e3a8c32 of 1 member, token etcd-cluster
  8e9e05c52164694d default http://localhost:2380 (this member)
result: it would start
""",
        )

    def test_joins(self) -> None:
        """P3: members with the addresses of their names, and what the others cannot reach."""
        said, refused = self.finds(PLAN)
        self.assertIsNone(refused)
        for line in (
            "provider: finds",
            "cluster: joins abc of 3 members, token t",
            "  1 - http://a.test:2380 (10.0.0.1)",
            "  2 b http://127.0.0.1:2380 (this member)",
            "  3 c http://nowhere.test:2380 (no address is known) http://10.0.0.3:2380",
            "warning: the other members cannot reach this one: its peer URLs are local",
        ):
            self.assertIn(line, said.splitlines())

    def test_looks_only(self) -> None:
        """P3: who would register is only looked at."""
        said, refused = self.finds("1 of 3 members have registered\na=http://a:1")
        self.assertIsNone(refused)
        self.assertIn("found: 1 of 3 members have registered\n  a=http://a:1\n", said)

    def test_full(self) -> None:
        """P3: whoever comes too late would be a proxy, or be refused."""
        full = BootstrapError("discovery", "discovery: cluster is full", code=CLUSTER_IS_FULL)
        said, refused = self.finds(full)
        self.assertIsNone(refused)
        self.assertIn("cluster is full: it would be a v2 proxy", said)
        said, refused = self.finds(full, "--discovery-fallback=exit")
        assert refused is not None
        self.assertIs(refused.problems[0], full)

    def test_refused(self) -> None:
        """P3: what would be refused is told with what was compared; so are all other problems."""
        said, refused = self.check(
            "--name=b",
            "--initial-cluster=a=http://localhost:2380,c=http://c:1",
            "--auto-compaction-retention=x",
        )
        assert refused is not None
        self.assertEqual(len(refused.problems), 2)
        lines = said.splitlines()
        self.assertEqual(lines[-1], "result: it would not start")
        self.assertIn(
            'refused: couldn\'t find local name "b" in the initial cluster configuration', lines
        )
        self.assertIn("  because: --name is 'b' with http://localhost:2380, ", said)
        self.assertIn("the own peer URL is listed as 'a': use --name a", said)
        self.assertIn("refused: error parsing CompactionRetention: ", said)

    def test_host_names(self) -> None:
        """A name that cannot be bound is told where it stands."""
        said, _ = self.check(
            "--listen-client-urls=http://nowhere.invalid:1",
            "--advertise-client-urls=http://localhost:1",
        )
        self.assertIn("http://nowhere.invalid:1 (listen tcp: lookup nowhere.invalid: ", said)


class DirectoryTests(CheckCase):
    def test_member(self) -> None:
        """P3: a member with data goes on with it; nobody is asked."""
        path = Path(self.directory, "b.etcd/member/wal")
        path.parent.mkdir(parents=True)
        Wal.create(OsFilesystem(), str(path), encode_metadata(0x12, 0x34)).close()
        said, refused = self.finds("nobody must ask")
        self.assertIsNone(refused)
        self.assertIn("b.etcd, of member 12 in cluster 34; it goes on with that\n", said)
        self.assertNotIn("found", said)

    def test_damaged(self) -> None:
        """A log that cannot be read is told."""
        path = Path(self.directory, "default.etcd/member/wal")
        path.mkdir(parents=True)
        (path / "0000000000000000-0000000000000000.wal").write_bytes(b"\x01" * 64)
        self.assertIn("of a member whose log cannot be read (", self.check()[0])

    def test_proxy(self) -> None:
        """PX2, P3: a proxy tells which members it would ask."""
        said, refused = self.check("--proxy=on", "--initial-cluster=a=http://a:1")
        self.assertIsNone(refused)
        self.assertIn(
            "runs as: v2 proxy, on; the members are those of --initial-cluster a=http://a:1", said
        )
        path = Path(self.directory, "default.etcd/proxy")
        path.mkdir(parents=True)
        (path / "cluster").write_text('{"PeerURLs":["http://a:1"]}')
        said, _ = self.check("--proxy=on", "--discovery=http://d/x")
        self.assertIn("default.etcd, of a proxy\n", said)
        self.assertIn(f"the members are those of {path}/cluster\n", said)

    def test_both(self) -> None:
        """A directory of both is refused in etcd's words."""
        for each in ("member", "proxy"):
            Path(self.directory, "default.etcd", each).mkdir(parents=True)
        _, refused = self.check()
        assert refused is not None
        self.assertIn("Both member and proxy directories exist", str(refused))


class TlsTests(CheckCase):
    def test_material(self) -> None:
        """P3: certificates with their hosts and their end, and who is checked against what."""
        now = datetime.now(UTC)
        authority = make_authority("a", now, YEAR)
        pair = issue(authority, "m", ["localhost"], "peer", now, timedelta(days=3))
        cert, key, trusted = (os.path.join(self.directory, each) for each in "ckt")
        write_files(
            [
                (cert, pair.certificate_pem(), CERT_MODE),
                (key, pair.key_pem(), KEY_MODE),
                (trusted, authority.certificate_pem(), CERT_MODE),
            ]
        )
        said, refused = self.check(
            *("--listen-client-urls=https://localhost:1", "--advertise-client-urls=https://a:1"),
            *(f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={trusted}"),
            *("--listen-peer-urls=https://localhost:2", "--peer-auto-tls"),
        )
        self.assertIsNone(refused)
        ends = now + timedelta(days=3)
        self.assertIn(f"TLS for clients: {cert}, for localhost, until {ends:%Y-%m-%d}", said)
        self.assertIn(f"warning: {cert} ends on {ends:%Y-%m-%d}", said)
        self.assertIn(f"  clients must show a certificate; checked against {trusted}\n", said)
        self.assertIn("TLS for peers: a certificate of its own, made in ", said)

    def test_missing(self) -> None:
        """What is not there is refused as at a start."""
        said, refused = self.check(
            *("--listen-client-urls=https://localhost:1", "--advertise-client-urls=https://a:1"),
            *("--cert-file=/nowhere/c", "--key-file=/nowhere/k"),
        )
        self.assertIn("TLS for clients: /nowhere/c: ", said)
        self.assertIn("/nowhere/c", str(refused))


class FlagTests(CheckCase):
    def test_flags(self) -> None:
        """The plan as flags of etcd, one per line, and nothing else."""
        said, refused = self.finds(PLAN, "--check=flags")
        self.assertIsNone(refused)
        self.assertEqual(
            said,
            """\
--name=b
--initial-advertise-peer-urls=http://localhost:2380
--initial-cluster=1=http://a.test:2380,b=http://127.0.0.1:2380,\
c=http://nowhere.test:2380,c=http://10.0.0.3:2380
--initial-cluster-state=existing
--initial-cluster-token=t
""",
        )

    def test_no_plan(self) -> None:
        """Before all have registered there are no such flags."""
        said, refused = self.finds("1 of 3 have registered", "--check=flags")
        self.assertEqual(said, "")
        self.assertIn("the members are not known before all have registered", str(refused))
