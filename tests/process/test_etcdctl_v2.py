"""etcdctl of 3.4 with ``ETCDCTL_API=2``: every command prints here what it prints at real etcd."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

from twisted.trial.unittest import SynchronousTestCase

from tests.process.member import Member, old_etcd, server_under_test
from tests.process.v2_replay import ask

ETCDCTL = "/usr/bin/etcdctl"
ENVIRONMENT = {"ETCDCTL_API": "2", "PATH": "/usr/bin:/bin"}
SECONDS = 20.0
ROOT = "-u root:pw"
BOB = "-u bob:b"

KEYS = """
    set /a 1
    set /a 2
    set --ttl 100 /a 3
    set --swap-with-value 3 /a 4
    set --swap-with-value wrong /a 5
    set --swap-with-index 6 /a 5
    set --swap-with-index 1 /a 5
    set -- /dash -x
    set /dir/sub/k v
    set /dir v
    set /
    set /空/键 值
    get /a
    get --sort --quorum /a
    get /absent
    get /dir
    get /
    -o extended get /a
    -o json get /a
    -o json get /dir
    -o json get --quorum /absent
    -o json set /a again
    -o extended set /ttl v --ttl 50
    -o bogus get /a
    mk /made 1
    mk /made 2
    mk --ttl 100 /made/below 2
    mk --in-order /queue first
    mk --in-order /queue second
    -o json mk --in-order --ttl 100 /queue third
    mkdir /d1
    mkdir /d1
    mkdir --ttl 100 /d2
    mkdir /a/below
    setdir /d1
    setdir --ttl 100 /d1
    setdir --ttl 100 /d3
    updatedir --ttl 50 /d3
    updatedir --ttl 50 /absent
    updatedir --ttl 50 /a
    update /a updated
    update --ttl 30 /a updated
    update /absent v
    update /dir v
    ls /
    ls --sort /
    ls --sort --recursive /
    ls --sort -p -r /
    ls --sort --quorum /dir
    ls /absent
    ls /a
    -o json ls --sort /queue
    rm /dir
    rm --dir /dir
    rm --recursive /dir
    rm /absent
    rm --with-value wrong /made
    rm --with-index 1 /made
    rm --with-value 1 /made
    -o json rm /a
    -o extended rm /dash
    rm --recursive /
    rmdir /d1
    rmdir /queue
    rmdir /ttl
    rmdir /absent
    watch --after-index 4 /a
    watch --recursive --after-index 4 /
    -o json watch --after-index 4 /a
    -o extended watch --recursive --after-index 4 /dir
    cluster-health
    member list
    member remove 1
    member remove nonsense
    member update 1 http://127.0.0.1:1
    member update {MEMBER} http://127.0.0.1:1
    member list
    member add
    member add two nonsense
    --debug get /ttl
    --no-sync get /queue
