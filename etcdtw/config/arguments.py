"""The command line, by the rules of Go's ``flag`` package that etcd uses.

``--name value``, ``--name=value``, one dash or two; a switch stands alone or takes ``=value``;
``--`` or the first word without a dash ends the flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from etcdtw.config.flags import (
    CHECK,
    CONFIG_FILE,
    FLAGS,
    IGNORED_SWITCHES,
    OLD_ADDRESSES,
    OLD_FLAGS,
    OLD_NAMES,
    VERSION,
    Flag,
)
from etcdtw.config.gotext import quote
from etcdtw.config.kinds import URLS
from etcdtw.config.problems import Notice
from etcdtw.config.values import COMMAND_LINE, Value, Values
from etcdtw.errors import ConfigError

USAGE_EXIT = 2
"""Exit code of every complaint of Go's flag package."""


@dataclass(slots=True)
class Arguments:
    """What a command line says. ``values`` also holds ``config-file``, ``version``, ``check`` and
    the old flags that were given."""

    values: Values = field(default_factory=dict)
    wants_help: bool = False
    strays: tuple[str, ...] = ()
    notices: list[Notice] = field(default_factory=list)
    problems: list[ConfigError] = field(default_factory=list)


def parse_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line without the program's name. Problems are collected, not raised."""
    found = Arguments()
    left = list(words)
    while left and not found.wants_help:
        word = left[0]
        if len(word) < 2 or not word.startswith("-"):
            break
        del left[0]
        if word == "--":
            break
        _take_flag(found, word, left)
    found.strays = () if found.wants_help else tuple(left)
    return found


def _take_flag(found: Arguments, word: str, left: list[str]) -> None:
    bare = word[2:] if word.startswith("--") else word[1:]
    name, equals, text = bare.partition("=")
    if not name or name.startswith("-"):
        found.problems.append(_problem(word, f"bad flag syntax: {word}"))
        return
    if name in IGNORED_SWITCHES:
        found.notices.append(Notice(f'flag "-{name}" is no longer supported - ignoring.'))
        return
    flag = find_flag(name)
    if flag is None and name in ("h", "help"):
        found.wants_help = True
    elif flag is None:
        problem = _problem(name, f"flag provided but not defined: -{name}")
        problem.hint = _nearest_flag(name)
        found.problems.append(problem)
        if not equals and left and not left[0].startswith("-"):
            del left[0]  # most likely its value: what follows can still be checked
    elif flag.kind.is_switch and not equals:
        found.values[flag.name] = Value(True, COMMAND_LINE)
    elif not equals and not left:
        found.problems.append(_problem(name, f"flag needs an argument: -{name}"))
    else:
        _store(found, flag, name, text if equals else left.pop(0))


def _store(found: Arguments, flag: Flag, name: str, text: str) -> None:
    try:
        value = flag.kind.parse(text)
    except ValueError as problem:
        kind = "boolean value" if flag.kind.is_switch else "value"
        dash = "-" if flag.kind.is_switch else "flag -"
        found.problems.append(
            _problem(name, f"invalid {kind} {quote(text)} for {dash}{name}: {problem}")
        )
        return
    new = OLD_ADDRESSES.get(name) or OLD_NAMES.get(name)
    if new is not None:
        found.notices.append(Notice(f'flag "-{name}" is deprecated, use "-{new}"'))
    if flag.kind is URLS and not text:
        # etcd keeps what there was, and counts the flag as given.
        found.values.setdefault(flag.name, Value(flag.kind.parse(flag.default), COMMAND_LINE))
        return
    found.values[flag.name] = Value(value, COMMAND_LINE)


def find_flag(name: str) -> Flag | None:
    """The flag of that name, of those that are only for command lines too."""
    for each in (CONFIG_FILE, VERSION, CHECK):
        if name == each.name:
            return each
    return OLD_FLAGS.get(name) or FLAGS.get(OLD_NAMES.get(name, name))


def _nearest_flag(name: str) -> str:
    from difflib import get_close_matches  # only refusals need it

    near = get_close_matches(name, [*FLAGS, CONFIG_FILE.name, VERSION.name, CHECK.name], n=1)
    return f"the nearest flag is {near[0]!r}: use --{near[0]}" if near else ""


def _problem(flag: str, reason: str) -> ConfigError:
    return ConfigError(flag, COMMAND_LINE, reason, USAGE_EXIT)
