"""URLs and URL lists by the rules and with the error texts of etcd (and of Go's ``net/url``)."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass

from etcdtw.config.gotext import quote

SCHEMES = ("http", "https", "unix", "unixs")

_LOOPBACK = bytes(15) + b"\x01"
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
# In a host only bytes beyond ASCII may be escaped, and the mark of a zone.
_BAD_HOST_ESCAPE = re.compile(r"%(?!25|[89a-fA-F][0-9a-fA-F])")
_BAD_HOST = re.compile(r"[\x00-\x20#/?@\\^`{|}\x7f]")
_PORT = re.compile(r"(:[0-9]*)?\Z")


@dataclass(frozen=True, slots=True)
class URL:
    """The parts of a URL that etcd looks at; ``host`` includes the port."""

    scheme: str
    host: str
    path: str = ""
    userinfo: str = ""
    query: str = ""

    def __str__(self) -> str:
        user = f"{self.userinfo}@" if self.userinfo else ""
        return f"{self.scheme}://{user}{self.host}{self.path}{self.query}"


def parse_url(text: str) -> URL:
    """Take a URL apart; ``ValueError`` carries Go's text, such as
    ``parse "127.0.0.1:1": first path segment in URL cannot contain colon``."""
    try:
        return _parse(text)
    except ValueError as problem:
        raise ValueError(f"parse {quote(text)}: {problem}") from None


def _parse(text: str) -> URL:
    if any(ord(each) < 0x20 or ord(each) == 0x7F for each in text):
        raise ValueError("net/url: invalid control character in URL")
    text, _, _ = text.partition("#")
    scheme, rest = _split_scheme(text)
    rest, mark, query = rest.partition("?")
    query = mark + query
    if not rest.startswith("/"):
        if scheme:
            return URL(scheme, "", query=query)  # opaque, such as mailto:x
        if ":" in rest.partition("/")[0]:
            raise ValueError("first path segment in URL cannot contain colon")
    host = userinfo = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        userinfo, _, host = authority.rpartition("@")
        _check_host(host)
    _check_escapes(_BAD_ESCAPE, rest)
    return URL(scheme, host, rest, userinfo, query)


def _split_scheme(text: str) -> tuple[str, str]:
    for index, each in enumerate(text):
        if each.isascii() and each.isalpha():
            continue
        if each in "0123456789+-.":
            if index == 0:
                break
            continue
        if each == ":":
            if index == 0:
                raise ValueError("missing protocol scheme")
            return text[:index].lower(), text[index + 1 :]
        break
    return "", text


def _check_host(host: str) -> None:
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise ValueError("missing ']' in host")
        port = host[end + 1 :]
    else:
        colon = host.rfind(":")
        port = host[colon:] if colon >= 0 else ""
    if _PORT.match(port) is None:
        raise ValueError(f"invalid port {quote(port)} after host")
    _check_escapes(_BAD_HOST_ESCAPE, host)
    bad = _BAD_HOST.search(host)
    if bad is not None:
        raise ValueError(f"invalid character {quote(bad[0])} in host name")


def _check_escapes(bad_escape: re.Pattern[str], text: str) -> None:
    bad = bad_escape.search(text)
    if bad is not None:
        raise ValueError(f"invalid URL escape {quote(text[bad.start() : bad.start() + 3])}")


def split_host_port(host: str) -> tuple[str, str]:
    """``("127.0.0.1", "2379")`` of ``127.0.0.1:2379``; ``ValueError`` if it has another form."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or not port.startswith(":"):
            raise ValueError(f"address {host}: missing port in address")
        return name, port[1:]
    name, colon, port = host.partition(":")
    if not colon:
        raise ValueError(f"address {host}: missing port in address")
    if ":" in port:
        raise ValueError(f"address {host}: too many colons in address")
    return name, port


def parse_url_list(texts: list[str]) -> tuple[str, ...]:
    """Sorted, normalised member URLs; ``ValueError`` names the first that is none."""
    if not texts:
        raise ValueError("no valid URLs given")
    return tuple(sorted(str(_member_url(each.strip())) for each in texts))


def _member_url(text: str) -> URL:
    url = parse_url(text)
    if url.scheme not in SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    try:
        split_host_port(url.host)
    except ValueError:
        raise ValueError(f'URL address does not have the form "host:port": {text}') from None
    if url.path:
        raise ValueError(f"URL must not contain a path: {text}")
    return url


def parse_initial_cluster(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Members of ``name=url,name=url`` by name, each with its sorted URLs.

    A name that is repeated has several URLs. Order is by name.
    """
    urls: dict[str, list[str]] = {}
    for part in text.split(","):
        name, _, url = part.partition("=")
        if part:
            urls.setdefault(name, []).append(url)
    return tuple((name, parse_url_list(urls[name])) for name in sorted(urls))


def packed_address(host: str) -> bytes | None:
    """The 4 or 16 bytes of an IP address; None if the host is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            return socket.inet_pton(family, host)
    return None


def is_ip_address(host: str) -> bool:
    """Whether Go would read this as an IP address: no zone, no name."""
    return packed_address(host) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    packed = packed_address(host) or b""
    return packed == _LOOPBACK or (len(packed) == 4 and packed[0] == 127)


def host_of(url: str) -> str:
    """The host of a URL that was checked before."""
    return split_host_port(parse_url(url).host)[0]


def is_peer_url(text: str) -> bool:
    """Whether a member may be added with this URL."""
    try:
        _member_url(text)
    except ValueError:
        return False
    return True


def is_secure(url: str) -> bool:
    """Whether what this URL leads to speaks TLS."""
    return url.startswith(("https:", "unixs:"))
