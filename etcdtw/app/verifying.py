"""Endpoints that were found by DNS show that they belong to the domain."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver
from twisted.internet.protocol import Factory, Protocol

from etcdtw.dns.srv import Service
from etcdtw.proxy.finding import Verify
from etcdtw.proxy.gateway import by_name


def verifier(reactor: Any, resolver: IResolver, domain: str, ca_file: str) -> Verify:
    """Connects to an endpoint and looks at its certificate, which has to be for the domain and
    from these authorities (none given: this system's). ConfigError for a file that is none."""
    from etcdtw.tls.contexts import FileContexts
    from etcdtw.tls.interfaces import TLSSettings
    from etcdtw.tls.transport import SecureEndpoint

    settings = TLSSettings(
        side="client",
        trusted_ca_file=os.path.abspath(ca_file) if ca_file else "",
        server_name=domain,
        wanted=(b"h2",),
    )
    contexts = FileContexts(settings, None, lambda: resolver)
    connect = by_name(reactor)

    def verify(service: Service) -> Deferred[None]:
        made: Any = Factory.forProtocol(Protocol)
        made.noisy = False
        endpoint = SecureEndpoint(contexts, service.target, connect(service), reactor)
        connected: Deferred[Any] = endpoint.connect(made)
        return connected.addCallback(lambda probe: probe.transport.loseConnection())

    return verify
