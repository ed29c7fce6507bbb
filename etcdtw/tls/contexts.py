"""The built-in TLS: certificates in files, loaded again when these change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IResolver
from zope.interface import implementer

from etcdtw.counting import TLSCounts
from etcdtw.errors import ConfigError
from etcdtw.tls.addresses import check_address
from etcdtw.tls.automatic import Automatic
from etcdtw.tls.checking import check_settings, flag
from etcdtw.tls.ciphers import VERSIONS, openssl_suites
from etcdtw.tls.interfaces import ITLSContextFactory, TLSRefused, TLSSettings
from etcdtw.tls.material import (
    BadMaterial,
    Held,
    Pair,
    Reloaded,
    error_text,
    load_certificates,
    load_pair,
    load_revocations,
)
from etcdtw.tls.verdict import (
    Check,
    Verdict,
    any_of,
    client_check,
    common_name_check,
    handshake_fault,
    host_check,
    is_address,
    revocation_fault,
)

VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
SYSTEM_AUTHORITIES = "this system's authorities"


@implementer(ITLSContextFactory)
class FileContexts:
    """See the module. Raises ConfigError for settings that cannot be."""

    def __init__(
        self,
        settings: TLSSettings,
        automatic: Automatic | None,
        make_resolver: Callable[[], IResolver],
        held: Held | None = None,
    ) -> None:
        """``automatic`` keeps the member's own certificate, if the settings ask for one. Calls are
        made with what is ``held`` instead of files, if there is any."""
        self._settings = settings
        self._automatic = automatic
        self._held = held
        self._unverified = settings.unverified or (automatic is not None and not automatic.proves)
        self._resolver = cache(make_resolver)
        check_settings(settings)
        self.counts = counts = TLSCounts()
        cert, key = self._own(settings.cert_file, settings.key_file)
        called_cert, called_key = self._own(
            settings.client_cert_file or cert, settings.client_key_file or key
        )
        ca = [settings.trusted_ca_file] if settings.trusted_ca_file and not held else []
        try:
            self._accepting = (
                Reloaded([cert, key, *ca], lambda: self._server_context(cert, key), counts)
                if cert
                else None
            )
            own = [called_cert, called_key] if called_cert else []
            self._calling = Reloaded(
                [*own, *ca], lambda: self._client_context(called_cert, called_key), counts
            )
            self._revoked = (
                Reloaded([settings.crl_file], lambda: load_revocations(settings.crl_file), counts)
                if settings.crl_file
                else None
            )
        except (BadMaterial, OSError) as error:
            raise ConfigError(flag(settings, "cert_file"), "file", error_text(error)) from error
        self._common = self._checks()

    def start(self) -> None:
        if self._automatic is not None:
            self._automatic.start()

    def stop(self) -> None:
        if self._automatic is not None:
            self._automatic.stop()

    # --- connections -----------------------------------------------------------------------------

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """For Twisted: the connection of somebody who calls."""
        assert self._accepting is not None, "nobody is accepted without a certificate"
        connection = SSL.Connection(self._accepting.get(), None)
        if self._settings.asks_for_certificates:
            verdict = Verdict(self._check, "clientAuth", self._checked_against())
            protocol.verdict = verdict
            connection.set_verify(VERIFY, verdict.verify)
        return connection

    def calling(self, host: str) -> IOpenSSLClientConnectionCreator:
        return _Calling(self, self._settings.server_name or host)

    def call_connection(self, protocol: Any, host: str) -> SSL.Connection:
        """The connection of a call to a host."""
        connection = SSL.Connection(self._calling.get(), None)
        if not self._unverified:
            is_for_host = host_check(host)

            def check(certificate: x509.Certificate) -> str:
                return is_for_host(certificate) or self._check(certificate)

            verdict = Verdict(check, "serverAuth", self._checked_against())
            protocol.verdict = verdict
            connection.set_verify(VERIFY, verdict.verify)
        if not is_address(host):
            connection.set_tlsext_host_name(host.encode("idna"))
        return connection

    def admit(self, protocol: Any, host: str) -> Deferred[None] | None:
        settings = self._settings
        if settings.skip_address_check or not settings.asks_for_certificates or not host:
            return None
        certificate = protocol.getPeerCertificate()
        if certificate is None:
            return None
        return check_address(certificate.to_cryptography(), host, self._resolver)

    def explain(self, protocol: Any, error: BaseException) -> str:
        if isinstance(error, TLSRefused):
            return str(error)
        return handshake_fault(error, getattr(protocol, "verdict", None))

    # --- making contexts -------------------------------------------------------------------------

    def _own(self, cert: str, key: str) -> tuple[str, str]:
        if self._automatic is None:
            return cert, key
        return self._automatic.cert_file, self._automatic.key_file

    def _server_context(self, cert: str, key: str) -> SSL.Context:
        settings = self._settings
        pair = load_pair(cert, key)
        context = self._context(pair)
        self.counts.expires = pair.chain[0].not_valid_after_utc.timestamp()
        if settings.asks_for_certificates:
            for each in self._trust(context):
                context.add_client_ca(each)
            # Who comes back with a ticket would not be looked at again.
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            context.set_options(SSL.OP_NO_TICKET)
        context.set_session_id(settings.side.encode())
        offered = settings.offered

        def choose(connection: SSL.Connection, wanted: Sequence[bytes]) -> Any:
            for each in offered:
                if each in wanted:
                    return each
            return SSL.NO_OVERLAPPING_PROTOCOLS

        if offered:
            context.set_alpn_select_callback(choose)
        return context

    def _client_context(self, cert: str, key: str) -> SSL.Context:
        pair = load_pair(cert, key) if cert else None
        context = self._context(self._held.pair if self._held else pair)
        if not self._unverified:
            self._trust(context)
        if self._settings.wanted:
            context.set_alpn_protos(list(self._settings.wanted))
        return context

    def _context(self, pair: Pair | None) -> SSL.Context:
        settings = self._settings
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_min_proto_version(VERSIONS[settings.min_version or "TLS1.2"])
        if settings.max_version:
            context.set_max_proto_version(VERSIONS[settings.max_version])
        context.set_cipher_list(openssl_suites(settings.cipher_suites).encode())
        if pair is not None:
            _use(context, pair)
        return context

    def _trust(self, context: SSL.Context) -> list[crypto.X509]:
        """The authorities that are trusted from now on, none if they are the system's."""
        path = self._settings.trusted_ca_file
        if not path and not self._held:
            context.set_default_verify_paths()
            return []
        store = context.get_cert_store()
        assert store is not None, "a context has a store"
        found = self._held.authorities if self._held else load_certificates(path)
        authorities = [crypto.X509.from_cryptography(each) for each in found]
        for each in authorities:
            store.add_cert(each)
        # Go trusts what is in the file, whether it signed itself or not.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        return authorities

    def _checked_against(self) -> str:
        if self._held:
            return self._held.name
        return self._settings.trusted_ca_file or SYSTEM_AUTHORITIES

    # --- checks ----------------------------------------------------------------------------------

    def _checks(self) -> tuple[Check, ...]:
        settings = self._settings
        checks: list[Check] = []
        if settings.allowed_cn:
            checks.append(common_name_check(settings.allowed_cn, flag(settings, "allowed_cn")))
        if settings.allowed_hostname:
            checks.append(any_of([host_check(each) for each in settings.allowed_hostname]))
        return tuple(client_check(each) for each in checks)

    def _check(self, certificate: x509.Certificate) -> str:
        for check in self._common:
            reason = check(certificate)
            if reason:
                return reason
        if self._revoked is None:
            return ""
        return revocation_fault(certificate, self._revoked.get())


@implementer(IOpenSSLClientConnectionCreator)
class _Calling:
    def __init__(self, contexts: FileContexts, host: str) -> None:
        self._contexts = contexts
        self._host = host

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self._contexts.call_connection(protocol, self._host)


def _use(context: SSL.Context, pair: Pair) -> None:
    leaf, *others = pair.chain
    try:
        context.use_certificate(crypto.X509.from_cryptography(leaf))
        for each in others:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(each))
        context.use_privatekey(crypto.PKey.from_cryptography_key(pair.key))
    except SSL.Error as error:
        raise BadMaterial(f"tls: OpenSSL will not use the certificate: {error}") from None
