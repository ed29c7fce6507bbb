"""The v2 API: what real etcd 3.4.23 answered, asked of a member; watches, expiry, a cluster."""

from __future__ import annotations

import http.client
import json
import re
import time
from base64 import b64encode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import Cluster, until
from tests.process.member import Member, old_etcd, server_under_test
from tests.process.test_command_line import SECONDS_MAX
from tests.process.v2_replay import (
    CASES,
    COMPARED,
    EXPIRED,
    LOOP,
    LOOP_WRITES,
    SECOND_SERVER,
    ask,
    normalised,
    replay,
    wait_expired,
)

NO_QUORUM = range(109, 120)
"""After a second member was added that never starts."""
ELSEWHERE = {115, 116, 122, 123}
"""Version, health, log level and variables: not of this API, and tested with their own."""


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP's basic authentication."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


class MemberCase(SynchronousTestCase):
    timeout = 120

    def member(self, *flags: str) -> Member:
        member = Member(server_under_test(), *flags)
        self.addCleanup(member.close)
        member.start()
        return member


class RecordedTests(MemberCase):
    def assert_same(self, member: Member, number: int) -> None:
        case = CASES[number]
        answer = replay(member, case)
        where = f"{number}: {case['method']} {case['path']} {case.get('body', '')}"
        if "result" in case:
            self.assertEqual(answer.status, 0, where)  # it had none in time either
            return
        self.assertEqual(answer.status, case["status"], f"{where}\n{answer.body}")
        self.assertEqual(normalised(answer.body), normalised(case["response_body"]), where)
        got = {name.lower(): value for name, value in answer.headers.items()}
        for name in COMPARED:
            recorded = case["response_headers"].get(name)
            self.assertEqual(got.get(name.lower()), recorded, f"{where}: {name}")

    def test_one_server(self) -> None:
        """V2-1, V2-2, V2-3: keys, directories, conditions, TTLs, queues, watches, history, members:
        the same status, headers and body, request after request."""
        member = self.member()
        for number in range(NO_QUORUM.start):
            if number == EXPIRED:
                wait_expired(member, CASES[number]["path"])
            if number == LOOP:
                for written in range(LOOP_WRITES):
                    ask(member, "PUT", "/v2/keys/loop", f"value={written}")
            self.assert_same(member, number)
        for number in range(NO_QUORUM.stop, SECOND_SERVER):
            if number not in ELSEWHERE:
                self.assert_same(member, number)

    def test_another_server(self) -> None:
        """V2-4: membership changes that are refused; users, roles, and what they may."""
        member = self.member()
        url = f"http://127.0.0.1:{member.peer_port}"
        taken = ask(
            member, "POST", "/v2/members", json.dumps({"peerURLs": [url]}),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        self.assertEqual((taken.status, taken.body), (409, CASES[SECOND_SERVER]["response_body"]))
        for number in range(SECOND_SERVER + 1, len(CASES)):
            self.assert_same(member, number)

    def test_off(self) -> None:
        """--enable-v2=false, or a later phase of --v2-deprecation: as etcd without it."""
        for flag in ("--enable-v2=false", "--v2-deprecation=write-only"):
            member = self.member(flag)
            for path in ("/v2/keys/", "/v2/members", "/v2/stats/self"):
                answer = ask(member, "GET", path)
                self.assertEqual((answer.status, answer.body), (404, "404 page not found\n"), flag)

    def test_keys_given_up(self) -> None:
        """A later phase of --v2-deprecation is refused while a snapshot has keys of the v2 API."""
        member = self.member("--snapshot-count=3")
        first = int(ask(member, "PUT", "/v2/keys/a", "value=1").headers["X-Raft-Index"])

        def saved_with_keys() -> bool:
            ask(member, "PUT", "/v2/keys/a", "value=9")
            found = re.findall(r'"saved snapshot".*"snapshot-index":(\d+)', member.output(20_000))
            return any(int(index) >= first for index in found)

        until(saved_with_keys, member.output)
        member.stop()
        for phase in ("write-only", "gone"):
            member.add_flags(f"--v2-deprecation={phase}")
            member.launch()
            self.assertEqual(member.process.wait(SECONDS_MAX), 1)
            self.assertIn("detected disallowed custom content in v2store", member.output())
        member.add_flags("--v2-deprecation=not-yet")
        member.start()
        self.assertIn('"value":"9"', ask(member, "GET", "/v2/keys/a").body)


class WatchTests(MemberCase):
    def test_stream(self) -> None:
        """A stream gives every event, in order, as long as it is read."""
        member = self.member()
        connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/v2/keys/dir?wait=true&recursive=true&stream=true")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["X-Etcd-Index"]), (200, "3"))
        for number in range(50):
            ask(member, "PUT", f"/v2/keys/dir/{number}", "value=x")
        ask(member, "PUT", "/v2/keys/dir/_hidden", "value=x")
        ask(member, "PUT", "/v2/keys/elsewhere", "value=x")
        ask(member, "DELETE", "/v2/keys/dir?recursive=true")
        events = [json.loads(answer.readline()) for _ in range(51)]
        keys = [each["node"]["key"] for each in events]
        self.assertEqual(keys, [*(f"/dir/{number}" for number in range(50)), "/dir"])
        self.assertEqual(events[-1]["action"], "delete")

    def test_long_poll(self) -> None:
        """The headers come at once, the event when it happens; who has left is forgotten."""
        member = self.member()
        connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)
        connection.request("GET", "/v2/keys/k?wait=true")
        answer = connection.getresponse()
        self.assertEqual(answer.headers["X-Etcd-Index"], "3")
        watchers = self.watchers(member)
        self.assertEqual(watchers, 1)
        ask(member, "PUT", "/v2/keys/k", "value=seen")
        self.assertIn('"value":"seen"', answer.read().decode())
        connection.close()
        left = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)
        left.request("GET", "/v2/keys/k?wait=true")
        left.getresponse()
        left.close()
        until(lambda: self.watchers(member) == 0, "the one who left is forgotten", 10)

    def watchers(self, member: Member) -> int:
        found: int = json.loads(ask(member, "GET", "/v2/stats/store").body)["watchers"]
        return found

    def test_stop(self) -> None:
        """A member that stops ends its watches, and does not wait for them."""
        member = self.member()
        connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/v2/keys/k?wait=true&stream=true")
        answer = connection.getresponse()
        begin = time.monotonic()
        member.stop()
        self.assertEqual(answer.read(), b"")
        self.assertLess(time.monotonic() - begin, 8)


