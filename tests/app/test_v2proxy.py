"""The v2 proxy and its file."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app import v2proxy
from etcdtw.app.proxy_mode import CLUSTER_FILE
from etcdtw.app.v2proxy import V2Proxy
from etcdtw.config.load import member_settings
from etcdtw.peer.calling import Answered


class Cluster:
    """One member, as its peers' page shows it."""

    def call(self, method: bytes, url: str, *rest: object) -> Deferred[Answered]:
        member = {"id": 1, "peerURLs": ["http://a:2380"], "clientURLs": ["http://a:2379"]}
        body = json.dumps([member]).encode()
        return succeed(Answered(200, {b"x-etcd-cluster-id": b"7"}, body))


class StartTests(SynchronousTestCase):
    def test_first_look(self) -> None:
        """Nobody is told that there are no endpoints while the cluster is asked for the first
        time."""
        settings = member_settings(
            os.getcwd(), name="p", data_dir=self.mktemp(), proxy="on",
            initial_cluster="a=http://a:2380",
        )  # fmt: skip
        proxy: Any = V2Proxy(settings, Clock())
        self.patch(v2proxy, "listen_all", lambda *_: [])
        asked: list[Deferred[Answered]] = []

        class Slow(Cluster):
            def call(self, method: bytes, url: str, *rest: object) -> Deferred[Answered]:
                asked.append(Deferred())
                return asked[-1]

            def stop(self) -> None: ...

        self.patch(proxy, "_caller", Slow())
        ready: list[None] = []
        proxy.on_ready.append(lambda: ready.append(None))
        proxy.startService()
        self.addCleanup(proxy.stopService)
        self.assertEqual((len(asked), ready), (1, []))
        Cluster().call(b"GET", "").chainDeferred(asked[0])
        self.assertEqual(ready, [None])


class ClusterFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.data_dir = self.mktemp()
        self.path = os.path.join(self.data_dir, "proxy", CLUSTER_FILE)
        settings = member_settings(os.getcwd(), name="p", data_dir=self.data_dir, proxy="on")
        self.proxy: Any = V2Proxy(settings, Clock())
        self.patch(self.proxy, "_caller", Cluster())
        self.proxy._peer_urls = ("http://a:2380",)

    def test_kept(self) -> None:
        """What the cluster says is there at the next start."""
        self.assertEqual(self.successResultOf(self.proxy._client_urls()), ["http://a:2379"])
        self.assertEqual(self.proxy._known_urls(), ("http://a:2380",))

    def test_not_kept(self) -> None:
        """A disk on which nothing can be written keeps nobody from passing requests on."""
        with open(self.data_dir, "w", encoding="utf-8"):
            pass
        self.assertEqual(self.successResultOf(self.proxy._client_urls()), ["http://a:2379"])

    def test_nonsense(self) -> None:
        """A file that says nothing is as good as none."""
        os.makedirs(os.path.dirname(self.path))
        for content in ("", "{}", "[]", '{"PeerURLs":null}'):
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(content)
            self.assertEqual(self.proxy._known_urls(), (), content)
