"""``/v2/keys``: reads, writes through the log, and watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.v2.forms import form_of
from etcdtw.api.v2.parsing import KEYS_ROOT, KeyRequest, parse_keys
from etcdtw.api.v2.running import JSON, NO_ACCESS, run
from etcdtw.api.v2.users import Passwords, Users
from etcdtw.apply.requests import V2
from etcdtw.counting import HttpCounts
from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica
from etcdtw.v2store import Event, V2Code, V2Error, V2Store

KEYS_PREFIX = b"/v2/keys"
METHODS = (b"HEAD", b"GET", b"PUT", b"POST", b"DELETE")
PARSED_MAX = 1000
STREAM_EVENTS_MAX = 100
"""That wait for a client who does not read; etcd's bound as well."""
_WITHOUT_VALUE = frozenset(("set", "compareAndSwap", "create", "update"))


class Keys:
    """The page of ``/v2/keys`` and all below it."""

    def __init__(
        self,
        replica: Replica,
        store: V2Store,
        cluster_id: int,
        wall_seconds: Callable[[], float],
        passwords: Passwords,
        clock_seconds: Callable[[], float],
    ) -> None:
        """``wall_seconds`` is the time of day, from which TTLs are counted; what requests take goes
        by ``clock_seconds``."""
        self._replica = replica
        self.users = Users(store, self.write, passwords)
        self._store = store
        self._cluster_id = format_id(cluster_id).encode()
        self._wall_seconds = wall_seconds
        self._clock_seconds = clock_seconds
        self.counts = HttpCounts()
        self._watching: dict[_Watching, None] = {}
        self._parsed_gets: dict[bytes, KeyRequest] = {}

    def stop(self) -> None:
        """End all watches: this life of the member is over."""
        for each in list(self._watching):
            each.end()

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        request.setHeader(b"x-etcd-cluster-id", self._cluster_id)
        if request.method not in METHODS:
            request.setHeader(b"allow", b",".join(METHODS))
            return plain_error(request, 405, "Method Not Allowed")
        try:
            asked = self._parsed(request, path)
        except V2Error as error:
            return self._failed(request, error)
        if self.users.enabled:
            key = path[len(KEYS_PREFIX) :].decode("utf-8", "replace")
            run(request, self._serve_if_allowed(request, asked, key))
            return None
        return self._serve(request, asked)

    async def _serve_if_allowed(self, request: HttpRequest, asked: KeyRequest, key: str) -> None:
        """``key`` is as it was asked for: ``/dir/`` is among ``/dir/*``, ``/dir`` is not."""
        authorization = request.getHeader(b"authorization") or b""
        writing = asked.method not in ("GET", "HEAD")
        if await self.users.may(authorization, key, writing, asked.recursive):
            body = self._serve(request, asked)
        else:
            body = self._failed(request, V2Error(V2Code.UNAUTHORIZED, NO_ACCESS))
        if body is not None:
            request.write(body)
            request.finish()

    def _serve(self, request: HttpRequest, asked: KeyRequest) -> bytes | None:
        """The body, or None if the request is finished later."""
        through_log = asked.method in ("PUT", "POST", "DELETE") or (
            asked.method == "GET" and asked.quorum
        )
        method = "QGET" if through_log and asked.method == "GET" else asked.method
        begin = self._clock_seconds()
        self.counts.begun(method)
        try:
            if through_log:
                self._propose(request, asked, method, begin)
                return None
            if asked.method == "GET" and asked.wait:
                self._watch(request, asked)
                return None
            event = self._store.get(asked.path, asked.recursive, asked.sorted)
        except V2Error as error:
            return self._failed(request, error, method)
        self.counts.done(method, self._clock_seconds() - begin)
        return self._done(request, asked, event)

    def _parsed(self, request: HttpRequest, path: bytes) -> KeyRequest:
        if request.method == b"GET":
            # Whoever polls asks the same again and again.
            known = self._parsed_gets.get(request.uri)
            if known is not None:
                return known
        assert request.content is not None, "a request has a body, if an empty one"
        form = form_of(
            request.method,
            request.getHeader(b"content-type") or b"",
            request.uri.partition(b"?")[2],
            request.content.read(),
        )
        key = path[len(KEYS_PREFIX) :].decode("utf-8", "replace")
        asked = parse_keys(request.method.decode(), key, form)
        if request.method == b"GET":
            if len(self._parsed_gets) >= PARSED_MAX:
                self._parsed_gets.clear()
            self._parsed_gets[request.uri] = asked
        return asked

    # --- through the log -------------------------------------------------------------------------

    def _propose(self, request: HttpRequest, asked: KeyRequest, method: str, begin: float) -> None:
        def applied(result: object) -> None:
            if request.is_gone:
                return
            if isinstance(result, Event):
                self.counts.done(method, self._clock_seconds() - begin)
                body = self._done(request, asked, result)
            else:
                assert isinstance(result, V2Error | EtcdError), f"no answer: {result!r}"
                body = self._failed(request, result, method)
            request.write(body)
            request.finish()

        self.write(asked, applied)

    def write(self, asked: KeyRequest, done: Callable[[object], None]) -> None:
        """Put a request into the log; ``done`` gets the Event, or a V2Error or EtcdError."""
        entry = self._entry(asked)
        self._replica.propose(Proposal(entry.SerializeToString(), V2, entry, done))

    def _entry(self, asked: KeyRequest) -> Request:
        """Every field that etcd always writes, so that the bytes are the same."""
        expiration = 0
        if asked.ttl_seconds is not None:
            # Of any size, as the log has it: etcd's int64 wraps around.
            nanoseconds = int(self._wall_seconds() * 1e9) + asked.ttl_seconds * 1_000_000_000
            expiration = (nanoseconds + (1 << 63)) % (1 << 64) - (1 << 63)
        entry = Request(
            ID=self._replica.ids.next(),
            Method="QGET" if asked.method == "GET" else asked.method,
            Path=asked.path,
            Val=asked.value,
            Dir=asked.is_dir,
            PrevValue=asked.prev_value,
            PrevIndex=asked.prev_index,
            Expiration=expiration,
            Wait=asked.wait,
            Since=asked.since,
            Recursive=asked.recursive,
            Sorted=asked.sorted,
            Quorum=asked.quorum,
            Time=0,
            Stream=asked.stream,
        )
        if asked.prev_exist is not None:
            entry.PrevExist = asked.prev_exist
        if asked.refresh is not None:
            entry.Refresh = asked.refresh
        return entry

    # --- answers ---------------------------------------------------------------------------------

    def _done(self, request: HttpRequest, asked: KeyRequest, event: Event) -> bytes:
        self._index_headers(request, event.store_index)
        if asked.no_value and event.action in _WITHOUT_VALUE:
            body = f'{{"action":"{event.action}"}}\n'
        else:
            body = event.client_json(len(KEYS_ROOT)) + "\n"
        return answer(request, 201 if event.created else 200, body.encode(), JSON)

    def _index_headers(self, request: HttpRequest, index: int) -> None:
        node = self._replica.node
        request.setHeader(b"x-etcd-index", b"%d" % index)
        request.setHeader(b"x-raft-index", b"%d" % node.committed)
        request.setHeader(b"x-raft-term", b"%d" % node.term)

    def _failed(self, request: HttpRequest, error: V2Error | EtcdError, method: str = "") -> bytes:
        """``method`` is what the request counts as, nothing if it is none yet."""
        if isinstance(error, EtcdError):
            error = V2Error(V2Code.RAFT_INTERNAL, str(error))
        shown = V2Error(error.code, error.cause.removeprefix(KEYS_ROOT), error.index)
        request.setHeader(b"x-etcd-index", b"%d" % error.index)
        if method:
            self.counts.refused(method, shown.status)
        return answer(request, shown.status, shown.json().encode() + b"\n", JSON)

    # --- watches ---------------------------------------------------------------------------------

    def _watch(self, request: HttpRequest, asked: KeyRequest) -> None:
        watching = _Watching(request, asked.stream, self._watching)
        watching.begin(self._store, asked, lambda index: self._index_headers(request, index))


