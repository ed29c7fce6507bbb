"""Command lines of etcd's smaller commands (``gateway start``, ``grpc-proxy start``): flags in one
table, their forms, help and refusals as etcd's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etcdtw.config.gotext import parse_duration, parse_integer

Kind = Literal["string", "strings", "bool", "int", "uint", "uint32", "duration"]
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_RANGES: dict[str, tuple[str, int, int]] = {
    "int": ("ParseInt", -(1 << 63), (1 << 63) - 1),
    "uint": ("ParseUint", 0, (1 << 64) - 1),
    "uint32": ("ParseUint", 0, (1 << 32) - 1),
}
_ZEROES = ("", "0", "0s", "false")


class CommandError(Exception):
    """A command line that cannot be; the text is the message."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Flag:
    """One flag; ``default`` as it would be given. Durations come out in seconds."""

    name: str
    kind: Kind
    help: str
    default: str = ""


def invalid(value: str, name: str, reason: str) -> CommandError:
    return CommandError(f'Error: invalid argument "{value}" for "--{name}" flag: {reason}')


def parse_flags(words: Sequence[str], flags: Sequence[Flag], command: str) -> dict[str, Any] | None:
    """Every flag's value by its name with underscores; None if help is asked for. CommandError.

    ``command`` is what comes before the flags, ``gateway start``; its last word may be left out.
    """
    by_name = {flag.name: flag for flag in flags}
    given: dict[str, list[str]] = {}
    left = list(words)
    last_word: str | None = command.rpartition(" ")[2]
    while left:
        word = left.pop(0)
        if word in ("-h", "--help"):
            return None
        if word == last_word:
            last_word = None  # flags may stand before it
            continue
        if not word.startswith("-"):
            raise CommandError(f'Error: unknown command "{word}" for "etcd {command}"')
        if not word.startswith("--"):
            raise CommandError(f"Error: unknown shorthand flag: {word[1:2]!r} in {word}")
        name, has_value, value = word[2:].partition("=")
        flag = by_name.get(name)
        if flag is None:
            raise CommandError(f"Error: unknown flag: --{name}")
        if not has_value:
            if flag.kind == "bool":
                value = "true"
            elif not left:
                raise CommandError(f"Error: flag needs an argument: --{name}")
            else:
                value = left.pop(0)
        # Lists add up; of other flags the last one counts.
        given[name] = [*given.get(name, ()), value] if flag.kind == "strings" else [value]
    return {
        flag.name.replace("-", "_"): _value(flag, given.get(flag.name, [flag.default]))
        for flag in flags
    }


def help_of(summary: str, command: str, flags: Sequence[Flag]) -> str:
    """What ``--help`` prints."""
    rows = [(f"      --{each.name} {each.kind}".removesuffix(" bool"), each) for each in flags]
    lines = [(left, f"{each.help}{_default_text(each)}") for left, each in rows]
    lines.append(("  -h, --help", f"help for {command.rpartition(' ')[2]}"))
    width = max(len(left) for left, _ in lines)
    lines.sort(key=lambda line: line[0].partition("--")[2])
    text = "".join(f"{left:<{width}}   {right}\n" for left, right in lines)
    return f"{summary}\n\nUsage:\n  etcdtw {command} [flags]\n\nFlags:\n{text}"


def _default_text(flag: Flag) -> str:
    if flag.default in _ZEROES:
        return ""
    form = {"string": '"{}"', "strings": "[{}]"}.get(flag.kind, "{}")
    return f" (default {form.format(flag.default)})"


def _value(flag: Flag, given: Sequence[str]) -> Any:
    if flag.kind == "strings":
        return tuple(word for value in given for word in value.split(",") if word)
    return _PARSERS[flag.kind](flag, given[0])


def _switch(flag: Flag, text: str) -> bool:
    text = text or "false"
    if text not in _TRUE + _FALSE:
        raise invalid(text, flag.name, f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _number(flag: Flag, text: str) -> int:
    function, low, high = _RANGES[flag.kind]
    try:
        return parse_integer(text or "0", low, high)
    except ValueError as error:
        reason = "invalid syntax" if str(error) == "parse error" else str(error)
        raise invalid(text, flag.name, f'strconv.{function}: parsing "{text}": {reason}') from None


def _seconds(flag: Flag, text: str) -> float:
    try:
        return parse_duration(text or "0s") / 1e9
    except ValueError as error:
        raise invalid(text, flag.name, str(error)) from None


_PARSERS: dict[str, Callable[[Flag, str], Any]] = {
    "string": lambda flag, text: text,
    "bool": _switch,
    "int": _number,
    "uint": _number,
    "uint32": _number,
    "duration": _seconds,
}
