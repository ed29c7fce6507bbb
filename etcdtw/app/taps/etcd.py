"""``twistd etcd``: a member under Twisted's own daemon, with etcd's command line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from twisted.application.service import IService
from twisted.logger import globalLogPublisher

from etcdtw.app.fatal import Fatal
from etcdtw.app.log import observers_for
from etcdtw.app.main import (
    choose_reactor,
    dry_run,
    read_text,
    refuse,
    say_notices,
    text_of,
)
from etcdtw.app.preflight import preflight
from etcdtw.app.refusals import START_ERRORS, problems_of
from etcdtw.app.starting import StartingMember, find_assemble
from etcdtw.app.taps.clock import forget_time_of_day
from etcdtw.app.taps.refusing import is_daemon, refuse_member
from etcdtw.app.taps.words import Words
from etcdtw.bootstrap.factories import bootstrap_factories
from etcdtw.config.load import Loaded, Wanted, load


class Options(Words):
    synopsis = "[etcd's flags]"


def makeService(options: Options) -> IService:
    """A service that starts the member; a configuration that cannot work ends the process here,
    before a daemon has forked, with etcd's exit code."""
    try:
        loaded = load(options.words, os.environ, os.getcwd(), read_text)
        if isinstance(loaded, Wanted):
            sys.stdout.write(text_of(loaded))
            raise SystemExit(0)
        if loaded.check:
            raise SystemExit(dry_run(loaded, choose_reactor()))
        preflight(loaded, bootstrap_factories())
    except START_ERRORS as error:
        raise SystemExit(refuse(problems_of(error))) from None
    from twisted.internet import reactor

    forget_time_of_day(reactor)
    twistd = getattr(options, "parent", None) or {}
    daemon = is_daemon(options)
    if daemon and "default" in loaded.settings.log_outputs and not twistd.get("syslog"):
        # twistd has chosen the file already, from the directory of the start.
        log_file = twistd.get("logfile") or "twistd.log"
        sys.stderr.write(f"log: {os.path.abspath(log_file)}\n")
    return DaemonMember(loaded, reactor, daemon)


class DaemonMember(StartingMember):
    """A member whose refused start is told in the way that ``twistd`` can pass on."""

    def __init__(self, loaded: Loaded, reactor: Any, daemon: bool) -> None:
        super().__init__(
            loaded.settings, reactor, bootstrap_factories(), Fatal(reactor), find_assemble()
        )
        self._loaded = loaded
        self._daemon = daemon

    def startService(self) -> None:
        stop_once_running(self._reactor)
        # "default" is twistd's own log, which is running already.
        outputs = [each for each in self._loaded.settings.log_outputs if each != "default"]
        try:
            for observer in observers_for(self._loaded.settings, outputs):
                globalLogPublisher.addObserver(observer)
            say_notices(self._loaded)
            super().startService()
        except START_ERRORS as error:
            refuse_member(error, self._reactor, self._daemon)


def stop_once_running(reactor: Any) -> None:
    """Until the reactor runs and takes it over, SIGTERM would end the process as it is, and leave
    twistd's pid file there: let it stop the reactor as soon as that runs."""
    received = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if not received:
            received = True
            reactor.callWhenRunning(reactor.stop)

    signal.signal(signal.SIGTERM, stop)
