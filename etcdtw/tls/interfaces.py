"""What TLS is to the rest of a member, and to those who bring their own."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from zope.interface import Attribute, Interface

SECRET_CHARACTERS_MIN = 32
"""Of a mesh's secret, 128 bits in hexadecimal digits: whoever has seen the public key can try
secrets in peace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """The authority that all members of a cluster make from a secret that they share, kept in
    ``directory``. ``flag`` is where the secret comes from; with ``for_clients`` there is a pair for
    clients too. What is kept counts more than the secret once a member ``has_started`` with it."""

    directory: str
    flag: str
    secret: str = field(repr=False)
    for_clients: bool = False
    has_started: bool = False

    @property
    def ca_file(self) -> str:
        return os.path.join(self.directory, "ca.pem")

    @property
    def key_file(self) -> str:
        return os.path.join(self.directory, "ca-key.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticSettings:
    """A certificate that the member makes for itself: kept in ``directory``, for these host names
    and addresses, valid for so many years of 365 days; it proves something only with a ``mesh``."""

    directory: str
    hosts: tuple[str, ...]
    years: int
    mesh: MeshSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """TLS of one side of a member, ``client`` or ``peer``; the fields have the meaning of etcd's
    flags of that name, and are empty where a flag is not given.

    ``offered`` are the protocols that may be agreed on (ALPN) when others call, ``wanted`` those
    that calls ask for. With
    ``unverified`` whoever is called is not checked, as among members that made their certificates
    themselves; ``automatic`` without a mesh says so too, and that no files are given.
    """

    side: str
    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    trusted_ca_file: str = ""
    crl_file: str = ""
    client_cert_auth: bool = False
    allowed_cn: tuple[str, ...] = ()
    allowed_hostname: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""
    skip_address_check: bool = False
    server_name: str = ""
    automatic: AutomaticSettings | None = None
    unverified: bool = False
    offered: tuple[bytes, ...] = ()
    wanted: tuple[bytes, ...] = ()
    provider_argument: str = ""
    dns_servers: tuple[str, ...] = ()

    @property
    def asks_for_certificates(self) -> bool:
        """Whether callers must show a certificate: as in etcd, a CA file alone says so too."""
        return self.client_cert_auth or bool(self.trusted_ca_file)


class TLSRefused(Exception):
    """A handshake, or a look at the certificate afterwards, ended badly. The text tells why, with
    names, dates and addresses."""


class ITLSContextFactory(IOpenSSLServerConnectionCreator):
    """TLS of one side of a member in both directions. All calls on the reactor's thread.

    As ``IOpenSSLServerConnectionCreator`` it makes the connections of those who call. What it
    serves may change at any time; connections under way keep what they began with. It may have an
    attribute ``counts``, a :class:`etcdtw.counting.TLSCounts`, for the metrics.
    """

    def start() -> None:
        """Begin what goes on in the background, such as renewing certificates."""

    def stop() -> None:
        """End that."""

    def calling(host: str) -> IOpenSSLClientConnectionCreator:
        """For a call to this host, a name or an address, whose certificate must be for it."""

    def admit(protocol: Any, host: str) -> Deferred[None] | None:
        """Look at a caller whose handshake has succeeded, and who calls from this address.

        None if there is nothing against him that takes time to find out; else the Deferred fails
        with :class:`TLSRefused`, or fires when he may go on. Raises it as well.
        """

    def explain(protocol: Any, error: BaseException) -> str:
        """Why a handshake failed with this error, in one line."""


class ITLSProvider(Interface):
    """Makes context factories; found through ``twisted.plugin``, light to import."""

    name = Attribute("str: what --tls-provider calls it")
    help = Attribute("str: one line for people who choose")

    def make(settings: TLSSettings, reactor: Any) -> ITLSContextFactory:
        """TLS as these settings want it.

        Raises :class:`etcdtw.errors.ConfigError`, or OSError for a file, when that cannot be.
        Called a first time, with a reactor on which nothing happens, before anything is bound.
        """
