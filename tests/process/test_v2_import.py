"""v2 keys of a stopped etcd, 2.3 or 3.4, brought into a cluster of one, and back."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import subprocess
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.commands import run
from etcdtw.app.ctl.export import export_data_dir
from etcdtw.storage.filesystem import OsFilesystem
from tests.process.cluster import client_of
from tests.process.member import Member, NotReady, old_etcd, server_under_test
from tests.process.test_v2 import basic
from tests.process.v2_replay import ask
from tests.storage.before_3_0 import write_member

HEAVY = bool(os.environ.get("ETCDTW_HEAVY"))
KEYS = 5000 if HEAVY else 120
SNAPSHOT_COUNT = 100 if HEAVY else 40
QUICK = ("--heartbeat-interval=10", "--election-timeout=100")
"""etcd waits for a whole election before it leads."""
HIDDEN = ("/_secret", "/many/_below")
"""No listing has them."""
ROOT = basic("root", "pw")
OWN, OTHERS = 0xABC, (0xDEF, 0x123)

Content = dict[str, Any]


def fill(member: Member) -> None:
    """Keys of all kinds, more than fit into one snapshot of some flags, and users; auth is on."""
    connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def send(method: str, key: str, **fields: object) -> None:
        body = urlencode(fields) if method != "DELETE" else None
        query = "?" + urlencode(fields) if method == "DELETE" else ""
        connection.request(method, f"/v2/keys{quote(key)}{query}", body, form)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said

    for number in range(KEYS):
        ttl: dict[str, object] = {"ttl": 3600 + number} if number % 3 == 0 else {}
        send("PUT", f"/many/{number % 7}/{number}", value=f"<{number}>", **ttl)
        if number % 10 == 0:
            send("POST", "/queue", value=number)
            send("PUT", f"/many/{number % 7}/{number}", value="again", prevExist="true")
        if number % 50 == 25:
            send("DELETE", f"/many/{number % 7}/{number}")
    send("PUT", "/empty", dir="true", ttl=7200)
    send("PUT", "/配置/数据库", value="ü\u2028&")
    for key in HIDDEN:
        send("PUT", f"{key}/k", value="hidden")
    connection.close()
    as_json = {"Content-Type": "application/json"}
    for path, body in (
        ("users/root", {"user": "root", "password": "pw"}),
        ("roles/r", {"role": "r", "permissions": {"kv": {"read": ["/many/*"], "write": []}}}),
        ("users/bob", {"user": "bob", "password": "b", "roles": ["r"]}),
        ("enable", {}),
    ):
        answer = ask(member, "PUT", f"/v2/auth/{path}", json.dumps(body), as_json)
        assert answer.status in (200, 201), answer.body


def content(member: Member) -> Content:
    """Every node by its key, without what is left of its TTL; users and roles; a password that
    counts."""
    found: Content = {}

    def note(node: dict[str, Any]) -> None:
        below = node.pop("nodes", ())
        node.pop("ttl", None)
        found[node.pop("key", "/")] = node
        for each in below:
            note(each)

    for key in ("/", *HIDDEN):
        answer = ask(member, "GET", f"/v2/keys{key}?recursive=true", headers=ROOT)
        if answer.status == 200:
            note(json.loads(answer.body)["node"])
    for kind in ("users", "roles"):
        answer = ask(member, "GET", f"/v2/auth/{kind}", headers=ROOT)
        found[kind] = answer.status == 200 and json.loads(answer.body)
    found["bob"] = ask(member, "GET", "/v2/keys/many/3", headers=basic("bob", "b")).status
    return found


def listed(member: Member) -> list[tuple[str, list[str]]]:
    members = json.loads(ask(member, "GET", "/v2/members").body)["members"]
    return [(each["id"], each["peerURLs"]) for each in members]


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {
        str(each.relative_to(directory)): (each.stat().st_size, each.stat().st_mtime_ns)
        for each in directory.rglob("*")
        if each.is_file()
    }


class V2Case(SynchronousTestCase):
    timeout = 240

    def member(self, command: list[str], *flags: str) -> Member:
        enabled = () if command == server_under_test() else ("--enable-v2",)
        member = Member(command, *QUICK, *enabled, *flags)
        self.addCleanup(member.close)
        return member

    def forced(self, command: list[str], source: Path) -> Member:
        """A member that went on alone with a copy of a data directory."""
        member = self.member(command, "--force-new-cluster")
        shutil.copytree(source, member.data_dir)
        member.start()
        return member

    def etcdctl_backup(self, source: Path, *flags: str) -> Path:
        target = Path(self.mktemp()).absolute()
        old_etcd()
        subprocess.run(
            [
                "/usr/bin/etcdctl",
                "backup",
                f"--data-dir={source}",
                f"--backup-dir={target}",
                *flags,
            ],
            check=True,
            capture_output=True,
            env={"ETCDCTL_API": "2"},
        )
        return target

    def tried(self, source: Path, target: Path, *flags: str) -> str:
        """What ``ctl backup`` complains of."""
        said = StringIO()
        with redirect_stderr(said), redirect_stdout(StringIO()):
            run(["backup", f"--data-dir={source}", f"--backup-dir={target}", *flags])
        return said.getvalue()

    def backup(self, source: Path, *flags: str) -> Path:
        target = Path(self.mktemp()).absolute()
        before = files(source)
        self.assertEqual(self.tried(source, target, *flags), "")
        self.assertEqual(files(source), before)
        return target


class FromEtcdTests(V2Case):
    def brought_in(self, *flags: str) -> None:
        real = self.member(old_etcd(), *flags)
        real.start()
        fill(real)
        expected = content(real)
        self.assertGreater(len(expected), KEYS)
        self.assertEqual(expected["bob"], 200)
        ((source, _),) = listed(real)
        real.stop()
        saved = self.backup(real.data_dir)
        for command in (old_etcd(), server_under_test()):
            self.assertEqual(content(self.forced(command, saved)), expected)
        saved = self.etcdctl_backup(real.data_dir)
        theirs, ours = (self.forced(each, saved) for each in (old_etcd(), server_under_test()))
        expected = content(theirs)
        self.assertEqual(content(ours), expected)
        ((identity, urls),) = listed(ours)
        self.assertNotEqual(identity, source)
        self.assertEqual(urls, [ours.peer_url])
        written = ask(ours, "PUT", "/v2/keys/many/new", "value=1", ROOT)
        self.assertEqual(written.status, 201, written.body)
        ours.kill()
        ours.start()
        self.assertEqual(len(content(ours)), len(expected) + 1)

    def test_log_alone(self) -> None:
        """P2: all keys are in the log. What ``etcdtw ctl backup`` makes of a stopped etcd becomes a
        new cluster with the same keys, indexes, expirations and users, here and at etcd; what
        ``etcdctl backup`` makes becomes here what it becomes there."""
        self.brought_in()

    def test_snapshots(self) -> None:
        """P2: the same with snapshots of it, and a log behind the last."""
        self.brought_in(f"--snapshot-count={SNAPSHOT_COUNT}")

    def test_with_v3(self) -> None:
        """``--with-v3`` brings the other keys as well, by either program; without it there are
        none."""
        real = self.member(old_etcd(), f"--snapshot-count={SNAPSHOT_COUNT}")
        real.start()
        for number in range(2 * SNAPSHOT_COUNT + 10):
            ask(real, "PUT", f"/v2/keys/{number % 9}", f"value={number}")
        put = ["/usr/bin/etcdctl", f"--endpoints={real.endpoint}", "put", "three", "3"]
        subprocess.run(put, check=True, capture_output=True, env={"ETCDCTL_API": "3"})
        expected = content(real)
        refused = self.tried(real.data_dir, Path(self.mktemp()).absolute(), "--with-v3")
        self.assertIn("another process is using this data directory", refused)
        self.assertEqual(self.tried(real.data_dir, Path(self.mktemp()).absolute()), "")
        real.stop()
        for directory, count in (
            (self.backup(real.data_dir), 0),
            (self.backup(real.data_dir, "--with-v3"), 1),
            (self.etcdctl_backup(real.data_dir, "--with-v3"), 1),
        ):
            ours = self.forced(server_under_test(), directory)
            self.assertEqual(content(ours), expected)
            get = ["/usr/bin/etcdctl", f"--endpoints={ours.endpoint}", "get", "three"]
            said = subprocess.run(get, check=True, capture_output=True, env={"ETCDCTL_API": "3"})
            self.assertEqual(said.stdout, b"three\n3\n" * count)
            ours.close()


class BeforeDatabasesTests(V2Case):
    """Directories of etcd 2.3, as ``tests.storage.before_3_0`` makes them."""

    def made(self, *others: int, with_snapshot: bool) -> Path:
        base = Path(self.mktemp()).absolute()
        write_member(base, OWN, *others, with_snapshot=with_snapshot)
        return base

    def test_taken_over(self) -> None:
        """P2: they go on here, alone if there were others: with the same keys as etcd 3.4 on what
        its etcdctl makes of them."""
        for with_snapshot in (True, False):
            many = self.made(*OTHERS, with_snapshot=with_snapshot)
            ours = self.forced(server_under_test(), many)
            expected = content(ours)
            self.assertEqual(expected["/dir/new"]["value"], "ü")
            self.assertEqual(expected["/short"]["expiration"], "2100-01-01T00:00:00.5Z")
            self.assertEqual(len(listed(ours)), 1)
            self.assertEqual(content(self.forced(old_etcd(), self.backup(many))), expected)
            saved = self.etcdctl_backup(many)
            theirs, ours = (self.forced(each, saved) for each in (old_etcd(), server_under_test()))
            self.assertEqual(content(ours), content(theirs))

    def refused(self, member: Member, *words: str) -> None:
        before = files(member.data_dir)
        self.assertRaises(NotReady, member.start)
        for each in words:
            self.assertIn(each, member.output().splitlines()[-1])
        self.assertEqual(files(member.data_dir), before)

    def test_refused(self) -> None:
        """With others in its cluster it needs the flag; while an etcd has it, nobody else does; and
        a damaged log is refused. Nothing is changed then."""
        ours = self.member(server_under_test())
        shutil.copytree(self.made(*OTHERS, with_snapshot=True), ours.data_dir)
        self.refused(
            ours, "is of a cluster of etcd 2.3.0 with 2 more members", "--force-new-cluster"
        )
        ours.add_flags("--force-new-cluster")
        (segment,) = (ours.data_dir / "member/wal").iterdir()
        with segment.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.refused(ours, "another process is using this data directory")
        whole = segment.read_bytes()
        segment.write_bytes(whole[:500] + b"?" + whole[501:])
        self.refused(ours, "crc mismatch")

    def test_alone(self) -> None:
        """The only member of its cluster needs no flag, and keeps its id; killed, it goes on."""
        ours = self.member(server_under_test())
        shutil.copytree(self.made(with_snapshot=True), ours.data_dir)
        for _ in range(2):
            ours.start()
            self.assertEqual(content(ours)["/dir/old"]["modifiedIndex"], 3)
            self.assertEqual([identity for identity, _ in listed(ours)], [f"{OWN:x}"])
            ours.kill()

    def test_of_a_young_log(self) -> None:
        """v3 keys count that are written after a start on etcdctl's backup of a member which had
        just begun, whatever index that has."""
        ours = self.member(server_under_test())
        ours.start()
        ask(ours, "PUT", "/v2/keys/k", "value=v")
        ours.kill()
        again = self.forced(server_under_test(), self.etcdctl_backup(ours.data_dir))
        self.assertEqual(content(again)["/k"]["value"], "v")
        for _ in range(2):
            with closing(client_of(again)) as client:
                client.call("KV.Put", key=b"k", value=b"v3")
                self.assertEqual(client.call("KV.Range", key=b"k").kvs[0].value, b"v3")
            again.kill()
            again.start()


class ToEtcdTests(V2Case):
    def test_exported(self) -> None:
        """P2: etcd 3.4 starts on our data directory once it is exported, and on what its etcdctl
        backs up of it before that, with all v2 keys and users."""
        ours = self.member(
            server_under_test(), "--max-cluster-version=3.4", f"--snapshot-count={SNAPSHOT_COUNT}"
        )
        ours.start()
        fill(ours)
        expected = content(ours)
        ours.stop()
        real = self.forced(old_etcd(), self.etcdctl_backup(ours.data_dir))
        self.assertEqual(content(real), expected)
        real.close()
        real = self.member(old_etcd())
        shutil.copytree(ours.data_dir, real.data_dir)
        export_data_dir(OsFilesystem(), str(real.data_dir))
        real.start()
        self.assertEqual(content(real), expected)
