"""Choosing the one bootstrap provider that a configuration asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from twisted.plugin import IPlugin, getPlugins
from zope.interface import implementer

import twisted.plugins
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    IBootstrapFactory,
    IBootstrapProvider,
    ReactorView,
)
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.lean import import_also


@implementer(IPlugin, IBootstrapFactory)
@dataclass(frozen=True, slots=True)
class BootstrapFactory:
    """A factory for a plugin drop-in: names and dotted paths only.

    ``claims_path`` names a function from settings to truth, ``provider_path`` a class or function
    from a reactor to a provider; both are imported when first used.
    """

    name: str
    help: str
    flags: tuple[str, ...]
    claims_path: str
    provider_path: str

    def claims(self, settings: BootstrapSettings) -> bool:
        function = cast(Callable[[BootstrapSettings], bool], _named(self.claims_path))
        return function(settings)

    def provider(self, reactor: ReactorView) -> IBootstrapProvider:
        make = cast(Callable[[ReactorView], IBootstrapProvider], _named(self.provider_path))
        return make(reactor)


def _named(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def claims_static(settings: BootstrapSettings) -> bool:
    """Whether the members are given by ``--initial-cluster``."""
    others = (settings.discovery, settings.discovery_srv, settings.discovery_v3.endpoints)
    return not any(others)


# The next three are here since every member asks, and few need what these ways bring with them.


def claims_srv(settings: BootstrapSettings) -> bool:
    """Whether a domain is given."""
    return bool(settings.discovery_srv)


def claims_discovery(settings: BootstrapSettings) -> bool:
    """Whether a discovery URL is given."""
    return bool(settings.discovery)


def claims_discovery_v3(settings: BootstrapSettings) -> bool:
    """Whether endpoints of a discovery service are given."""
    return bool(settings.discovery_v3.endpoints)


def claims_nothing(settings: BootstrapSettings) -> bool:
    """Of those that must be asked for by name."""
    return False


STATIC = BootstrapFactory(
    "static",
    "all members are listed in --initial-cluster",
    ("initial-cluster", "initial-cluster-state", "initial-cluster-token"),
    "etcdtw.bootstrap.factories.claims_static",
    "etcdtw.bootstrap.static.StaticProvider",
)
DNS_SRV = BootstrapFactory(
    "dns-srv",
    "members are found by the SRV records of --discovery-srv",
    ("discovery-srv", "discovery-srv-name"),
    "etcdtw.bootstrap.factories.claims_srv",
    "etcdtw.bootstrap.dns_srv.SrvProvider",
)
DISCOVERY = BootstrapFactory(
    "discovery",
    "members register at the URL of --discovery",
    ("discovery", "discovery-proxy", "discovery-fallback"),
    "etcdtw.bootstrap.factories.claims_discovery",
    "etcdtw.bootstrap.discovery_v2.DiscoveryProvider",
)
DISCOVERY_V3 = BootstrapFactory(
    "discovery-v3",
    "members register below --discovery-token at the etcd of --discovery-endpoints",
    ("discovery-token", "discovery-endpoints"),
    "etcdtw.bootstrap.factories.claims_discovery_v3",
    "etcdtw.bootstrap.discovery_v3.DiscoveryV3Provider",
)


def _by_name(name: str, help: str, provider_path: str) -> BootstrapFactory:
    flags = ("bootstrap-provider",)
    claims = "etcdtw.bootstrap.factories.claims_nothing"
    return BootstrapFactory(name, help, flags, claims, f"etcdtw.bootstrap.{provider_path}")


FILE = _by_name("file", "members are listed in a file", "from_file.file_provider")
HTTP = _by_name("http", "members are listed at an http URL", "from_http.http_provider")
HTTPS = _by_name("https", "members are listed at an https URL", "from_http.http_provider")
EXEC = _by_name("exec", "a program prints the members", "from_exec.exec_provider")
LAST_KNOWN_GOOD = _by_name(
    "last-known-good", "the members last seen are joined", "last_known_good.LastKnownGood"
)
CHAIN = _by_name("chain", "several providers, one after the other", "chain.ChainProvider")
BUILT_IN: tuple[IBootstrapFactory, ...] = (
    *(STATIC, DNS_SRV, DISCOVERY, DISCOVERY_V3),
    *(FILE, HTTP, HTTPS, EXEC, LAST_KNOWN_GOOD, CHAIN),
)
"""Known without a search: an installation that hides plugin files must still start."""

_KNOWN_DROP_INS = frozenset(
    {
        *("__init__.py", "__pycache__", "dropin.cache", "etcdtw_plugin.py"),
        *("cred_anonymous.py", "cred_file.py", "cred_memory.py", "cred_sshkeys.py", "cred_unix.py"),
        *("twisted_conch.py", "twisted_core.py", "twisted_ftp.py", "twisted_inet.py"),
        *("twisted_mail.py", "twisted_names.py", "twisted_portforward.py", "twisted_reactors.py"),
        *("twisted_runner.py", "twisted_socks.py", "twisted_trial.py", "twisted_web.py"),
        "twisted_words.py",
    }
)


def bootstrap_factories() -> list[IBootstrapFactory]:
    """The built-in bootstrap providers and those of other installed packages."""
    if not others_drop_in(twisted.plugins.__path__):
        return [*BUILT_IN]
    import_also("twisted.trial.itrial")  # which comes with the list
    others = [each for each in getPlugins(IBootstrapFactory) if each not in BUILT_IN]
    return [*BUILT_IN, *others]


def others_drop_in(paths: Iterable[str]) -> bool:
    """Whether there may be drop-ins besides Twisted's and our own. To list the plugins takes all
    that they are for: 400 KiB and 10 ms."""
    names: set[str] = set()
    try:
        for path in paths:
            with suppress(FileNotFoundError):
                names.update(os.listdir(path))
    except OSError:
        return True  # in an archive, say
    return not names <= _KNOWN_DROP_INS


def choose_factory(
    settings: BootstrapSettings, factories: Sequence[IBootstrapFactory]
) -> IBootstrapFactory:
    """The only factory that claims these settings.

    None or several is a :class:`BootstrapError` that lists the candidates.
    """
    if settings.provider:
        claimants = [each for each in factories if each.name == settings.provider]
    else:
        claimants = [each for each in factories if each.claims(settings)]
    if len(claimants) == 1:
        return claimants[0]
    candidates = ", ".join(
        f"{each.name} ({', '.join('--' + flag for flag in each.flags)})"
        for each in claimants or factories
    )
    how_many = "more than one way" if claimants else "no way"
    if settings.provider:
        how_many += f" called {settings.provider!r}"
    raise BootstrapError(
        "initial-cluster",
        f"{how_many} to find the cluster fits the configuration: {candidates or 'none is known'}",
        code="ETW-BOOT-CHOICE",
        hint="exactly one way must be asked for",
    )
