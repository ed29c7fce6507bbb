"""Lists of members as texts, and the provider that plans from one, wherever it is.

A list is pairs ``name=URL``, one per line or several with commas between them (etcd's
``--initial-cluster``), where ``#`` begins a comment; or a JSON object of names and URLs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    ReactorView,
)
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.static import StaticProvider, check_listed, check_size, members_text
from etcdtw.bootstrap.waiting import Patience, a_turn

FLAG = "bootstrap-provider"
LIST_BYTES_MAX = 1 << 20
"""Room for thousands of members."""
SCHEMES = ("http", "https", "unix", "unixs")

log = Logger(namespace="etcdtw.bootstrap")

Members = tuple[tuple[str, tuple[str, ...]], ...]


class Source(Protocol):
    """Where a list comes from."""

    name: str
    """For people: a path, a URL, a command."""
    pause_seconds_max: float
    """Between two questions."""

    async def read(self, seconds: float) -> bytes:
        """The list, within so many seconds. BootstrapUnavailable while there is none."""

    def close(self) -> None:
        """Nothing more will be asked."""


SourceMaker = Callable[[BootstrapSettings, ReactorView], Source]


@implementer(IBootstrapProvider)
class ListProvider:
    """Reads the list again until it is there, can be read, and names this member, or the time is
    up; then does what ``--initial-cluster`` would have done."""

    def __init__(self, reactor: ReactorView, open_source: SourceMaker) -> None:
        self._reactor = reactor
        self._open_source = open_source

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        source = self._open_source(settings, self._reactor)
        try:
            listed = await self._listed(settings, source)
        finally:
            source.close()
        try:
            plan = await StaticProvider(self._reactor).plan(listed)
        except BootstrapError as error:
            raise _found_in(source, error) from None
        await a_turn(self._reactor)  # checks before the start tell nobody
        log.info(
            "got the initial cluster from {source}",
            source=source.name,
            initial_cluster=members_text(listed.initial_cluster),
        )
        return plan

    async def _listed(self, settings: BootstrapSettings, source: Source) -> BootstrapSettings:
        patience = Patience(self._reactor, settings, source.pause_seconds_max)
        while True:
            try:
                found = parse_members(await source.read(patience.left()), source.name)
                listed = replace(settings, initial_cluster=found)
                check_size(listed)
                check_listed(listed)
                return listed
            except BootstrapError as error:
                # A list that is not there, or not complete yet, may be soon.
                if not await patience.pause(error.reason):
                    raise _found_in(source, error) from None


def parse_members(content: bytes, source: str) -> Members:
    """The members of a list, by name; ``source`` says where it is from.

    BootstrapUnavailable if it is empty, BootstrapError with line and reason if it is none.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{source}:{line}", "is no UTF-8 text") from None
    pairs = _json_pairs(text, source) if text.lstrip().startswith("{") else _pairs(text, source)
    members: dict[str, list[str]] = {}
    for where, name, url in pairs:
        fault = "a URL without a name" if not name else _url_fault(url)
        if fault:
            raise _unreadable(where, fault)
        members.setdefault(name, []).append(url)
    if not members:
        raise no_list(f"{source} lists nobody")
    return tuple((name, tuple(sorted(urls))) for name, urls in sorted(members.items()))


def _pairs(text: str, source: str) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{source}:{number}"
        for part in line.partition("#")[0].split(","):
            pair = part.strip()
            name, mark, url = pair.partition("=")
            if mark:
                yield where, name.strip(), url.strip()
            elif pair:
                raise _unreadable(where, f"{_short(pair)} is not name=URL")


def _json_pairs(text: str, source: str) -> Iterator[tuple[str, str, str]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise _unreadable(f"{source}:{line}", f"is no JSON: {error}") from None
    for name, urls in found.items():
        for url in urls if isinstance(urls, list) else [urls]:
            where = f"{source}: member {_short(name)}"
            if not isinstance(url, str):
                raise _unreadable(where, f"{_short(json.dumps(url))} is no URL")
            yield where, name, url


def _url_fault(url: str) -> str:
    """What keeps a text from being a peer URL, in the words that the flags have for it."""
    try:
        parts = urlsplit(url)
        has_port = bool(parts.netloc.rpartition(":")[0]) and parts.port is not None
    except ValueError as error:
        return f"{_short(url)}: {error}"
    if parts.scheme not in SCHEMES:
        return f"URL scheme must be http, https, unix, or unixs: {_short(url)}"
    if not has_port:
        return f'URL address does not have the form "host:port": {_short(url)}'
    if parts.path or parts.query or parts.fragment:
        return f"URL must not contain a path: {_short(url)}"
    return ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")


def _unreadable(where: str, reason: str) -> BootstrapError:
    error = bad_list(f"{where}: {reason}")
    error.hint = "the form is name=URL, one per line or with commas between them"
    return error


def no_list(reason: str) -> BootstrapUnavailable:
    """The refusal while there is no list."""
    return BootstrapUnavailable(FLAG, reason, code="ETW-BOOT-LIST")


def bad_list(reason: str) -> BootstrapError:
    """The refusal of what is no list, or cannot lead to one."""
    return BootstrapError(FLAG, reason, code="ETW-BOOT-LIST")


def _found_in(source: Source, error: BootstrapError) -> BootstrapError:
    """The same, telling where the list is that it speaks of."""
    if source.name not in error.reason:
        error.hint = f"{error.hint}; the list is that of {source.name}".removeprefix("; ")
    return error
