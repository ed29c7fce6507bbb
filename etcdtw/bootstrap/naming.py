"""How ``--bootstrap-provider`` names providers: ``name``, ``name:argument``, ``chain:ONE,TWO``."""

from __future__ import annotations

import os.path
import shlex
from dataclasses import replace

from etcdtw.bootstrap.interfaces import BootstrapSettings

CHAIN = "chain"
LAST_KNOWN_GOOD = "last-known-good"
_WITH_PATHS = ("file", LAST_KNOWN_GOOD)


def links(settings: BootstrapSettings) -> list[BootstrapSettings]:
    """The settings of every provider that is to be asked, one where there is no chain."""
    if settings.provider != CHAIN:
        return [settings]
    parts = [each.partition(":") for each in _words(settings.provider_argument)]
    return [replace(settings, provider=name, provider_argument=rest) for name, _, rest in parts]


def rooted(text: str, directory: str) -> str:
    """A value of the flag whose paths start from a directory: a daemon may leave it."""
    name, colon, argument = text.partition(":")
    if name == CHAIN:
        return f"{name}:" + ",".join(rooted(each, directory) for each in _words(argument))
    if name in _WITH_PATHS and argument:
        return f"{name}:{os.path.abspath(os.path.join(directory, argument))}"
    word, space, rest = argument.partition(" ")
    if name == "exec" and word.startswith(("./", "../")):
        argument = shlex.quote(os.path.abspath(os.path.join(directory, word))) + space + rest
    return name + colon + argument


def _words(argument: str) -> list[str]:
    return [each.strip() for each in argument.split(",")]