class _Watching:
    """One watch of a client. The headers go out at once, events when they happen."""

    def __init__(self, request: HttpRequest, stream: bool, among: dict[_Watching, None]) -> None:
        self._request = request
        self._stream = stream
        self._among = among
        self._cancel: Callable[[], None] = lambda: None
        self._early: deque[Event] = deque()
        self._begun = self._paused = self._over = False

    def begin(
        self, store: V2Store, asked: KeyRequest, index_headers: Callable[[int], None]
    ) -> None:
        """V2Error, before anything is sent, if the index is too old."""
        watcher = store.watch(
            asked.path, asked.recursive, asked.stream, asked.since, self._happened
        )
        self._cancel = watcher.cancel
        request = self._request
        self._among[self] = None
        request.notifyFinish().addBoth(lambda _: self._finished())
        index_headers(watcher.start_index)
        request.setResponseCode(200)
        request.setHeader(b"content-type", JSON)
        self._begun = True
        request.registerProducer(self, True)
        request.write(b"")  # the headers
        self._flush()

    def end(self) -> None:
        """No more events."""
        if not self._over:
            self._over = True
            self._cancel()
            self._request.unregisterProducer()
            self._request.finish()

    def _happened(self, event: Event) -> None:
        self._early.append(event)
        if self._begun:
            self._flush()

    def _flush(self) -> None:
        while self._early and not self._paused and not self._over:
            event = self._early.popleft()
            self._request.write(event.client_json(len(KEYS_ROOT)).encode() + b"\n")
            if not self._stream:
                self.end()
        if len(self._early) > STREAM_EVENTS_MAX:
            self.end()

    def _finished(self) -> None:
        self._over = True
        self._among.pop(self, None)
        self._cancel()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._flush()

    def stopProducing(self) -> None:
        self._paused = True