class ClusterTests(SynchronousTestCase):
    timeout = 120

    def start(self, *commands: list[str], flags: tuple[str, ...] = ()) -> Cluster:
        cluster = Cluster(*commands, flags=flags)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def test_mixed(self) -> None:
        """With real etcd 3.4 in the cluster: what is written here is read there, and expires on
        both."""
        cluster = self.start(
            server_under_test(), server_under_test(), old_etcd(), flags=("--enable-v2",)
        )
        ours, theirs = cluster.members[0], cluster.members[2]
        for number in range(10):
            answer = ask(cluster.members[number % 3], "PUT", f"/v2/keys/dir/{number}", "value=v")
            self.assertEqual(answer.status, 201, answer.body)
        ask(theirs, "PUT", "/v2/keys/short", "value=v&ttl=1")
        for path in ("/v2/keys/dir?recursive=true&sorted=true&quorum=true", "/v2/members"):
            here, there = ask(ours, "GET", path), ask(theirs, "GET", path)
            self.assertEqual(json.loads(here.body), json.loads(there.body))
        for member in (ours, theirs):
            wait_expired(member, "/v2/keys/short")
        until(lambda: self.leader_answers(cluster), "one of them leads", 10)

    def test_users(self) -> None:
        """V2-4, SE2: users and roles that were made here count at real etcd, and the other way
        round; a member is only added by root."""
        cluster = self.start(
            server_under_test(), server_under_test(), old_etcd(),
            flags=("--enable-v2", "--strict-reconfig-check=false"),
        )  # fmt: skip
        ours, theirs = cluster.members[0], cluster.members[2]
        as_json = {"Content-Type": "application/json"}

        def auth(member: Member, method: str, path: str, body: object, *user: str) -> int:
            headers = {**as_json, **(basic(*user) if user else {})}
            text = "" if body is None else json.dumps(body)
            return ask(member, method, f"/v2/auth/{path}", text, headers).status

        root = {"user": "root", "password": "pw"}
        self.assertEqual(auth(ours, "PUT", "enable", None), 409)
        self.assertEqual(auth(ours, "PUT", "users/root", root), 201)
        role = {"role": "r", "permissions": {"kv": {"read": ["/a/*"], "write": []}}}
        self.assertEqual(auth(theirs, "PUT", "roles/r", role), 201)
        bob = {"user": "bob", "password": "b", "roles": ["r"]}
        self.assertEqual(auth(theirs, "PUT", "users/bob", bob), 200)
        ask(ours, "PUT", "/v2/keys/a/k", "value=v")
        self.assertEqual(auth(ours, "PUT", "enable", None), 200)
        for member in (ours, theirs):
            until(
                lambda member=member: (
                    '"enabled":true'  # type: ignore[misc]
                    in ask(member, "GET", "/v2/auth/enable").body
                ),
                "it is on",
            )
            for path, user, method, status in (
                ("/v2/keys/a/k", ("bob", "b"), "GET", 200),
                ("/v2/keys/a/", ("bob", "b"), "GET", 200),
                ("/v2/keys/a", ("bob", "b"), "GET", 401),
                ("/v2/keys/a/k", ("bob", "b"), "PUT", 401),
                ("/v2/keys/b", ("bob", "b"), "GET", 401),
                ("/v2/keys/a?recursive=true", ("bob", "b"), "GET", 401),
                ("/v2/keys/a/k", ("bob", "wrong"), "GET", 401),
                ("/v2/keys/a/k", ("nobody", "b"), "GET", 401),
                ("/v2/keys/a/k", ("root", "pw"), "PUT", 200),
                ("/v2/auth/users", ("bob", "b"), "GET", 401),
                ("/v2/auth/users", ("root", "pw"), "GET", 200),
                ("/v2/members/1", ("bob", "b"), "DELETE", 401),
            ):
                body = "value=w" if method == "PUT" else ""
                answer = ask(member, method, path, body, basic(*user))
                self.assertEqual(answer.status, status, (path, user, method, answer.body))
        grant = {"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}}
        self.assertEqual(auth(ours, "PUT", "roles/guest", grant, "root", "pw"), 200)
        self.assertEqual(ask(ours, "GET", "/v2/keys/a/k").status, 401)
        grant = {"role": "r", "grant": {"kv": {"read": [], "write": ["/a/k"]}}}
        self.assertEqual(auth(ours, "PUT", "roles/r", grant, "root", "pw"), 200)
        written = ask(ours, "PUT", "/v2/keys/a/k", "value=x", basic("bob", "b"))
        self.assertEqual(written.status, 200)
        self.assertEqual(auth(ours, "DELETE", "users/root", None, "root", "pw"), 403)
        self.assertEqual(auth(ours, "DELETE", "users/bob", None, "root", "pw"), 200)
        self.assertEqual(auth(ours, "DELETE", "enable", None, "root", "pw"), 200)
        self.assertEqual(ask(ours, "GET", "/v2/keys/b").status, 404)

    def leader_answers(self, cluster: Cluster) -> bool:
        statuses = [ask(each, "GET", "/v2/stats/leader").status for each in cluster.members]
        return sorted(statuses) == [200, 403, 403]

    def test_members(self) -> None:
        """RC19: a member is added, changed and removed by this API."""
        cluster = self.start(*[server_under_test()] * 3, flags=("--strict-reconfig-check=false",))
        as_json = {"Content-Type": "application/json"}
        body = json.dumps({"peerURLs": ["http://127.0.0.1:1"]})
        added: Any = ask(cluster.members[1], "POST", "/v2/members", body, as_json)
        self.assertEqual(added.status, 201, added.body)
        identity = json.loads(added.body)["id"]
        changed = json.dumps({"peerURLs": ["http://127.0.0.1:2"]})
        path = f"/v2/members/{identity}"
        self.assertEqual(ask(cluster.members[0], "PUT", path, changed, as_json).status, 204)
        listed = json.loads(ask(cluster.members[0], "GET", "/v2/members").body)["members"]
        urls = {each["id"]: each["peerURLs"] for each in listed}
        self.assertEqual(urls[identity], ["http://127.0.0.1:2"])
        self.assertEqual(ask(cluster.members[2], "DELETE", path).status, 204)
        until(
            lambda: ask(cluster.members[2], "DELETE", path).status == 410, "it is gone for good", 10
        )
