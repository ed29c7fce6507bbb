"""``/members/hashkv``: how members compare what they hold."""

from __future__ import annotations

import json

from etcdtw.api.http.requests import HttpRequest, answer, json_in, plain_error
from etcdtw.api.http.resources import Page
from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.mvcc.hash import HashKV
from etcdtw.mvcc.store import Store
from etcdtw.replica.slices import Slices


class HashKvPage(Page):
    """GET with ``{"revision":N}`` as body (0: the current one); computed in slices, or
    remembered from the compaction at that revision."""

    def __init__(self, store: Store, slices: Slices, cluster_id: int) -> None:
        self._store = store
        self._cluster_id = format_id(cluster_id).encode()
        self._slices = slices

    def show(self, request: HttpRequest) -> bytes | None:
        try:
            wanted = json_in(request)
            revision = int(wanted.get("revision", 0))
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            return plain_error(request, 400, "error unmarshalling request")
        known = self._store.compaction_hash(revision)
        if known is not None:
            return self._answer(request, known)
        try:
            job = self._store.hash_kv(revision)
        except EtcdError as error:
            return plain_error(request, 400, str(error).replace("etcdserver: ", "", 1))
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done() -> None:
            if not gone:
                request.write(self._answer(request, job))
                request.finish()

        self._slices.run(job.step, done)
        return None

    def _answer(self, request: HttpRequest, job: HashKV) -> bytes:
        request.setHeader(b"x-etcd-cluster-id", self._cluster_id)
        body = json.dumps(
            {
                "header": {"revision": self._store.revision},
                "hash": job.hash,
                "compact_revision": job.compact_revision,
            },
            separators=(",", ":"),
        )
        return answer(request, 200, body.encode(), b"application/json")
