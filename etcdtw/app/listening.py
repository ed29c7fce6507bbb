"""Sockets that a member listens on: all of them, or none."""

from __future__ import annotations

import os
import resource
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from etcdtw.config.urls import URL, is_secure, parse_url, split_host_port
from etcdtw.errors import ConfigError
from etcdtw.rpc.alive import detect_vanishing

_BACKLOG = 1024
PORT_MAX = 65535
RESERVED_DESCRIPTORS = 150
"""For files, peers and whatever else is no client (etcd's number)."""
TOLD_AGAIN_SECONDS = 10.0


log = Logger(namespace="etcdtw.member")

Secure = Callable[[Any], Any]
"""Makes the factory of a TLS port from that of a plain one."""


class Door(ServerFactory):
    """Lets connections in while the process has file descriptors to spare: with too many clients a
    member could open no file of its own any more, and would end. Who is not let in is closed."""

    noisy = False

    def __init__(self, wrapped: Any, clock: IReactorTime) -> None:
        self._wrapped = wrapped
        self._seconds = clock.seconds
        self._silent_until = 0.0

    def doStart(self) -> None:
        self._wrapped.doStart()

    def doStop(self) -> None:
        self._wrapped.doStop()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        if descriptors_run_short():
            if self._seconds() >= self._silent_until:
                self._silent_until = self._seconds() + TOLD_AGAIN_SECONDS
                log.error(
                    "too many open files: connections are closed until others end",
                    limit=descriptor_limit(),
                    reserved=RESERVED_DESCRIPTORS,
                )
            return None
        built = self._wrapped.buildProtocol(addr)
        assert built is None or isinstance(built, Protocol), f"not a protocol: {built!r}"
        return built


def descriptor_limit() -> float:
    """How many file descriptors the process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if limit == resource.RLIM_INFINITY else limit


def descriptors_run_short() -> bool:
    """Whether only those are left that are not for clients: the lowest that is free tells."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(lowest)
    return lowest >= descriptor_limit() - RESERVED_DESCRIPTORS


def check_descriptors() -> None:
    """ConfigError, in etcd's words, where none are left for clients."""
    if descriptor_limit() <= RESERVED_DESCRIPTORS:
        reason = "file descriptor limit of etcd process is too low; please set higher"
        raise ConfigError("", "start", reason)


class Gate(ServerFactory):
    """Stands at a bound port until the member behind it is ready: connections wait in the
    kernel's queue and are accepted by the real factory afterwards."""

    noisy = False

    def __init__(self) -> None:
        self.factory: Any = None
        self._ports: list[Any] = []

    def hold(self, port: Any) -> None:
        port.stopReading()
        self._ports.append(port)

    def open(self, factory: Any) -> None:
        self.factory = factory
        factory.doStart()
        for port in self._ports:
            port.startReading()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        assert self.factory is not None, "a connection was accepted before the member was ready"
        built = self.factory.buildProtocol(addr)
        assert built is None or isinstance(built, Protocol), f"not a protocol: {built!r}"
        return built


def listen_all(
    reactor: Any, gates: Sequence[tuple[str, Iterable[str], Gate, Secure]]
) -> list[IListeningPort]:
    """Bind every URL of every ``(flag, urls, gate, secure)`` and hold it at its gate; ``secure``
    puts TLS in front of it where the URL says so.

    Raises ConfigError with etcd's sentence, and leaves nothing bound, when one cannot be.
    """
    ports: list[IListeningPort] = []
    try:
        for flag, urls, gate, secure in gates:
            for url, factory in _factories(reactor, flag, urls, gate, secure):
                if flag != "listen-peer-urls":
                    factory = Door(factory, reactor)
                port = _listen(reactor, flag, url, factory)
                ports.append(port)
                gate.hold(port)
    except ConfigError:
        for port in ports:
            port.stopListening()
        raise
    return ports


def _factories(
    reactor: Any, flag: str, urls: Iterable[str], gate: Gate, secure: Secure
) -> Iterator[tuple[str, Any]]:
    """The URLs with what serves each socket. Those for clients may share an address, as etcd's
    may: twice the same is once, and http beside https are told apart by what comes in."""
    listed = list(urls)
    if flag != "listen-client-urls":
        for url in listed:
            yield url, secure(gate) if is_secure(url) else gate
        return
    at_address: dict[str, list[str]] = {}
    for url in listed:
        at_address.setdefault(url.partition("://")[2].rstrip("/"), []).append(url)
    for found in at_address.values():
        kinds = {is_secure(url) for url in found}
        if len(kinds) == 2:
            from etcdtw.tls.either import EitherFactory  # only where there is TLS

            yield found[0], EitherFactory(gate, secure(gate), reactor)
        else:
            yield found[0], secure(gate) if True in kinds else gate


def _listen(reactor: Any, flag: str, text: str, factory: Any) -> IListeningPort:
    url = parse_url(text)
    if url.scheme in ("unix", "unixs"):
        return _listen_unix(reactor, flag, url, factory)
    host, port = split_host_port(url.host)
    if int(port) > PORT_MAX:
        raise ConfigError(flag, text, f"listen tcp: address {port}: invalid port")
    try:
        bound: IListeningPort = reactor.listenTCP(
            int(port), factory, backlog=_BACKLOG, interface=address_of(flag, host)
        )
    except CannotListenError as error:
        raise ConfigError(flag, text, f"listen tcp {url.host}: bind: {_reason(error)}") from error
    listening = getattr(bound, "socket", None)
    if listening is not None:
        detect_vanishing(listening)
    return bound


def _listen_unix(reactor: Any, flag: str, url: URL, factory: Any) -> IListeningPort:
    path = url.host + url.path
    _remove_left_behind(path)
    try:
        bound: IListeningPort = reactor.listenUNIX(path, factory, backlog=_BACKLOG, mode=0o600)
    except CannotListenError as error:
        raise ConfigError(flag, str(url), f"listen unix {path}: bind: {_reason(error)}") from error
    return bound


def _remove_left_behind(path: str) -> None:
    """Remove a socket that nobody listens on: a killed process leaves it behind, and it must not
    keep the next one from starting."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(path)
    except ConnectionRefusedError:
        os.remove(path)
    except OSError:
        pass  # it is not there, or binding tells what is wrong


def address_of(flag: str, host: str) -> str:
    """The address to bind for a host: names are resolved, as the clustering guide's commands
    expect, IPv4 first as Go does."""
    host = host.strip("[]")
    if host in ("", "0.0.0.0"):
        return ""
    try:
        # As bytes, since for other names Python would bring in all of IDNA.
        name = host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for labels that DNS has no room for
        reason = getattr(error, "strerror", None) or "no such host"
        raise ConfigError(flag, host, f"listen tcp: lookup {host}: {reason}") from error
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    return str(found[0][4][0])


def _reason(error: CannotListenError) -> str:
    strerror = getattr(error.socketError, "strerror", None) or str(error.socketError)
    return strerror[:1].lower() + strerror[1:]