"""

USERS = """
    user list
    role list
    auth disable
    auth enable
    user add root:pw
    user add root:pw
    user add bob:b
    user add nobody:
    user get root
    user get bob
    user get absent
    user list
    role add r
    role add r
    role add root
    role grant r --path /some/* --readwrite
    role grant r --path /one --read
    role grant r --path /one --read
    role grant absent --path /one --read
    role grant r
    role get r
    role get root
    role get guest
    role get absent
    role revoke r --path /one --read
    role revoke r --path /never --read
    role get r
    role list
    user grant bob --roles r
    user grant bob --roles r
    user grant bob --roles absent
    user grant absent --roles r
    user get bob
    auth enable
    auth enable
    {ROOT} auth enable
    user list
    {ROOT} role revoke guest --path /* --readwrite
    set /some/k 1
    get /some/k
    ls /
    {BOB} set /some/k 1
    {BOB} get /some/k
    {BOB} ls /some
    {BOB} set /other 1
    {BOB} rm /some/k
    {BOB} mkdir /some/dir
    {BOB} user list
    {BOB} member list
    -u bob:wrong get /some/k
    -u absent:x get /some/k
    {ROOT} set /other 1
    {ROOT} user revoke bob --roles r
    {ROOT} user revoke bob --roles r
    {BOB} get /some/k
    {ROOT} user revoke root --roles root
    {ROOT} user get root
    {ROOT} user remove root
    {ROOT} user remove bob
    {ROOT} user remove bob
    {ROOT} role remove r
    {ROOT} role remove r
    {ROOT} role remove root
    {ROOT} user list
    {ROOT} role list
    {ROOT} auth disable
    auth disable
    get /other
"""

TOO_MANY = """
    member add two http://127.0.0.1:2
    member list
    cluster-health
"""

CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "TIME"),
    (re.compile(r"\d{4}/\d\d/\d\d [0-9:.]+"), "TIME"),
    (re.compile(r"expiration:\S+"), "TIME"),
    (re.compile(r"\bTTL: \d+"), "TTL"),
    (re.compile(r'"ttl":\d+'), "TTL"),
    (re.compile(r"X-Raft-(Index|Term): \d+"), "RAFT"),
    (re.compile(r"\b[0-9a-f]{14,16}\b"), "ID"),
)
_CLUSTER = re.compile(r'(?<=CLUSTER=")[^"]+')
"""In the order of ids, which nobody chose."""


class Side:
    """A member and etcdctl for it."""

    def __init__(self, command: list[str], *flags: str) -> None:
        self.member = Member(command, *flags)
        self._names: dict[str, str] = {}

    def start(self) -> None:
        self.member.start()
        (member,) = json.loads(ask(self.member, "GET", "/v2/members").body)["members"]
        self._names = {
            member["id"]: "{MEMBER}",
            str(self.member.client_port): "CLIENT_PORT",
            str(self.member.peer_port): "PEER_PORT",
        }

    def argv(self, line: str) -> list[str]:
        for value, name in self._names.items():
            line = line.replace(name, value) if name[0] == "{" else line
        line = line.replace("{ROOT}", ROOT).replace("{BOB}", BOB)
        return [ETCDCTL, f"--endpoints=http://{self.member.endpoint}", *shlex.split(line)]

    def run(self, line: str) -> str:
        """All that a command says, without what is of this run; lists in any order."""
        done = subprocess.run(
            self.argv(line),
            stdin=subprocess.DEVNULL,  # a missing value is read from it
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
            timeout=SECONDS,
        )
        said = self.normalised(done.stdout)
        return f"{said}\n-- {self.normalised(done.stderr)}\n-- exit code {done.returncode}"

    def first_line(self, line: str) -> str:
        """Of a command that goes on for ever."""
        with subprocess.Popen(
            self.argv(line), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None, "it was asked for"
            too_long = Timer(SECONDS, process.kill)
            too_long.start()
            said = process.stdout.readline()
            too_long.cancel()
            process.kill()
        return self.normalised(said)

    def normalised(self, text: str) -> str:
        for value, name in self._names.items():
            text = re.sub(rf"\b{value}\b", name, text)
        for pattern, name in CHANGING:
            text = pattern.sub(name, text)
        text = _CLUSTER.sub(lambda found: ",".join(sorted(found[0].split(","))), text)
        return "\n".join(sorted(text.splitlines()))


class EtcdctlTests(SynchronousTestCase):
    timeout = 120

    def setUp(self) -> None:
        self.sides = [Side(old_etcd(), "--enable-v2"), Side(server_under_test())]
        self.both = ThreadPoolExecutor(2)
        self.addCleanup(self.both.shutdown)
        for side in self.sides:
            self.addCleanup(side.member.close)
        list(self.both.map(Side.start, self.sides))

    def assert_same(self, script: str) -> None:
        different = []
        for line in filter(None, map(str.strip, script.splitlines())):
            real, ours = self.both.map(lambda side, line=line: side.run(line), self.sides)
            if real != ours:
                different.append(f"{line}\n-- etcd:\n{real}\n-- ours:\n{ours}")
        self.assertEqual(different, [], "\n\n".join(different))

    def test_keys_and_members(self) -> None:
        """V2-1, V2-2, RC19: keys, directories, queues, conditions, watches of the past, members; a
        member too many is listed, and found missing."""
        self.assert_same(KEYS)
        for line in (
            "watch -f --after-index 4 /a",
            "exec-watch --after-index 4 printenv ETCD_WATCH_VALUE /空/键",
        ):
            real, ours = self.both.map(lambda side, line=line: side.first_line(line), self.sides)
            self.assertTrue(real, line)
            self.assertEqual(real, ours)
        self.assert_same(TOO_MANY)

    def test_users(self) -> None:
        """V2-4: users, roles, what they may, and switching it on and off."""
        self.assert_same(USERS)

    def test_backup(self) -> None:
        """``etcdctl backup`` takes our data directory as it takes etcd's."""
        for side in self.sides:
            side.run("set /k v")
            side.member.stop()
            target = side.member.directory / "backup"
            words = f"backup --data-dir {side.member.data_dir} --backup-dir {target}"
            self.assertTrue(side.run(words).endswith("-- exit code 0"), words)
            names = sorted(each.name for each in (target / "member").iterdir())
            self.assertEqual(names, ["snap", "wal"])
