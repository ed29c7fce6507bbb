"""Importing Twisted without what a member has no use for.

Twisted imports pyOpenSSL, and with it cryptography and OpenSSL's own library, wherever they are
installed, and a few more modules that it only wants to mention. Together they are a third of a
small member's memory. A process that is a member's alone may do without them; whoever needs one
later imports it as ever. ``docs/design/0004-memory.md`` has the measurements.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Container, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# Optional for their importers: without pyOpenSSL, say, there is no ``reactor.listenSSL``.
HELD_AWAY = ("h2", "bz2", "lzma", "ctypes")
PARTS_OF_TLS = ("OpenSSL", "cryptography", "service_identity", "ssl")
# OpenSSL's digests, optional only where Python was built with its own.
OPENSSL_DIGESTS = "_hashlib"
OWN_DIGESTS = ("_md5", "_sha1")


class _StandIn(ModuleType):
    """Has the names given; any other is that of the real module, which is loaded for it."""

    def __init__(self, name: str, names: Mapping[str, object]) -> None:
        super().__init__(name)
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _is_coroutine(found: object) -> bool:
    return isinstance(found, Coroutine)


def _type_var(name: str, *constraints: Any, default: object = None, **options: Any) -> object:
    return typing.TypeVar(name, *constraints, **options)


def _overriding(method: object) -> object:
    return method


def _one_of(options: Container[object]) -> Callable[..., None]:
    """attrs' validator of that name, which is asked for each address of a connection."""

    def validate(instance: object, attribute: object, value: object) -> None:
        if value not in options:
            import_module("attr.validators").in_(options)(instance, attribute, value)

    return validate


def _system() -> object:
    return "Linux" if sys.platform == "linux" else import_module("platform").system()


def later(module: str, name: str) -> Callable[..., Any]:
    """A function that passes its calls on to the one of this name, or makes objects of a class."""

    def call(*positional: Any, **named: Any) -> Any:
        return getattr(import_module(module), name)(*positional, **named)

    return call


_LOG_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_COOKIES = {"CookieJar": object}
_IMPLEMENTATION = {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name)
_TYPES = ("Concatenate", "ParamSpec", "Self", "TypeAlias", "TypedDict")

# Imported for names that are passed on, written in annotations, or used in rare calls. What is
# used at once is given here; any other name brings the module in.
STANDING_IN: Mapping[str, Mapping[str, object]] = {
    "ast": {"NodeVisitor": object},  # inspect's, to look for the source of a class
    "asyncio": {"AbstractEventLoop": object, "Future": object, "iscoroutine": _is_coroutine},
    "attr.validators": {"in_": _one_of},
    "attrs.validators": {},
    "calendar": {},
    "email": {"message_from_bytes": later("email", "message_from_bytes")},
    "email.message": {
        "EmailMessage": later("email.message", "EmailMessage"),
        "Message": object,
    },
    "google.protobuf.internal.python_message": {},
    "gzip": {},
    "html": {"escape": later("html", "escape")},
    "http": {
        "HTTPStatus": later("http", "HTTPStatus"),
        "cookiejar": _StandIn("http.cookiejar", _COOKIES),
    },
    "http.cookiejar": _COOKIES,  # the real one brings HTTP, which would lack TLS
    "ipaddress": {"ip_address": later("ipaddress", "ip_address")},
    "logging": {
        **_LOG_LEVELS,
        "getLevelName": {number: name for name, number in _LOG_LEVELS.items()}.__getitem__,
    },
    "pathlib": {"PureWindowsPath": later("pathlib", "PureWindowsPath")},
    "platform": {"python_implementation": lambda: _IMPLEMENTATION, "system": _system},
    "shlex": {},
    "shutil": {},
    "subprocess": {},
    "tempfile": {},
    "typing_extensions": {
        **{name: getattr(typing, name) for name in _TYPES},
        "TypeVar": _type_var,
        "override": _overriding,
    },
    "unittest": {"TestCase": object},
    "zipfile": {"ZipFile": later("zipfile", "ZipFile")},
}

# Those importers. Which reactor there will be is chosen later.
IMPORTED_FIRST = (
    "hashlib",
    "twisted.internet.posixbase",
    "twisted.internet.tcp",
    "twisted.internet.unix",
    "twisted.web.http",
    "twisted.plugin",
    "google.protobuf.internal.builder",
)

_held_away: list[str] | None = None


def import_lean(with_tls: bool) -> None:
    """Import the large libraries without the parts that a member, or one without TLS, has no use
    for."""
    global _held_away
    _held_away = [*HELD_AWAY]
    if not with_tls:
        _held_away += PARTS_OF_TLS
        if all(find_spec(name) for name in OWN_DIGESTS):
            _held_away.append(OPENSSL_DIGESTS)
    import_also(*IMPORTED_FIRST)


def import_also(*names: str, standing_in: Mapping[str, Mapping[str, object]] = {}) -> None:
    """Import more of them, which only some members use, just as lean, with more stand-ins for
    them alone: to be called before the import itself. Does nothing in a process that did not
    begin with ``import_lean``."""
    if _held_away is None or all(name in sys.modules for name in names):
        return
    # A library that has come to need more of what is held away is imported as usual, later.
    with (
        suppress(ImportError, AttributeError, TypeError),
        spared(_held_away, {**STANDING_IN, **standing_in}),
    ):
        for name in names:
            import_module(name)


@contextmanager
def spared(
    held_away: Sequence[str], standing_in: Mapping[str, Mapping[str, object]]
) -> Iterator[None]:
    """Within, modules of the first kind cannot be imported, as if they were not installed; those
    of the second are not loaded before somebody uses them. Loaded modules stay as they are."""
    modules: dict[str, Any] = sys.modules
    placed: dict[str, Any] = {name: None for name in held_away if name not in modules}
    for name, names in standing_in.items():
        if name not in modules:
            placed[name] = _StandIn(name, names)
    modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if modules.get(name, placed) is module:
                del modules[name]
