"""``twistd etcd-gateway``: the gateway under Twisted's own daemon."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.logger import globalLogPublisher

from etcdtw.app.fatal import Fatal
from etcdtw.app.gateway import GatewayService, checked
from etcdtw.app.taps.clock import forget_time_of_day
from etcdtw.app.taps.refusing import is_daemon, told_to_parent
from etcdtw.app.taps.words import Words
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.logging import log_observers


class Options(Words):
    synopsis = "[start] [etcd gateway's flags]"


def makeService(options: Options) -> IService:
    """A service that runs the gateway; a command line that cannot be ends the process here, before
    a daemon has forked."""
    found = checked(options.words)
    if isinstance(found, int):
        raise SystemExit(found)
    from twisted.internet import reactor

    forget_time_of_day(reactor)
    for observer in log_observers(["stderr"], Verbosity("info"), found.log_format):
        globalLogPublisher.addObserver(observer)
    fatal = Fatal(reactor)
    return told_to_parent(GatewayService(found, reactor, fatal), fatal, is_daemon(options))
