"""Choosing what makes a member's TLS: files, or a plugin of another package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from twisted.plugin import IPlugin, getPlugins
from zope.interface import implementer

from etcdtw.dns.resolvers import make_resolver
from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import ITLSContextFactory, ITLSProvider, TLSSettings


@implementer(IPlugin, ITLSProvider)
class FileProvider:
    """Certificates in files, and those that members make for themselves."""

    name = "files"
    help = "certificates in files, or made by the member itself"

    def make(self, settings: TLSSettings, reactor: Any) -> ITLSContextFactory:
        from etcdtw.tls.automatic import Automatic
        from etcdtw.tls.contexts import FileContexts

        automatic = None
        if settings.automatic is not None:
            automatic = Automatic(settings.automatic, reactor, time.time)
        return FileContexts(
            settings, automatic, lambda: make_resolver(reactor, settings.dns_servers)
        )


FILES = FileProvider()


def tls_providers() -> list[ITLSProvider]:
    """The built-in provider and those of other installed packages."""
    others = [each for each in getPlugins(ITLSProvider) if each is not FILES]
    return [FILES, *others]


def choose_provider(name: str, providers: Sequence[ITLSProvider]) -> ITLSProvider:
    """The one of this name. ConfigError, with the names there are, if there is none."""
    for each in providers:
        if each.name == (name or FILES.name):
            return each
    known = ", ".join(f"{each.name} ({each.help})" for each in providers)
    raise ConfigError("tls-provider", "flags", f'no TLS provider "{name}": there are {known}')
