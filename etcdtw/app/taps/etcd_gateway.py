"""``twistd etcd-gateway``: the gateway under Twisted's own daemon."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import IService
from twisted.logger import globalLogPublisher
from twisted.python import usage

from etcdtw.app.fatal import Fatal
from etcdtw.app.gateway import GatewayService, checked
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.logging import log_observers


class Options(usage.Options):
    """Keeps the words for our own parser, as etcd has its forms."""

    synopsis = "[start] [etcd gateway's flags]"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.words: tuple[str, ...] = ()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        self.words = tuple(options or ())


def makeService(options: Options) -> IService:
    """A service that runs the gateway; a command line that cannot be ends the process here, before
    a daemon has forked."""
    found = checked(options.words)
    if isinstance(found, int):
        raise SystemExit(found)
    from twisted.internet import reactor

    for observer in log_observers(["stderr"], Verbosity("info"), found.log_format):
        globalLogPublisher.addObserver(observer)
    return GatewayService(found, reactor, Fatal(reactor))
