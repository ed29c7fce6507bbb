"""A TLS provider as somebody else would write it, packed into a wheel by a test.

Its argument names a directory with ``ca.crt``, ``member.crt`` and ``member.key``; both sides of the
member use them, and callers must have a certificate.
"""

from __future__ import annotations

from pathlib import Path

from tests.bootstrap.sample import pack_wheel

PLUGIN = """
from twisted.plugin import IPlugin
from zope.interface import implementer

from etcdtw.tls.interfaces import ITLSProvider


@implementer(IPlugin, ITLSProvider)
class FolderProvider:
    name = "folder"
    help = "ca.crt, member.crt and member.key of one directory"

    def make(self, settings, reactor):
        from etcdtw_tls_folder import FolderContexts

        return FolderContexts(settings, reactor)


folder = FolderProvider()
"""

MODULE = """
import os

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import ITLSContextFactory


@implementer(ITLSContextFactory)
class FolderContexts:
    def __init__(self, settings, reactor):
        folder = settings.provider_argument
        if not os.path.isdir(folder):
            raise ConfigError("tls-provider", "flags", f"{folder} is no directory")
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate_file(os.path.join(folder, "member.crt"))
        self._context.use_privatekey_file(os.path.join(folder, "member.key"))
        self._context.load_verify_locations(os.path.join(folder, "ca.crt"))
        self._context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *found: bool(found[-1])
        )
        offered = settings.offered
        self._context.set_alpn_select_callback(
            lambda connection, wanted: next(
                (each for each in offered if each in wanted), SSL.NO_OVERLAPPING_PROTOCOLS
            )
        )

    def start(self):
        pass

    def stop(self):
        pass

    def serverConnectionForTLS(self, protocol):
        return SSL.Connection(self._context, None)

    def calling(self, host):
        return Calling(self._context)

    def admit(self, protocol, host):
        return None

    def explain(self, protocol, error):
        return f"the folder's rules: {error}"


@implementer(IOpenSSLClientConnectionCreator)
class Calling:
    def __init__(self, context):
        self._context = context

    def clientConnectionForTLS(self, protocol):
        return SSL.Connection(self._context, None)
"""


def build_wheel(directory: Path) -> Path:
    """The wheel of this provider, in a directory."""
    return pack_wheel(
        directory,
        "etcdtw_tls_folder",
        {"etcdtw_tls_folder.py": MODULE, "twisted/plugins/etcdtw_tls_folder_plugin.py": PLUGIN},
    )
