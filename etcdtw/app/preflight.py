"""Checks of a start that need no network and leave nothing open, so that they can run before a
daemon forks: what is refused here has touched neither a socket nor the data directory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from etcdtw.app.earlier import has_log
from etcdtw.app.proxy_mode import is_proxy
from etcdtw.app.secure import tls_problems
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.factories import choose_factory
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapFactory,
    ReactorView,
)
from etcdtw.config.load import Loaded
from etcdtw.config.problems import ConfigProblems, Stage
from etcdtw.errors import ConfigError


def preflight(loaded: Loaded, factories: Sequence[IBootstrapFactory]) -> None:
    """Raise :class:`ConfigProblems` with all that would stop the start later.

    Membership comes before certificates and missing features, as the clustering guide has it. A
    member that has a log already does not look at its bootstrap flags.
    """
    settings = loaded.settings
    problems = [*data_dir_problems(settings)]
    if not has_log(settings) and not is_proxy(settings):
        problems += loaded.bootstrap_problems or _plan_problems(settings, factories)
    problems += loaded.start_problems or tls_problems(settings, _Offline())
    if problems:
        raise ConfigProblems(Stage.START, problems)


def data_dir_problems(settings: MemberSettings) -> list[ConfigError]:
    """A data directory that is something else, in etcd's words."""
    path = settings.data_dir
    if os.path.exists(path) and not os.path.isdir(path):
        reason = f"failed to list data directory: readdirent {path}: not a directory"
        return [ConfigError("data-dir", "file system", reason)]
    if all(os.path.isdir(os.path.join(path, each)) for each in ("member", "proxy")):
        reason = "invalid datadir. Both member and proxy directories exist."
        return [ConfigError("data-dir", "file system", reason)]
    return []


async def make_plan(
    settings: BootstrapSettings, factories: Sequence[IBootstrapFactory], reactor: ReactorView
) -> ClusterPlan:
    """The plan of the provider that is asked for."""
    return await choose_factory(settings, factories).provider(reactor).plan(settings)


def _plan_problems(
    settings: MemberSettings, factories: Sequence[IBootstrapFactory]
) -> tuple[ConfigError, ...]:
    """What a provider finds wrong before it needs its first answer from anybody."""
    outcome: list[ClusterPlan | Failure] = []
    plan = Deferred.fromCoroutine(make_plan(settings.bootstrap(), factories, _Offline()))
    plan.addBoth(outcome.append)
    if not outcome:
        plan.cancel()
        return ()
    found = outcome[0]
    if isinstance(found, Failure):
        if isinstance(found.value, ConfigError):
            return (found.value,)
        found.raiseException()
    return ()


class _Offline:
    """A reactor on which nothing ever happens."""

    def seconds(self) -> float:
        return 0.0

    def callLater(self, delay: float, callable: object, *args: object, **kw: object) -> _Offline:
        return self  # a call that is only ever cancelled

    def cancel(self) -> None:
        """Nothing was to happen."""

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        return Deferred()
