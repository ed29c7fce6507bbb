"""What may come to a peer port: each is refused with a reason, and the cluster goes on."""

from __future__ import annotations

import http.client
import os
import socket
import time
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.ids import format_id
from etcdtw.raft.codec import encode_message
from etcdtw.raft.messages import Message, MessageType
from tests.process.cluster import Cluster, until
from tests.process.member import server_under_test

FLOOD_CONNECTIONS = 200


class HostilePeerTests(SynchronousTestCase):
    timeout = 180

    def setUp(self) -> None:
        self.cluster = Cluster(*[server_under_test()] * 3)
        self.addCleanup(self.cluster.close)
        self.addCleanup(self.check_cluster)
        self.cluster.start()
        with self.cluster.client(0) as client:
            status = client.call("Maintenance.Status")
            self.ids = [each.ID for each in client.members()]
        self.own, self.cluster_id = status.header.member_id, status.header.cluster_id
        self.other = next(each for each in self.ids if each != self.own)
        self.port = self.cluster.members[0].peer_port

    def check_cluster(self) -> None:
        """Whatever came, all serve and agree."""
        for number in range(3):
            with self.cluster.client(number) as client:
                client.call("KV.Put", key=b"k%d" % number, value=b"1")
        self.assertEqual(len(set(self.cluster.hashes())), 1)

    def headers(self, cluster: int = 0, sender: int = 0) -> dict[str, str]:
        return {
            "X-Server-From": format_id(sender or self.other),
            "X-Server-Version": "3.5.1",
            "X-Min-Cluster-Version": "3.0.0",
            "X-Etcd-Cluster-ID": format_id(cluster or self.cluster_id),
            "X-Raft-To": format_id(self.own),
        }

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def test_wrong_cluster(self) -> None:
        """Another cluster's id is refused on each way in, as etcd does."""
        headers = self.headers(cluster=5)
        for method, path in (
            ("POST", "/raft"),
            ("GET", f"/raft/stream/msgapp/{format_id(self.other)}"),
            ("GET", f"/raft/stream/message/{format_id(self.other)}"),
            ("POST", "/raft/snapshot"),
        ):
            self.assertEqual(
                self.ask(method, path, headers), (412, "cluster ID mismatch\n"), f"{method} {path}"
            )

    def test_garbage(self) -> None:
        """Bodies that are no messages, and paths that are none."""
        for body in (b"x", os.urandom(1000), b"\xff" * 100_000):
            status, text = self.ask("POST", "/raft", self.headers(), body)
            self.assertEqual((status, text), (400, "error unmarshalling raft message\n"))
        status, text = self.ask("POST", "/raft/snapshot", self.headers(), os.urandom(500))
        self.assertGreaterEqual(status, 400, text)
        for path in ("/raft/stream/msgapp/nobody", "/raft/stream/x/1", "/raft/stream/"):
            self.assertEqual(self.ask("GET", path, self.headers())[0], 404, path)

    def test_endless_numbers(self) -> None:
        """Numbers that are none, or have thousands of digits, are refused like other nonsense."""
        digits = "9" * 5000
        headers = self.headers()
        for body in (b'{"revision":1e999}', b'{"revision":%s}' % digits.encode()):
            self.assertEqual(
                self.ask("GET", "/members/hashkv", headers, body),
                (400, "error unmarshalling request\n"),
            )
        self.assertEqual(self.ask("POST", f"/members/promote/{digits}", headers)[0], 404)
        headers["X-Server-Version"] = f"{digits}.1"
        self.assertEqual(self.ask("POST", "/raft", headers, b"x"), (412, "incompatible version\n"))

    def test_impossible_messages(self) -> None:
        """Messages that decode, and that no member would send, change nothing."""
        with self.cluster.client(0) as client:
            before = client.call("Maintenance.Status")
        kinds = [each for each in MessageType if each not in (MessageType.HUP, MessageType.BEAT)]
        for kind in kinds:
            if kind in (MessageType.VOTE, MessageType.PRE_VOTE, MessageType.TIMEOUT_NOW):
                continue  # a member may always stand for leader
            message = Message(kind, self.own, self.other, 1, 1, 1 << 60, commit=0)
            self.ask("POST", "/raft", self.headers(), encode_message(message))
        stranger = Message(MessageType.HEARTBEAT, 12345, self.other, before.raftTerm, commit=0)
        self.assertEqual(
            self.ask("POST", "/raft", self.headers(), encode_message(stranger))[0], 500
        )
        self.assertTrue(self.cluster.members[0].running)

    def test_oversize(self) -> None:
        """A length that promises gigabytes is refused before they are taken; a head without end
        is given up."""
        body = (1 << 40).to_bytes(8, "big") + b"x" * 100
        status, text = self.ask("POST", "/raft/snapshot", self.headers(), body)
        self.assertEqual(status, 400)
        self.assertIn("error limit exceeded", text)
        with closing(socket.create_connection(("127.0.0.1", self.port), 10)) as connection:
            connection.settimeout(20)
            connection.sendall(b"GET /raft HTTP/1.1\r\nX: ")
            answer = b""
            try:
                for _ in range(64):
                    connection.sendall(b"y" * 65536)
                answer = connection.recv(1000)
            except OSError:
                pass
            self.assertNotIn(b"200", answer[:15])

    def test_silence(self) -> None:
        """Connections on which nothing comes, or half a request, hold up nobody."""
        silent = [
            socket.create_connection(("127.0.0.1", self.port), 10) for _ in range(FLOOD_CONNECTIONS)
        ]
        for number, each in enumerate(silent):
            self.addCleanup(each.close)
            if number % 2:
                each.sendall(b"POST /raft HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx")
        begin = time.monotonic()
        self.assertEqual(self.ask("GET", "/version", {})[0], 200)
        self.assertLess(time.monotonic() - begin, 5)

    def test_stolen_stream(self) -> None:
        """Somebody dials as a member would and then reads nothing: the member gets his stream
        back, and the cluster goes on."""
        request = (
            f"GET /raft/stream/msgapp/{format_id(self.other)} HTTP/1.1\r\nHost: x\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
            + "\r\n"
        )
        with closing(socket.create_connection(("127.0.0.1", self.port), 10)) as thief:
            thief.sendall(request.encode())
            for number in range(3):
                with self.cluster.client(number) as client:
                    client.call("KV.Put", key=b"stolen", value=b"%d" % number)
            until(lambda: len(set(self.cluster.hashes())) == 1, "all have caught up")
