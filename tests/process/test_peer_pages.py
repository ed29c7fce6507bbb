"""The peer port answers requests made by hand as real etcd 3.5.1 has answered them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import client_of
from tests.process.member import Member, real_etcd, server_under_test
from tests.shared import Shared

RECORDED = Path(__file__).parent.parent / "vectors" / "peer-http-3.5.json"
ASKED, PEER, REMOVED = "7190bd8dc12ea551", "ed33c61a0ef60018", "17dfa9ce4760282f"
"""Members of the recorded cluster: who was asked, another one, one that had been removed."""
CLUSTER = "21c98d62e83433f2"

SKIPPED = {
    ("GET", "/members", None): "a member's own names and URLs",
    ("GET", "/raft/probing", None): "the time",
    ("POST", "/raft", "@RUNDIR/rm.bin"): "the recording lacks what was sent",
    ("POST", "/leases", ""): "the recorded member did not lead",
    ("POST", "/leases/internal", ""): "there was no answer",
}
OWN = ("Date", "Content-Length")
_HASH = re.compile(r'"(revision|hash)":\d+')


def cases() -> list[dict[str, Any]]:
    found = json.loads(RECORDED.read_text())
    return [each for each in found if _key(each) not in SKIPPED]


def _key(case: dict[str, Any]) -> tuple[str, str, str | None]:
    return case["method"], case["path"], case["data"]


class _OneMember(Shared):
    """A member that leads, whose cluster has a learner that is not there, and had another one."""

    command: ClassVar[Callable[[], list[str]]]

    def setUp(self) -> None:
        self.member = Member(type(self).command())
        self.addCleanup(self.member.close)
        self.member.start()
        with closing(client_of(self.member)) as client:
            client.call("KV.Put", key=b"k", value=b"v")
            header = client.call("Maintenance.Status").header
            ids = []
            for port in (1, 2):
                urls = [f"http://127.0.0.1:{port}"]
                added = client.call("Cluster.MemberAdd", peerURLs=urls, isLearner=True)
                ids.append(added.member.ID)
                if port == 1:
                    client.call("KV.DeleteRange", key=b"nothing")
                    client.call("Cluster.MemberRemove", ID=ids[0])
                    client.call("KV.DeleteRange", key=b"nothing")
        live = (header.member_id, header.cluster_id, *ids)
        self.names = {
            name: f"{number:x}"
            for name, number in zip((ASKED, CLUSTER, REMOVED, PEER), live, strict=True)
        }

    def live(self, text: str) -> str:
        for recorded, name in self.names.items():
            text = text.replace(recorded, name)
        return text

    def ask(self, case: dict[str, Any]) -> tuple[str, dict[str, str], str]:
        headers = dict(self.live(each).split(": ", 1) for each in case["headers"])
        data = None if case["data"] is None else case["data"].encode("latin-1")
        with closing(HTTPConnection("127.0.0.1", self.member.peer_port, timeout=10)) as asked:
            asked.request(case["method"], self.live(case["path"]), data, headers)
            answer = asked.getresponse()
            shown = {name: value for name, value in answer.getheaders() if name not in OWN}
            return f"{answer.status} {answer.reason}", shown, answer.read().decode()

    def expected(self, case: dict[str, Any]) -> tuple[str, dict[str, str], str]:
        head, _, body = self.live(case["response"]).partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        shown = {name: value for name, value in headers.items() if name not in OWN}
        return status.removeprefix("HTTP/1.1 "), shown, body

    def test_answers(self) -> None:
        """Status, headers and body of each request."""
        different = []
        for case in cases():
            found, wanted = self.ask(case), self.expected(case)
            if _comparable(found) != _comparable(wanted):
                different.append(f"{case['method']} {case['path']}\n etcd {wanted}\n ours {found}")
        if different:
            self.fail("\n".join(different))
        self.assertGreater(len(cases()), 25)


def _comparable(answer: tuple[str, dict[str, str], str]) -> tuple[str, dict[str, str], str]:
    status, headers, body = answer
    return status, {k.lower(): v for k, v in headers.items()}, _HASH.sub(r'"\1":N', body)


class RealEtcdTests(_OneMember, SynchronousTestCase):
    """The release that was recorded says the same of another cluster."""

    command = staticmethod(real_etcd)


class MemberTests(_OneMember, SynchronousTestCase):
    """The member under test."""

    command = staticmethod(server_under_test)
