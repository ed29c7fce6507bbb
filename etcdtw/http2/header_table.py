"""HPACK's static table (RFC 7541 appendix A) and the type of a header field."""

from __future__ import annotations

# Name and value, one character per octet (Latin-1).
Field = tuple[str, str]

FIELD_OVERHEAD_BYTES = 32  # what a table entry or a header list counts on top of its text

_STATIC_TEXT = """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _entry(line: str) -> Field:
    name, _, value = line.partition(" ")
    return name, value


# Index 0 is no entry; index 1 to 61 are.
STATIC: tuple[Field, ...] = (("", ""), *map(_entry, _STATIC_TEXT.split("\n")[1:-1]))
FIRST_DYNAMIC = len(STATIC)
assert FIRST_DYNAMIC == 62, "the static table of HPACK has 61 entries"

STATIC_INDEX: dict[Field, int] = {field: at for at, field in enumerate(STATIC) if at}
STATIC_NAME_INDEX: dict[str, int] = {STATIC[at][0]: at for at in range(FIRST_DYNAMIC - 1, 0, -1)}
