"""What the gateway and the gRPC proxy have in common: they begin, and then follow the endpoints."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from etcdtw.app.command_flags import CommandError
from etcdtw.app.fatal import Fatal
from etcdtw.app.refusals import start_error_text
from etcdtw.dns.resolvers import install_resolver, make_resolver
from etcdtw.dns.srv import LookupFailed
from etcdtw.errors import EtcdError
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.logging import log_observers
from etcdtw.proxy.finding import NoEndpoints

Options = TypeVar("Options")


class ProxyService(ABC, Service):
    """Begins, and looks for its endpoints again and again where these may change.

    What keeps it from starting goes to ``fatal``, as a sentence.
    """

    log: Logger
    retry_seconds: float
    """After a look at the endpoints that failed."""

    def __init__(
        self,
        reactor: Any,
        dns_servers: Sequence[str],
        fatal: Callable[[str], None],
        on_ready: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._dns_servers = dns_servers
        self._fatal = fatal
        self._on_ready = on_ready
        self._resolver = make_resolver(reactor, dns_servers)
        self._starting: Deferred[None] | None = None
        self._looking: Deferred[None] | None = None
        self._next: IDelayedCall | None = None

    @abstractmethod
    async def _begin(self) -> float:
        """Listen and serve; seconds until the endpoints are looked at again, 0 for never."""

    @abstractmethod
    async def _follow(self) -> float:
        """The endpoints may have changed: take those there are now; seconds as above. Raises
        LookupFailed, NoEndpoints or EtcdError where they cannot be asked for, CommandError where
        they cannot be used."""

    @abstractmethod
    def _end(self) -> Deferred[None] | None:
        """Stop what was begun."""

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._dns_servers:
            install_resolver(self._reactor, self._resolver)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._not_started)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        for each in (self._starting, self._looking):
            if each is not None:
                each.cancel()
        if self._next is not None and self._next.active():
            self._next.cancel()
        return self._end()

    async def _start(self) -> None:
        seconds = await self._begin()
        self._on_ready()
        self._look_later(seconds)

    def _not_started(self, failure: Failure) -> None:
        if self.running and failure.value is not None:
            self._fatal(start_error_text(failure.value))

    def _look_later(self, seconds: float) -> None:
        if seconds and self.running:
            self._next = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._looking = Deferred.fromCoroutine(self._look_again())
        self._looking.addErrback(self._not_followed)

    async def _look_again(self) -> None:
        try:
            seconds = await self._follow()
        except (LookupFailed, NoEndpoints, CommandError, EtcdError) as error:
            self.log.warn("the former endpoints stay: {error}", error=str(error))
            seconds = self.retry_seconds
        self._look_later(seconds)

    def _not_followed(self, failure: Failure) -> None:
        if self.running:
            self.log.failure("following the endpoints failed", failure)
            self._look_later(self.retry_seconds)


def checked_options(
    words: Sequence[str],
    parse: Callable[[Sequence[str]], Options | str],
    check: Callable[[Options], object],
) -> Options | int:
    """The options, or the exit code once the command line was answered or refused. ``parse`` gives
    a text for whoever wants help; ``check`` refuses by CommandError or ValueError."""
    try:
        found = parse(words)
        if isinstance(found, str):
            sys.stdout.write(found)
            return 0
        check(found)
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 1)
    return found


def run_proxy(
    words: Sequence[str],
    verbosity: Verbosity,
    log_format: str,
    make: Callable[[Any, Callable[[str], None]], ProxyService],
) -> int:
    """Run what ``make`` makes of a reactor and whom to tell why it cannot, in the foreground; the
    exit code."""
    from etcdtw.app.main import choose_reactor, serve

    observers = log_observers(["stderr"], verbosity, log_format)
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    Logger().info("Running: ", args=[sys.argv[0], *words])
    reactor = choose_reactor(look_seconds=0.0)
    fatal = Fatal(reactor)
    return serve(make(reactor, fatal), fatal)
