"""The console command ``etcdtw``: brings in what the member needs, and runs it.

Twisted imports pyOpenSSL, and with it cryptography and OpenSSL's library, wherever they are
installed: a quarter of a small member's memory and a third of its start, for nothing if no TLS is
configured. This process is the member's own, so it may keep them out until somebody needs them.
``docs/design/0004-memory.md`` has the measurements.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import NoReturn

# Any of these in a flag, a variable or a value may lead to TLS or hide the flags that do.
TLS_WORDS = ("https", "unixs", "tls", "cert", "ca-file", "key-file", "crl")
TLS_WORDS += ("auth-token", "config-file", "discovery")

# Twisted and the standard library do without any of these where they are not installed.
HELD_AWAY = ("OpenSSL", "cryptography", "service_identity", "h2", "ssl", "_hashlib")

# Imported by others, which then do not use them as long as nothing goes by an old name.
ON_FIRST_USE = ("http.cookiejar", "google.protobuf.internal.python_message")

# What asks for the modules above. The reactor itself is chosen later.
IMPORTED_FIRST = (
    "twisted.internet.posixbase",
    "twisted.internet.tcp",
    "twisted.internet.unix",
    "twisted.web.http",
    "google.protobuf.descriptor_pool",
)


def main() -> NoReturn:
    """Run as the program, like ``etcdtw.app.main.main``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for Ctrl-C during the start
    if not may_want_tls(sys.argv[1:], os.environ):
        with held_away(HELD_AWAY), on_first_use(ON_FIRST_USE):
            for name in IMPORTED_FIRST:
                import_module(name)
    from etcdtw.app.main import main as member_main

    member_main()


def may_want_tls(words: Sequence[str], variables: Mapping[str, str]) -> bool:
    """False if nothing in a command line and an environment can ask for TLS.

    A wrong True costs memory, a wrong False nothing but an import later on.
    """
    said = [*words, *(f"{k}={v}" for k, v in variables.items() if k.startswith("ETCD_"))]
    text = "\n".join(said).lower().replace("_", "-")
    return any(word in text for word in TLS_WORDS)


@contextmanager
def held_away(names: Iterable[str]) -> Iterator[None]:
    """Within, importing one of these modules fails as if it were not installed."""
    marked = [name for name in names if name not in sys.modules]
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    for name in marked:
        modules[name] = None
    try:
        yield
    finally:
        for name in marked:
            del modules[name]


@contextmanager
def on_first_use(names: Iterable[str]) -> Iterator[None]:
    """Within, importing one of these modules gives one that loads when it is first looked at."""
    finder = _LateFinder(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _LateFinder(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
