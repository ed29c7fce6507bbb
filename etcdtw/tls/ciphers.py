"""Cipher suites and versions: etcd's names, which are Go's, for OpenSSL's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from OpenSSL import SSL

VERSIONS = {"TLS1.2": SSL.TLS1_2_VERSION, "TLS1.3": SSL.TLS1_3_VERSION}

SUITES_OF_TLS13 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""Not for choosing, in Go as here: TLS 1.3 has only good ones."""

DEFAULT_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""With forward secrecy and authenticated encryption."""

_SUITE = re.compile(
    r"TLS_(?:(?P<exchange>ECDHE_RSA|ECDHE_ECDSA)|RSA)_WITH_"
    r"(?:AES_(?P<bits>128|256)_(?P<mode>GCM|CBC)_(?P<digest>SHA(?:256|384)?)"
    r"|(?P<chacha>CHACHA20_POLY1305)(?:_SHA256)?)"
)


def openssl_suites(names: Sequence[str]) -> str:
    """OpenSSL's cipher list for suites by etcd's names; its default where there are none.

    ValueError for one that is none, or that is known as insecure and not in OpenSSL any more.
    """
    if not names:
        return DEFAULT_SUITES
    found = [_openssl_name(name) for name in names if name not in SUITES_OF_TLS13]
    return ":".join(found) or DEFAULT_SUITES


def _openssl_name(name: str) -> str:
    match = _SUITE.fullmatch(name)
    if match is None:
        raise ValueError(f'unexpected TLS cipher suite "{name}"')
    parts = [match["exchange"].replace("_", "-")] if match["exchange"] else []
    if match["chacha"]:
        parts.append("CHACHA20-POLY1305")
    else:
        parts.append(f"AES{match['bits']}")
        if match["mode"] == "GCM":
            parts.append("GCM")
        parts.append(match["digest"])
    context = SSL.Context(SSL.TLS_METHOD)
    openssl = "-".join(parts)
    try:
        context.set_cipher_list(openssl.encode())
    except SSL.Error:
        raise ValueError(f'unexpected TLS cipher suite "{name}"') from None
    return openssl


def check_versions(oldest: str, newest: str, suites: Sequence[str]) -> None:
    """ValueError, in etcd's words, for versions that are none or do not go together."""
    for text in (oldest, newest):
        if text and text not in VERSIONS:
            raise ValueError(f'unexpected TLS version "{text}" (must be one of: TLS1.2, TLS1.3)')
    if newest and oldest > newest:
        raise ValueError(f"min version ({oldest}) is greater than max version ({newest})")
    if oldest == "TLS1.3" and suites:
        raise ValueError("cipher suites cannot be configured when only TLS1.3 is enabled")
