"""HTTP/1.1 calls to other members, by Twisted's agent."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from etcdtw.lean import import_also
from etcdtw.peer.stream_http import StreamEvents, StreamRequest
from etcdtw.peer.tunnel import TunnelEndpoint
from etcdtw.tls.interfaces import ITLSContextFactory

EndpointMaker = Callable[[str, str, int], IStreamClientEndpoint]
"""Makes the Twisted endpoint for a scheme, host and port."""

CONNECTIONS_PER_PEER = 4
"""For posts; streams have their own."""


ANSWER_BYTES_MAX = 64 << 20


class TooLong(Exception):
    """An answer has more bytes than the caller wants."""


@dataclass(frozen=True)
class Answered:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Calls(Protocol):
    """What asking others takes of an HttpCaller."""

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]: ...


class HttpCaller:
    """Makes calls; loads Twisted's agent with the first, for a member that is alone needs none."""

    def __init__(
        self,
        reactor: Any,
        timeout_seconds: float,
        make_endpoint: EndpointMaker | None = None,
        tls: Callable[[], ITLSContextFactory] | None = None,
        proxy: str = "",
        body_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        """``timeout_seconds`` is for connecting; ``tls`` is asked when a URL wants it; ``proxy`` is
        the URL or ``host:port`` of an HTTP proxy that calls go through; an answer with more than
        ``body_bytes_max`` fails with TooLong."""
        self.reactor = reactor
        self._timeout = timeout_seconds
        self._make_endpoint = make_endpoint or self._endpoint
        self._tls = tls
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._agents: dict[bool, Any] = {}
        self._body_bytes_max = body_bytes_max

    def stop(self) -> None:
        """Close connections that are kept for later calls."""
        for agent in self._agents.values():
            agent._pool.closeCachedConnections()

    def open(
        self, url: str, headers: Mapping[bytes, bytes], events: StreamEvents
    ) -> Deferred[StreamRequest]:
        """GET a stream; fires when it is connected. ValueError for a URL that cannot be called."""
        parts = urlsplit(url)
        # Not ``hostname``, which is in lower case: sockets have names of either.
        host = parts.netloc.rpartition("@")[2].rpartition(":")[0].strip("[]")
        if not host or parts.port is None:
            raise ValueError(f"{url} has no host and port")
        request = StreamRequest(parts.path, parts.netloc, headers, events)
        endpoint = self._make_endpoint(parts.scheme, host, parts.port)
        factory: Any = Factory.forProtocol(lambda: request)
        connected: Deferred[Any] = endpoint.connect(factory)
        return connected

    def call(
        self,
        method: bytes,
        url: str,
        headers: Mapping[bytes, bytes],
        body: bytes = b"",
        seconds: float = 5.0,
    ) -> Deferred[Answered]:
        """A whole answer within so long."""
        producer = self.producer(BytesIO(body)) if body else None
        asked = self._ask(True, method, url.encode(), _agent_headers(headers), producer)
        return self._whole(asked, seconds)

    def upload(
        self, url: str, headers: Mapping[bytes, bytes], file: Any, seconds: float
    ) -> Deferred[Answered]:
        """POST what ``file`` (``read`` and ``close``) has, however much that is."""
        headers = _agent_headers(headers)
        asked = self._ask(False, b"POST", url.encode(), headers, self.producer(file))
        return self._whole(asked, seconds)

    def send(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], producer: Any
    ) -> Deferred[Any]:
        """Fires with the response of Twisted's agent when its headers are there; its body is the
        caller's to take."""
        from twisted.web.http_headers import Headers

        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name, []).append(value)
        return self._ask(True, method, url, Headers(found), producer)

    def _ask(
        self, persistent: bool, method: bytes, url: bytes, headers: Any, producer: Any
    ) -> Deferred[Any]:
        """A URL that cannot be called is one that does not answer: who calls may be in the middle
        of his turn, and members are added with any URL."""
        try:
            asked: Deferred[Any] = self._agent(persistent).request(method, url, headers, producer)
        except Exception as error:  # of Twisted's, of what reads certificates, and our own
            asked = Deferred()
            self.reactor.callLater(0, asked.errback, error)
        return asked

    def producer(self, file: Any) -> Any:
        """A body of what a file has."""
        from twisted.internet.task import Cooperator
        from twisted.web.client import FileBodyProducer

        reactor = self.reactor
        # One piece in a turn. Twisted's measure, 10 ms, is real time and longer than others should
        # wait.
        cooperator = Cooperator(
            terminationPredicateFactory=lambda: lambda: True,
            scheduler=lambda call: reactor.callLater(0, call),
        )
        return FileBodyProducer(file, cooperator=cooperator)

    def _whole(self, request: Deferred[Any], seconds: float) -> Deferred[Answered]:
        def got(response: Any) -> Deferred[Answered]:
            found = headers_of(response)
            body = _Body(self._body_bytes_max)
            response.deliverBody(body)
            return body.whole.addCallback(lambda content: Answered(response.code, found, content))

        request.addCallback(got)
        request.addTimeout(seconds, self.reactor)
        return request

    def _agent(self, persistent: bool) -> Any:
        agent = self._agents.get(persistent)
        if agent is None:
            import_also("twisted.web.client")
            from twisted.web.client import Agent, HTTPConnectionPool
            from twisted.web.iweb import IAgentEndpointFactory

            pool = HTTPConnectionPool(self.reactor, persistent)
            pool.maxPersistentPerHost = CONNECTIONS_PER_PEER
            pool.retryAutomatically = False
            pool._factory.noisy = False
            make = self._make_endpoint

            @implementer(IAgentEndpointFactory)
            class Endpoints:
                def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
                    return make(uri.scheme.decode(), uri.host.decode(), uri.port)

            agent = Agent.usingEndpointFactory(self.reactor, Endpoints(), pool)
            if self._proxy is not None:
                from twisted.web.client import ProxyAgent

                asking = ProxyAgent(self._to_proxy(), self.reactor, pool)
                agent = _ProxiedAgent(asking, agent, _authorization(self._proxy))
            self._agents[persistent] = agent
        return agent

    def _endpoint(self, scheme: str, host: str, port: int) -> IStreamClientEndpoint:
        host = host.strip("[]")
        if scheme == "http":
            return self._plain(host, port)
        if scheme == "unix":
            return self._socket(host, port)
        if scheme not in ("https", "unixs") or self._tls is None:
            raise ValueError(f"{scheme} URLs cannot be called from here")
        from etcdtw.tls.transport import SecureEndpoint

        if scheme == "unixs":
            way = self._socket(host, port)
        else:
            way = self._tunnel(host, port) if self._proxy else self._plain(host, port)
        return SecureEndpoint(self._tls(), host, way, self.reactor)

    def _socket(self, host: str, port: int) -> IStreamClientEndpoint:
        """The socket whose file is named as a URL names its end: a member that listens at
        ``unix://localhost:1`` makes ``localhost:1`` in its working directory, as etcd does."""
        import_also("twisted.internet.endpoints")
        from twisted.internet.endpoints import UNIXClientEndpoint

        name = f"[{host}]" if ":" in host else host
        seconds = max(1, round(self._timeout))
        return UNIXClientEndpoint(self.reactor, f"{name}:{port}", timeout=seconds)

    def _plain(self, host: str, port: int) -> IStreamClientEndpoint:
        import_also("twisted.internet.endpoints")
        from twisted.internet.endpoints import HostnameEndpoint

        return HostnameEndpoint(self.reactor, host, port, timeout=self._timeout)

    def _tunnel(self, host: str, port: int) -> IStreamClientEndpoint:
        assert self._proxy is not None, "there is a proxy"
        return TunnelEndpoint(
            self.reactor, self._to_proxy(), host, port, self._timeout, _authorization(self._proxy)
        )

    def _to_proxy(self) -> IStreamClientEndpoint:
        assert self._proxy is not None, "there is a proxy"
        return self._plain(self._proxy.hostname or "", self._proxy.port or 80)


