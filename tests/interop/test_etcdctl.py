"""etcdctl 3.5.1 says the same about the member under test as about real etcd 3.5.1."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.pair import Pair, Side, Step, steps

SEED = steps(
    "put a 1",
    "put b/1 x",
    "put b/2 y",
    "put b/1 z",
    "put c ''",
    "put zero --ignore-value",
    "put d 4",
    "del d",
    "put d 5",
    Step("put stdin", stdin="from standard input"),
    "put a 2 --prev-kv",
    "put new 1 --prev-kv",
    "put a --ignore-value --prev-kv",
)
FORMATS = ("simple", "json", "fields")


class EtcdctlTests(SynchronousTestCase):
    """Each test has a fresh real etcd and a fresh member under test."""

    def pair(self, *flags: str) -> Pair:
        pair = Pair(*flags)
        self.addCleanup(pair.close)
        pair.start()
        return pair

    def assert_same(self, differences: list[str]) -> None:
        if differences:
            self.fail(f"{len(differences)} steps differ\n" + "\n".join(differences))

    def test_put_and_get(self) -> None:
        """Every way to read keys prints the same."""
        selections = [
            "a",
            "b/ --prefix",
            "b --from-key",
            "'' --prefix",
            "'' --from-key",
            "b d",
            "d b",
            "missing",
            "b/ --prefix --keys-only",
            "'' --prefix --count-only",
            "'' --prefix --limit 2",
            "b --from-key --limit 2 --keys-only",
            "a --rev 2",
            "'' --prefix --rev 5",
            "a --consistency s",
            "a --consistency l",
        ]
        script = [*SEED]
        script += steps(*(f"get {what} -w {how}" for what in selections for how in FORMATS))
        script += steps(
            "get b/ --prefix --print-value-only",
            "get a --hex",
            "get a -w table",
            "get a --hex -w fields",
            "get a --rev 99",
            "get a --consistency x",
            "get a --limit -1",
            "get '' --prefix --count-only --limit 1 -w fields",
            "get ''",
            "get",
            "put",
            "put '' x",
            "put a x --lease 1234",
            "put a x --ignore-value",
            "put a --ignore-lease",
            "put a y --ignore-lease",
        )
        self.assert_same(self.pair().differences(script))

    def test_sorting(self) -> None:
        """Every sort target with every order gives the same keys."""
        targets = ("KEY", "CREATE", "MODIFY", "VALUE", "VERSION", "OTHER")
        orders = ("ASCEND", "DESCEND", "OTHER")
        # Sorting by version and value leaves the order of equals open: one distinct value each.
        distinct = ["put k1 c", *["put k2 b"] * 2, *["put k3 a"] * 3, "put k1 d --lease=0"]
        script = steps(*distinct, "del k1", "put k1 e")
        script += steps(*(f"get k --prefix --sort-by {target}" for target in targets))
        script += steps(
            *(
                f"get k --prefix --sort-by {target} --order {order} --limit 2 -w json"
                for target in targets
                for order in orders
            )
        )
        self.assert_same(self.pair().differences(script))

    def test_delete(self) -> None:
        """Deleting one key, a range, a prefix and from a key answers the same."""
        script = [
            *SEED,
            *steps(
                "del a --prev-kv",
                "del missing",
                "del missing --prev-kv -w json",
                "del b/ --prefix --prev-kv",
                "del c e",
                "del e c",
                "del x y z",
                "put k1 1",
                "put k2 2",
                "del k1 --from-key --prev-kv -w json",
                "del '' --prefix -w fields",
                "get '' --prefix -w json",
                "del ''",
            ),
        ]
        self.assert_same(self.pair().differences(script))

    def test_transactions(self) -> None:
        """Compares, both branches and refusals of a transaction print the same."""
        scripts = [
            'value("a") = "2"\n\nput t 1\nget a\n\nput t 0\n\n',
            'value("a") != "2"\n\nput t 1\n\nput t 0\nget b/ --prefix\n\n',
            'version("missing") = "0"\n\nput missing 1\n\n\n',
            'version("missing") = "0"\n\nput missing 2\n\nget missing\n\n',
            'mod("a") > "3"\ncreate("a") < "3"\nversion("a") > "1"\n\ndel b/ --prefix\nget a\n\n\n',
            'lease("a") = "0"\n\nget a --rev 2\n\n\n',
            "\nput u 1\nget u\ndel b/1 --prev-kv\nput v 1 --prev-kv\n\n\n",
            "\nput w 1\nput w 2\n\n\n",
            "\nput w 1\ndel w\n\n\n",
            "\ndel zzz\n\n\n",
            "\nget a --rev 99\n\n\n",
            "\nput a 1 --lease=1234\n\n\n",
            "\n\n\n",
            "nonsense\n\n\n\n",
            'value("a") ~ "2"\n\n\n\n',
            "\n" + "".join(f"put many{n} x\n" for n in range(128)) + "\n\n",
            "\n" + "".join(f"put many{n} x\n" for n in range(129)) + "\n\n",
        ]
        script = [*SEED]
        for text in scripts:
            script += [Step("txn", stdin=text), Step("txn -i", stdin=text)]
            script += [Step("txn -w json", stdin=text), Step("txn -w fields", stdin=text)]
        script += steps("get '' --prefix -w json")
        self.assert_same(self.pair().differences(script))

    def test_leases(self) -> None:
        """Grant, time to live, keep-alive, list and revoke print the same."""
        granted = r"lease (?P<%s>[0-9a-f]{16}) granted"
        script = steps(
            "lease list",
            Step("lease grant 300", learn=granted % "first"),
            Step("lease grant 1000", learn=granted % "second"),
            Step("lease grant 0", learn=granted % "shortest"),
            "put a 1 --lease {first}",
            "put b 2 --lease {first}",
            "put c 3 --lease {second}",
            "get a -w json",
            "get '' --prefix -w fields",
            "lease timetolive {first}",
            Step("lease timetolive {first} --keys", unordered=True),
            "lease timetolive {second} --keys",
            "lease timetolive {second} --keys -w json",
            "lease timetolive {second} --keys -w fields",
            "lease revoke {shortest}",
            "lease list",
            "lease list -w json",
            "lease keep-alive {first} --once",
            "lease keep-alive {first} --once -w json",
            "lease keep-alive 1234 --once",
            "put a 2 --ignore-lease",
            "put b 3",
            "lease revoke {first}",
            "get '' --prefix -w json",
            "lease revoke {first}",
            "lease timetolive {first}",
            "lease revoke 1234",
            "lease timetolive 1234",
            "lease grant 9000000001",
            "lease grant x",
            "put a x --lease {first}",
            Step("txn", stdin='lease("c") > "0"\n\nget c\n\n\n'),
            "lease list",
            "get '' --prefix -w json",
        )
        self.assert_same(self.pair().differences(script))

    def test_compaction(self) -> None:
        """Compaction and what it makes unreadable print the same, hashes included."""
        script = [
            *SEED,
            *steps(
                "endpoint hashkv",
                "endpoint hashkv -w json",
                "compaction 99",
                "compaction 5",
                "compaction 5",
                "compaction 4",
                "get a --rev 4",
                "get a --rev 5 -w json",
                "endpoint hashkv",
                "compaction 9 --physical",
                "endpoint hashkv -w json",
                "get '' --prefix --rev 8",
                "get '' --prefix --rev 9 -w json",
                "watch a --rev 3",
                "compaction",
                "compaction x",
                "get '' --prefix -w json",
            ),
        ]
        self.assert_same(self.pair().differences(script))

    def test_endpoint_and_members(self) -> None:
        """Status, health and the member list print the same in every format."""
        commands = ("endpoint status", "endpoint health", "endpoint hashkv", "member list")
        formats = ("simple", "table", "json", "fields")
        script = steps("put a 1", *(f"{what} -w {how}" for what in commands for how in formats))
        script += steps("endpoint status --cluster", "member list --consistency s", "member list x")
        self.assert_same(self.pair().differences(script))

    def test_alarms(self) -> None:
        """An alarm is listed, stops writes, and is gone after disarm."""
        pair = self.pair()
        self.assert_same(pair.differences(steps("alarm list", "alarm disarm", "put a 1")))

        def alarm(side: Side) -> None:
            assert side.client is not None
            member = side.client.call("Maintenance.Status").header.member_id
            side.client.call("Maintenance.Alarm", action=1, alarm=1, memberID=member)

        pair.both(alarm)
        script = steps(
            "alarm list",
            "alarm list -w json",
            "put a 2",
            "get a",
            "del a",
            "lease grant 10",
            "endpoint status",
            "endpoint health",
            "alarm disarm",
            "alarm list",
            "put a 3",
            "endpoint health",
            "get a -w json",
        )
        self.assert_same(pair.differences(script))

    def test_watch_history(self) -> None:
        """A watch from an old revision prints the same events: key, prefix, range, previous."""
        pair = self.pair()
        script = [*SEED, *steps("del b/1", "put b/2 last", "put end done", "put zz done")]
        self.assert_same(pair.differences(script))
        # Every selection ends with the key "zz" or "end", whose value is "done".
        for line in (
            "watch --rev 1 --prefix ''",
            "watch --rev 1 --prefix '' --prev-kv",
            "watch --rev 1 --prefix '' -w json --prev-kv",
            "watch --rev 1 --prefix '' -w fields",
            "watch --rev 4 a zzz",
            "watch --rev 1 end",
            "watch --rev 9 --prefix '' --hex",
        ):
            with self.subTest(line):
                self.assert_same(pair.watch_differences(line, "", lambda side: None, ends_in(line)))

    def test_watch_interactive(self) -> None:
        """Live events, progress and several watchers in one session print the same."""
        pair = self.pair("--experimental-watch-progress-notify-interval=1s")

        def write(side: Side) -> None:
            assert side.client is not None
            for n in range(3):
                side.client.call("KV.Put", key=b"live", value=b"%d" % n)
            side.client.call("KV.DeleteRange", key=b"live")
            side.client.call("KV.Put", key=b"live", value=b"done")

        for line, stdin, until in (
            ("watch -i", "progress\nwatch live\nprogress\n", "done"),
            ("watch -i", "watch --prefix li\nprogress\n", "done"),
            ("watch -i", "watch --prev-kv l m\nprogress\n", "done"),
            ("watch -i", "nonsense\nwatch live\nprogress\n", "done"),
            ("watch other --progress-notify", "", "progress notify: 26"),
            ("watch other --progress-notify -w json", "", '"revision":31'),
        ):
            with self.subTest(line + stdin):
                self.assert_same(pair.watch_differences(line, stdin, write, until))


def ends_in(line: str) -> str:
    """The last thing that the watch of history in ``line`` prints, as it prints it."""
    if "json" in line:
        return "ZG9uZQ=="
    return r"\x64\x6f\x6e\x65" if "--hex" in line else "done"
