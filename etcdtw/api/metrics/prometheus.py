"""Loading Prometheus' library without what it would serve and push by: that is of no use to a
member, costs as much as ten thousand keys, and would stop it for a tenth of a second."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from etcdtw.lean import import_also, later

_SERVERS_AND_PUSHERS: Mapping[str, Mapping[str, object]] = {
    "http.server": {"BaseHTTPRequestHandler": object},
    "socketserver": {"ThreadingMixIn": type("ThreadingMixIn", (), {})},
    "ssl": {
        "PROTOCOL_TLS_CLIENT": 16,
        "PROTOCOL_TLS_SERVER": 17,
        "SSLContext": later("ssl", "SSLContext"),
        "TLSVersion": object,
    },
    "urllib.error": {"HTTPError": OSError},
    "urllib.request": {
        "BaseHandler": object,
        "HTTPRedirectHandler": object,
        **{
            name: later("urllib.request", name)
            for name in ("HTTPHandler", "HTTPSHandler", "Request", "build_opener")
        },
    },
    "wsgiref.simple_server": {
        "WSGIRequestHandler": object,
        "WSGIServer": object,
        "make_server": later("wsgiref.simple_server", "make_server"),
    },
}


def load_prometheus() -> None:
    """Import it, lean where the process is."""
    import_also("prometheus_client", standing_in=_SERVERS_AND_PUSHERS)
    import_module("prometheus_client")