class _ProxiedAgent:
    """Twisted's agents for the two ways through a proxy: it is asked for what is http, and leads
    to where TLS is spoken."""

    def __init__(self, asking: Any, tunnelling: Any, authorization: bytes) -> None:
        self._asking = asking
        self._tunnelling = tunnelling
        self._authorization = authorization
        self._pool = asking._pool

    def request(self, method: bytes, url: bytes, headers: Any, producer: Any) -> Deferred[Any]:
        secure = url.lower().startswith(b"https:")
        if self._authorization and not secure:
            headers.setRawHeaders(b"proxy-authorization", [self._authorization])
        agent = self._tunnelling if secure else self._asking
        asked: Deferred[Any] = agent.request(method, url, headers, producer)
        return asked


def _authorization(proxy: SplitResult) -> bytes:
    """What a proxy's URL says about who asks, for its header of that name."""
    if proxy.username is None:
        return b""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return b"Basic " + b64encode(pair.encode())


class _Body(TwistedProtocol):
    """Collects the body of an answer."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts = bytearray()
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._parts += data
        if len(self._parts) > self._bytes_max and not self.whole.called:
            self._abort()
            self.whole.errback(TooLong(f"the answer has more than {self._bytes_max} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        from twisted.web.client import ResponseDone
        from twisted.web.http import PotentialDataLoss

        # Without a length the end of the connection is that of the answer.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._parts))
        else:
            self.whole.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()


def why_no_answer(error: BaseException) -> str:
    """The reason for people: what lies below, where the agent only says that it failed."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return why_no_answer(reasons[0].value)
    return str(error) or type(error).__name__


def headers_of(response: Any) -> dict[bytes, bytes]:
    """The headers of an agent's response, names in lower case."""
    return {name.lower(): values[0] for name, values in response.headers.getAllRawHeaders()}


def _agent_headers(headers: Mapping[bytes, bytes]) -> Any:
    from twisted.web.http_headers import Headers

    return Headers({name: [value] for name, value in headers.items()})
