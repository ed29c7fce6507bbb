"""TLS of a member: which side wants it, with what, and what becomes of callers that it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from twisted.logger import Logger

from etcdtw.app.mesh import mesh_problems, mesh_settings
from etcdtw.app.settings import MemberSettings
from etcdtw.config.urls import host_of, is_secure
from etcdtw.counting import TLSCounts
from etcdtw.dns.resolvers import make_resolver
from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import AutomaticSettings, ITLSContextFactory, TLSSettings

CLIENT_PROTOCOLS = (b"h2", b"http/1.1")
PEER_PROTOCOLS = (b"http/1.1",)
"""rafthttp is HTTP/1.1."""

log = Logger(namespace="etcdtw.tls")


def client_tls(settings: MemberSettings) -> TLSSettings:
    """What the flags say about the client port."""
    given = bool(settings.cert_file or settings.key_file)
    authority = settings.trusted_ca_file or settings.ca_file
    automatic = None
    if settings.auto_tls and not given:
        urls = (*settings.listen_client_urls, *settings.advertise_client_urls)
        automatic = _automatic(settings, "client", urls, settings.client_mesh)
        authority = automatic.mesh.ca_file if automatic.mesh else authority
    return TLSSettings(
        side="client",
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        client_cert_file=settings.client_cert_file,
        client_key_file=settings.client_key_file,
        trusted_ca_file=authority,
        crl_file=settings.client_crl_file,
        client_cert_auth=settings.client_cert_auth or settings.client_mesh,
        allowed_hostname=settings.client_cert_allowed_hostname,
        automatic=automatic,
        offered=CLIENT_PROTOCOLS,
        **_common(settings),
    )


def peer_tls(settings: MemberSettings) -> TLSSettings:
    """What the flags say about peers."""
    given = bool(settings.peer_cert_file or settings.peer_key_file)
    authority = settings.peer_trusted_ca_file or settings.peer_ca_file
    automatic = None
    if settings.peer_auto_tls and not given:
        urls = (*settings.listen_peer_urls, *settings.initial_advertise_peer_urls)
        automatic = _automatic(settings, "peer", urls, settings.peer_mesh)
        authority = automatic.mesh.ca_file if automatic.mesh else authority
    return TLSSettings(
        side="peer",
        cert_file=settings.peer_cert_file,
        key_file=settings.peer_key_file,
        client_cert_file=settings.peer_client_cert_file,
        client_key_file=settings.peer_client_key_file,
        trusted_ca_file=authority,
        crl_file=settings.peer_crl_file,
        client_cert_auth=settings.peer_client_cert_auth or settings.peer_mesh,
        allowed_cn=settings.peer_cert_allowed_cn,
        allowed_hostname=settings.peer_cert_allowed_hostname,
        # Whoever is found by DNS alone has to show a certificate for the domain.
        server_name="" if authority else settings.discovery_srv,
        automatic=automatic,
        offered=PEER_PROTOCOLS,
        **_common(settings),
    )


def _common(settings: MemberSettings) -> dict[str, Any]:
    return {
        "cipher_suites": settings.cipher_suites,
        "min_version": settings.tls_min_version,
        "max_version": settings.tls_max_version,
        "skip_address_check": settings.experimental_peer_skip_client_san_verification,
        "dns_servers": settings.dns_server,
        "provider_argument": settings.tls_provider.partition(":")[2],
    }


def _automatic(
    settings: MemberSettings, side: str, urls: Iterable[str], is_mesh: bool
) -> AutomaticSettings:
    hosts = [host_of(url).strip("[]") for url in urls]
    named = [host for host in hosts if host and host not in ("0.0.0.0", "::")]
    return AutomaticSettings(
        directory=os.path.join(settings.data_dir, "fixtures", side),
        hosts=tuple(dict.fromkeys([*named, "localhost", "127.0.0.1"])),
        years=settings.self_signed_cert_validity,
        mesh=mesh_settings(settings, side) if is_mesh else None,
    )


class Security:
    """TLS of a member's two sides, made when first needed: a member without it loads none of it."""

    def __init__(self, settings: MemberSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._made: dict[str, ITLSContextFactory] = {}
        self.counts: dict[str, TLSCounts] = {}
        """By side, of those that are in use."""

    def clients(self) -> ITLSContextFactory:
        return self._side("client", client_tls)

    def peers(self) -> ITLSContextFactory:
        return self._side("peer", peer_tls)

    def stop(self) -> None:
        for each in self._made.values():
            each.stop()

    def client_port(self, factory: Any) -> Any:
        """The factory of a port where clients call over TLS."""
        return self._port("client", self.clients(), factory)

    def peer_port(self, factory: Any) -> Any:
        """The factory of a port where peers call over TLS."""
        return self._port("peer", self.peers(), factory)

    def _port(self, side: str, contexts: ITLSContextFactory, factory: Any) -> Any:
        from etcdtw.tls.transport import secure_listening

        counts = self.counts[side]

        def rejected(connection: Any, reason: str) -> None:
            counts.rejected += 1
            log_rejected(connection, reason)

        return secure_listening(contexts, factory, self._reactor, rejected)

    def _side(
        self, side: str, of_settings: Callable[[MemberSettings], TLSSettings]
    ) -> ITLSContextFactory:
        made = self._made.get(side)
        if made is None:
            made = self._made[side] = make_tls(self._settings, of_settings, self._reactor)
            self.counts[side] = getattr(made, "counts", None) or TLSCounts()
            made.start()
        return made


def make_tls(
    settings: MemberSettings, of_settings: Callable[[MemberSettings], TLSSettings], reactor: Any
) -> ITLSContextFactory:
    """One side's TLS by the provider that is asked for. ConfigError."""
    from etcdtw.tls.providers import choose_provider, tls_providers

    provider = choose_provider(settings.tls_provider.partition(":")[0], tls_providers())
    made: ITLSContextFactory = provider.make(of_settings(settings), reactor)
    return made


def asking_tls(settings: MemberSettings, reactor: Any) -> ITLSContextFactory:
    """For calls before the member has a data directory, to peers only. ConfigError."""
    if settings.peer_mesh:
        return _asking_mesh(peer_tls(settings), reactor)

    def of_settings(settings: MemberSettings) -> TLSSettings:
        found = peer_tls(settings)
        return replace(found, automatic=None, unverified=found.automatic is not None)

    return make_tls(settings, of_settings, reactor)


def _asking_mesh(found: TLSSettings, reactor: Any) -> ITLSContextFactory:
    """With a certificate that is in no file: a start that is refused leaves nothing behind."""
    from etcdtw.tls.contexts import FileContexts
    from etcdtw.tls.mesh import pair_for_calls

    automatic = found.automatic
    assert automatic is not None and automatic.mesh is not None, "a mesh is automatic"
    held = pair_for_calls(automatic, automatic.mesh, datetime.now(UTC))
    contexts: ITLSContextFactory = FileContexts(
        replace(found, automatic=None),
        None,
        lambda: make_resolver(reactor, found.dns_servers),
        held,
    )
    return contexts


def tls_problems(settings: MemberSettings, reactor: Any) -> list[ConfigError]:
    """What keeps TLS from working as it is asked for, found without touching the data directory."""
    sides = []
    if any(map(is_secure, (*settings.listen_client_urls, *settings.listen_metrics_urls))):
        sides.append(client_tls)
    if any(map(is_secure, settings.listen_peer_urls)) or settings.peer_cert_file:
        sides.append(peer_tls)
    problems = mesh_problems(settings)
    for side in sides:
        if side(settings).automatic is not None and not settings.self_signed_cert_validity:
            problems.append(
                ConfigError(
                    "self-signed-cert-validity",
                    "flags",
                    "selfSignedCertValidity is invalid,it should be greater than 0",
                )
            )
        try:
            make_tls(settings, _without_automatic(side), reactor)
        except ConfigError as problem:
            problems.append(problem)
    return problems


def _without_automatic(
    of_settings: Callable[[MemberSettings], TLSSettings],
) -> Callable[[MemberSettings], TLSSettings]:
    def without(settings: MemberSettings) -> TLSSettings:
        found = of_settings(settings)
        is_mesh = found.automatic is not None and found.automatic.mesh is not None
        # The authority of a mesh may not be there yet.
        authority = "" if is_mesh else found.trusted_ca_file
        return replace(found, automatic=None, trusted_ca_file=authority)

    return without


def log_rejected(connection: Any, reason: str) -> None:
    """One line about a caller who was not let in, with the names in what he showed."""
    address = connection.getPeer()
    fields: dict[str, object] = {}
    certificate = connection.getPeerCertificate()
    if certificate is not None:
        from etcdtw.tls.verdict import alternative_names, common_name

        found = certificate.to_cryptography()
        hosts, addresses = alternative_names(found)
        fields = {"ip_addresses": addresses, "dns_names": hosts, "common_name": common_name(found)}
    name = connection.getHandle().get_servername() or b""
    log.warn(
        "rejected connection",
        error=reason,
        remote_addr=f"{getattr(address, 'host', '@')}:{getattr(address, 'port', 0)}",
        server_name=name.decode("ascii", "replace"),
        **fields,
    )
