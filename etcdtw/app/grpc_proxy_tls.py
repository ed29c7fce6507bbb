"""TLS of the gRPC proxy: towards the cluster, and towards clients."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IResolver

from etcdtw.app.command_flags import CommandError
from etcdtw.app.grpc_proxy_options import GrpcProxyOptions
from etcdtw.client.endpoints import Connector, plain_connector, tls_connector
from etcdtw.config.urls import split_host_port
from etcdtw.dns.resolvers import make_resolver
from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import AutomaticSettings, ITLSContextFactory, TLSSettings

OFFERED = (b"h2", b"http/1.1")

FindResolver = Callable[[], IResolver]
"""Certificates are seldom for what has to be looked up."""


def endpoint_url(text: str, options: GrpcProxyOptions) -> str:
    """What has no scheme is called over TLS if a flag speaks of TLS."""
    if "://" in text:
        return text
    return f"{'https' if options.calls_tls else 'http'}://{text}"


def upstream_contexts(
    options: GrpcProxyOptions,
    find_resolver: FindResolver,
    wanted: tuple[bytes, ...] = (b"h2",),
) -> ITLSContextFactory:
    """CommandError or ConfigError for files that cannot be used."""
    from etcdtw.tls.contexts import FileContexts

    settings = TLSSettings(
        side="client",
        cert_file=_absolute(options.cert),
        key_file=_absolute(options.key),
        trusted_ca_file=_absolute(options.cacert),
        unverified=options.insecure_skip_tls_verify,
        wanted=wanted,
    )
    contexts: ITLSContextFactory = FileContexts(settings, None, find_resolver)
    if options.cert:
        _check_no_name(options.cert)
    return contexts


def upstream_connector(
    options: GrpcProxyOptions,
    urls: tuple[str, ...],
    reactor: Any,
    find_resolver: FindResolver,
) -> Connector:
    """Reaches endpoints; OpenSSL is loaded only if one of them needs it."""
    if options.calls_tls or any(url.startswith(("https:", "unixs:")) for url in urls):
        return tls_connector(reactor, upstream_contexts(options, find_resolver))
    return plain_connector(reactor)


def front_contexts(options: GrpcProxyOptions, reactor: Any) -> ITLSContextFactory:
    """ConfigError or OSError for files that cannot be used."""
    from etcdtw.tls.providers import FILES

    given = bool(options.trusted_ca_file or options.cert_file or options.key_file)
    automatic = None
    if not given:
        host = split_host_port(options.listen_addr)[0]
        named = [host] if host not in ("", "0.0.0.0", "::") else []
        automatic = AutomaticSettings(
            directory=os.path.join(os.path.abspath(options.data_dir), "fixtures", "proxy"),
            hosts=tuple(dict.fromkeys([*named, "localhost", "127.0.0.1"])),
            years=options.self_signed_cert_validity,
        )
    settings = TLSSettings(
        side="client",
        cert_file=_absolute(options.cert_file),
        key_file=_absolute(options.key_file),
        trusted_ca_file=_absolute(options.trusted_ca_file),
        crl_file=_absolute(options.client_crl_file),
        cipher_suites=options.listen_cipher_suites,
        min_version=options.tls_min_version,
        max_version=options.tls_max_version,
        automatic=automatic,
        offered=OFFERED,
        dns_servers=options.dns_server,
    )
    return FILES.make(settings, reactor)


def check_tls(options: GrpcProxyOptions) -> None:
    """Nothing is written or bound. CommandError with what is wrong with files or flags."""
    try:
        if options.calls_tls:
            upstream_contexts(options, lambda: make_resolver(None, options.dns_server))
        if options.cert_file or options.key_file or options.trusted_ca_file:
            front_contexts(options, None).stop()
    except (ConfigError, OSError) as error:
        raise CommandError(str(error)) from None


def _check_no_name(path: str) -> None:
    """The cluster takes the name in a certificate for that of a user: with one, all clients of the
    proxy would be that user."""
    from etcdtw.tls.material import load_certificates
    from etcdtw.tls.verdict import common_name

    name = common_name(load_certificates(path)[0])
    if name:
        raise CommandError(f"cert has non empty Common Name ({name}): {path}")


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""
