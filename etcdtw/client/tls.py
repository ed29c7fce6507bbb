"""TLS for a client, by files."""

from __future__ import annotations

import os
from typing import Any

from etcdtw.client.endpoints import CONNECT_SECONDS, Connector, tls_connector


def tls_files(
    reactor: Any,
    *,
    ca: str = "",
    cert: str = "",
    key: str = "",
    server_name: str = "",
    verify: bool = True,
    connect_seconds: float = CONNECT_SECONDS,
) -> Connector:
    """The ``connector`` of a Client whose endpoints are https.

    ``ca`` has the authorities that members' certificates are checked against (empty: this
    system's), ``cert`` and ``key`` the client's own pair. Files that change are loaded again.
    ``server_name`` is expected instead of the endpoint's host. Without ``verify`` nothing is
    checked, as members with ``--auto-tls`` need it. ConfigError for files that cannot be used.
    """
    from etcdtw.dns.resolvers import make_resolver
    from etcdtw.tls.contexts import FileContexts  # without TLS OpenSSL is never loaded
    from etcdtw.tls.interfaces import TLSSettings

    def absolute(path: str) -> str:
        return os.path.abspath(path) if path else ""

    settings = TLSSettings(
        side="client",
        cert_file=absolute(cert),
        key_file=absolute(key),
        trusted_ca_file=absolute(ca),
        server_name=server_name,
        unverified=not verify,
        wanted=(b"h2",),
    )
    contexts = FileContexts(settings, None, lambda: make_resolver(reactor))
    return tls_connector(reactor, contexts, connect_seconds)
