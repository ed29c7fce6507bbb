"""``--check``: what a start with these flags would do, found out without doing it.

No socket is bound, no file is written, nobody is registered; peers and providers are asked as a
start would ask them. What would be refused is refused here, in the same words and with the same
exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from etcdtw.app.check_text import (
    data_dir_line,
    etcd_flags,
    listening_lines,
    member_lines,
    notice_text,
    plan_warnings,
    proxy_lines,
    tls_lines,
)
from etcdtw.app.earlier import has_log
from etcdtw.app.log import observers_for
from etcdtw.app.preflight import preflight
from etcdtw.app.proxy_mode import is_proxy
from etcdtw.app.refusals import START_ERRORS, problems_of
from etcdtw.app.starting import ask_others, asking_settings, falls_back
from etcdtw.bootstrap.chain import look
from etcdtw.bootstrap.factories import choose_factory
from etcdtw.bootstrap.interfaces import ClusterPlan, IBootstrapFactory
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.config.load import Loaded
from etcdtw.config.problems import ConfigProblems
from etcdtw.dns.resolvers import install_resolver, make_resolver
from etcdtw.errors import ConfigError

CHECK_SECONDS = 5.0
"""How long a check asks for a cluster that is not known yet, without ``--bootstrap-timeout``."""

Write = Callable[[str], object]


def check(
    loaded: Loaded,
    factories: Sequence[IBootstrapFactory],
    reactor: Any,
    write: Write,
    refuse: Callable[[ConfigProblems], int],
) -> int:
    """Run the reactor for a dry run; the exit code. ``write`` takes the plan, ``refuse`` tells what
    would be refused."""
    globalLogBeginner.beginLoggingTo(
        observers_for(loaded.settings, ("stderr",)), discardBuffer=True, redirectStandardIO=False
    )
    outcome: list[ConfigProblems | Failure | None] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(DryRun(loaded, factories, reactor, write).run())
        done.addBoth(outcome.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    sys.stdout.flush()
    if not outcome:
        return 1  # stopped by a signal
    found = outcome[0]
    if isinstance(found, Failure):
        found.raiseException()
    return refuse(found) if isinstance(found, ConfigProblems) else 0


class DryRun:
    """One look at a configuration."""

    def __init__(
        self, loaded: Loaded, factories: Sequence[IBootstrapFactory], reactor: Any, write: Write
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._factories = factories
        self._reactor = reactor
        self._write = write

    async def run(self) -> ConfigProblems | None:
        """Tell all that can be found out; what would keep the member from starting."""
        refused: ConfigProblems | None = None
        found: ClusterPlan | str | None = None
        try:
            preflight(self._loaded, self._factories)
        except ConfigProblems as problems:
            refused = problems
        if refused is None and not has_log(self._settings) and not is_proxy(self._settings):
            try:
                found = await self._find()
            except START_ERRORS as error:
                refused = problems_of(error)
        if self._loaded.check == "flags":
            return refused or self._flags(found)
        for line in self._lines(found):
            self._say(line)
        if isinstance(found, ClusterPlan):
            for line in await member_lines(found, self._reactor):
                self._say(line)
        if refused is None:
            self._say("result: it would start")
            return None
        for problem in refused.problems:
            self._say(f"refused: {problem.reason}")
            if isinstance(problem, BootstrapError) and problem.hint:
                self._say(f"  because: {problem.hint}")
        self._say("result: it would not start")
        return refused

    async def _find(self) -> ClusterPlan | str:
        """What the provider finds; for a plan, as the other members let it pass."""
        settings = self._settings
        if settings.dns_server:
            install_resolver(self._reactor, make_resolver(self._reactor, settings.dns_server))
        asked = replace(
            asking_settings(settings, self._reactor),
            timeout_seconds=settings.bootstrap_timeout or CHECK_SECONDS,
        )
        factory = choose_factory(asked, self._factories)
        try:
            found = await look(factory.provider(self._reactor), asked)
        except BootstrapError as error:
            if not falls_back(settings, error):
                raise
            return f"{error.reason}: it would be a v2 proxy (--discovery-fallback)"
        if isinstance(found, ClusterPlan):
            found = replace(found, found_by=found.found_by or factory.name)
            if found.new and len(found.members) > 1:
                await ask_others(found, asked, self._reactor)
        return found

    def _flags(self, found: ClusterPlan | str | None) -> ConfigProblems | None:
        if isinstance(found, str):
            reason = "the members are not known before all have registered; etcd takes --discovery"
            return problems_of(ConfigError("check", "command line", reason))
        for flag in etcd_flags(self._settings, found):
            self._say(flag)
        return None

    def _lines(self, found: ClusterPlan | str | None) -> Iterator[str]:
        settings = self._settings
        yield data_dir_line(settings)
        if is_proxy(settings):
            yield from proxy_lines(settings)
        yield from listening_lines(settings)
        yield from tls_lines(settings)
        for notice in self._loaded.notices:
            yield f"warning: {notice_text(notice)}"
        if isinstance(found, str):
            yield f"found: {found}".replace("\n", "\n  ")
        elif found is not None:
            yield from plan_warnings(found)

    def _say(self, line: str) -> None:
        self._write(line + "\n")
