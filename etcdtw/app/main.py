"""What ``etcdtw`` does: etcd's command line, in the foreground."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger, globalLogBeginner

from etcdtw.app.command_line import told_command_line
from etcdtw.app.earlier import has_log
from etcdtw.app.fatal import Fatal
from etcdtw.app.greeting import greeting
from etcdtw.app.log import observers_for
from etcdtw.app.notify import notify_ready
from etcdtw.app.preflight import preflight
from etcdtw.app.refusals import START_ERRORS, problems_of, tell
from etcdtw.app.resident import ProgramPages
from etcdtw.app.settings import MemberSettings
from etcdtw.app.starting import Assemble, StartingMember, find_assemble
from etcdtw.bootstrap.factories import bootstrap_factories
from etcdtw.bootstrap.interfaces import IBootstrapFactory
from etcdtw.config.help import USAGE, help_text, version_text
from etcdtw.config.load import Loaded, Wanted, load
from etcdtw.config.problems import ConfigProblems
from etcdtw.lean import import_also
from etcdtw.observe.logging import plain

COMMANDS = {
    "ctl": "etcdtw.app.ctl.commands",
    "gateway": "etcdtw.app.gateway",
    "grpc-proxy": "etcdtw.app.grpc_proxy",
    "playground": "etcdtw.app.playground",
}
_SIGNAL_NAMES = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminated"}
_IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Log rotation likes to send them. Go takes no notice; Python lets them end the process."""
_log = Logger()


def run(
    words: Sequence[str],
    variables: Mapping[str, str],
    assemble: Callable[[], Assemble] = find_assemble,
) -> int:
    """Start a member and stay until it ends; the exit code. ``assemble`` finds its maker."""
    if words and words[0] in COMMANDS:
        import_also("twisted.internet.endpoints")  # all of them call somebody
        command: Callable[[Sequence[str]], int] = import_module(COMMANDS[words[0]]).run
        return command(words[1:])
    try:
        loaded = load(words, variables, os.getcwd(), read_text)
        if isinstance(loaded, Wanted):
            sys.stdout.write(text_of(loaded))
            return 0
        if loaded.check:
            return dry_run(loaded, choose_reactor())
        _start_logging(loaded, words)
        factories = bootstrap_factories()
        preflight(loaded, factories)
        newcomer = not words and (sys.stderr.isatty() or "MAKELEVEL" in variables)
        return _run_member(loaded.settings, factories, assemble(), newcomer)
    except START_ERRORS as error:
        return refuse(problems_of(error))


def read_text(path: str) -> str:
    """A file's text."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def text_of(wanted: Wanted) -> str:
    """What ``--help`` and ``--version`` print."""
    return version_text() if wanted.text == "version" else USAGE + help_text()


def refuse(refused: ConfigProblems) -> int:
    """Tell on stderr why there is no start; the exit code."""
    stream = sys.__stderr__ or sys.stderr
    tell(refused, stream.write, time.time())
    stream.flush()
    return refused.exit_code


def dry_run(loaded: Loaded, reactor: Any) -> int:
    """Show on stdout what a start would do; the exit code."""
    from etcdtw.app.check import check

    return check(loaded, bootstrap_factories(), reactor, sys.stdout.write, refuse)


def say_notices(loaded: Loaded) -> None:
    """Log what the operator should know about the configuration."""
    for notice in loaded.notices:
        _log.warn(plain(notice.message), **notice.fields)


def _start_logging(loaded: Loaded, words: Sequence[str]) -> None:
    settings = loaded.settings
    observers = observers_for(settings)
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    _log.info("Running: ", args=told_command_line(settings, words))
    say_notices(loaded)
    if has_log(settings):
        _log.info("server has already been initialized", data_dir=settings.data_dir)


def choose_reactor(**options: float) -> Any:
    """The reactor: our own where epoll is, unless somebody has chosen already."""
    if "twisted.internet.reactor" not in sys.modules and hasattr(select, "epoll"):
        from etcdtw.app import reactor

        reactor.install(**options)
    from twisted.internet import reactor as chosen

    return chosen


def _run_member(
    settings: MemberSettings,
    factories: Sequence[IBootstrapFactory],
    assemble: Assemble,
    newcomer: bool,
) -> int:
    reactor = choose_reactor()
    fatal = Fatal(reactor)
    on_ready: list[Callable[[], object]] = [notify_ready, ProgramPages().give_back]
    if newcomer:
        on_ready.append(lambda: sys.stderr.write(greeting(settings)))
    member = StartingMember(settings, reactor, factories, fatal, assemble, on_ready)
    return serve(member, fatal, lambda: member.refused)


def serve(
    service: Service,
    fatal: Fatal,
    refused: Callable[[], ConfigProblems | None] = lambda: None,
) -> int:
    """Run a service until it ends, or a signal comes; the exit code, if the signal does not end
    the process. ``refused`` is what kept it from starting."""
    from twisted.internet import reactor

    for number in _IGNORED_SIGNALS:
        # A handler, since what is ignored would be ignored by every program that is begun here.
        signal.signal(number, lambda *_: None)
    stop = _StopBySignal(reactor)
    reactor.callWhenRunning(stop.install)  # after Twisted's own, before the service is ready
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    problems = refused()
    if problems is not None:
        return refuse(problems)
    if fatal.reason is not None:
        return 1
    if stop.signal_number is not None:
        die_of(stop.signal_number)
    return 0


class _StopBySignal:
    """The first SIGINT or SIGTERM stops the services, the second ends the process at once."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.signal_number: int | None = None

    def install(self) -> None:
        for number in _SIGNAL_NAMES:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            die_of(number)
        self.signal_number = number
        self._reactor.callFromThread(self._stop)

    def _stop(self) -> None:
        assert self.signal_number is not None, "stopped without a signal"
        name = _SIGNAL_NAMES[signal.Signals(self.signal_number)]
        _log.info("received signal; shutting down", signal=name)
        self._reactor.stop()


def die_of(signal_number: int) -> None:
    """End as the signal's default action would: a shell sees 143 for SIGTERM.

    Returns only as process 1 of a container, which the signal does not end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal_number, signal.SIG_DFL)
    os.kill(os.getpid(), signal_number)
