"""A token: v2 keys in a tree in memory, v3 keys at servers on a simulated network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etcdtw.api.discovery.owners import hash_of
from etcdtw.api.discovery.places import (
    v2_directory,
    v2_size,
    v3_members,
    v3_owner,
    v3_size,
)
from etcdtw.api.v2.parsing import KeyRequest
from etcdtw.errors import NoLeader
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.pb.rpc_pb2 import PutRequest, TxnRequest
from etcdtw.rpc import Router
from etcdtw.v2store import V2Error, V2Store, apply_request
from tests.client.servers import Servers

TOKEN = "6c007a14875d53d9bf0ef5a6fc0257c8"
SECRET = "secret"


class TreeKeys:
    """The v2 keys, without a log."""

    def __init__(self) -> None:
        self.store = V2Store(lambda: 0)
        self.is_away = False

    def write(self, asked: KeyRequest, done: Callable[[object], None]) -> None:
        if self.is_away:
            done(NoLeader())
            return
        method = "QGET" if asked.method == "GET" else asked.method
        entry = Request(Method=method, Path=asked.path, Dir=asked.is_dir, Recursive=asked.recursive)
        try:
            done(apply_request(self.store, entry))
        except V2Error as error:
            done(error)


class TokenCase(Servers):
    def setUp(self) -> None:
        super().setUp()
        self.keys = TreeKeys()
        self.before_txn: Callable[[], object] = lambda: None
        self.make()

    def router(self, host: str) -> Router:
        router = super().router(host)
        router.add_unary("/etcdserverpb.KV/Txn", self._answering(TxnRequest, self._txn))
        return router

    def _txn(self, request: Any) -> bytes:
        if request.compare:
            self.before_txn()
        answer: bytes = self.member.kv.txn(request)
        return answer

    def put_v3(self, key: str, value: str) -> None:
        self.member.kv.put(PutRequest(key=key.encode(), value=value.encode()))

    def make(self, size: int = 3) -> None:
        self.keys.store.set(v2_size(TOKEN), str(size))
        self.put_v3(v3_size(TOKEN), str(size))
        self.put_v3(v3_owner(TOKEN), hash_of(SECRET))

    def register_v2(self, *names: str) -> None:
        for each in names:
            self.keys.store.create(f"{v2_directory(TOKEN)}/{each}", f"{each}=http://{each}:1")

    def register_v3(self, *names: str) -> None:
        for each in names:
            self.put_v3(v3_members(TOKEN) + each, f"{each}=http://{each}:1")

    def left(self) -> list[str]:
        """What is there, in the order of the keys."""
        nodes = self.keys.store.get(v2_directory(TOKEN)).node.nodes or []
        listed = self.result(self.client().kv.get(f"/_etcd/registry/{TOKEN}/members", prefix=True))
        names = [each.key.rpartition("/")[2] for each in nodes]
        return names + [each.key.decode().rpartition("/")[2] for each in listed.kvs]
