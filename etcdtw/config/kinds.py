"""The kinds of flag values: how each is read from text and from a configuration file.

A kind's ``parse`` takes text and raises ``ValueError`` with etcd's words; ``from_file`` takes what
YAML gave, checked against the type that etcd's file structure has at that key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from etcdtw.config import gotext
from etcdtw.config.urls import is_ip_address, parse_url_list, split_host_port

FlagValue = str | bool | int | float | tuple[str, ...] | tuple[tuple[str, tuple[str, ...]], ...]


class FileTypeError(ValueError):
    """YAML gave another type than the key has; the text completes ``json: cannot unmarshal``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value; ``word`` stands for the value in generated documentation."""

    word: str
    parse: Callable[[str], FlagValue]
    from_file: Callable[[object], FlagValue]
    is_switch: bool = False
    """Whether the flag may stand alone, without a value."""


def file_type(value: object) -> str:
    """What Go's JSON decoder calls this value when it does not fit."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string"


def _file_text(value: object) -> str:
    if not isinstance(value, str):
        raise FileTypeError(f"{file_type(value)} into {{field}} of type string")
    return value


def _file_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise FileTypeError(f"{file_type(value)} into {{field}} of type bool")
    return value


def _file_list(value: object) -> list[str]:
    if not isinstance(value, list):
        raise FileTypeError(f"{file_type(value)} into {{field}} of type []string")
    return [_file_text(each) for each in value]


def _text_in_file(parse: Callable[[str], FlagValue]) -> Callable[[object], FlagValue]:
    return lambda value: parse(_file_text(value))


def _file_number(value: object, go_type: str) -> int:
    """A whole one, in whatever form: ``8e9`` is as good as its zeros."""
    if isinstance(value, float):
        if not value.is_integer():
            raise FileTypeError(f"number {value} into {{field}} of type {go_type}")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FileTypeError(f"{file_type(value)} into {{field}} of type {go_type}")
    return value


def _integer(go_type: str, low: int, high: int) -> Kind:
    def from_file(given: object) -> int:
        value = _file_number(given, go_type)
        if not low <= value <= high:
            raise FileTypeError(f"number {value} into {{field}} of type {go_type}")
        return value

    return Kind("integer", lambda text: gotext.parse_integer(text, low, high), from_file)


def _duration(text: str) -> float:
    try:
        return gotext.parse_duration(text) / 1e9
    except ValueError:
        raise ValueError(gotext.PARSE_ERROR) from None


def _file_duration(value: object) -> float:
    """A file holds nanoseconds: etcd decodes a plain Go duration there."""
    return _file_number(value, "time.Duration") / 1e9


def _urls(text: str) -> tuple[str, ...]:
    return parse_url_list(text.split(",")) if text else ()


def _origins(text: str) -> tuple[str, ...]:
    return ("*",) if text in ("", "*") else parse_url_list(text.split(","))


def _unique_words(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(text.split(",")))) if text else ()


def _host_names(text: str) -> tuple[str, ...]:
    return _unique_words(text) or ("*",)


def one_of(*words: str, quotes_value: bool = False) -> Kind:
    """One of a few words. ``quotes_value``: the refusal repeats the word, as some of etcd's do."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(
                f"invalid value {gotext.quote(text)}" if quotes_value else "invalid value"
            )
        return text

    def from_file(value: object) -> FlagValue:
        text = _file_text(value)
        return parse(text) if text else ()

    return Kind("|".join(words), parse, from_file)


def _ip_port(text: str) -> str:
    text = text.strip()
    host, port = split_host_port(text)
    if not is_ip_address(host):
        raise ValueError("bad IP in address specification")
    if not port.isdecimal():
        raise ValueError("bad port in address specification")
    return text


def refused(name: str, instead: str) -> Kind:
    """Of a flag that takes nothing any more."""

    def parse(text: str) -> str:
        raise ValueError(f'flag "-{name}" is no longer supported. Use -{instead} instead.')

    return Kind("", parse, _text_in_file(parse))


TEXT = Kind("text", str, _file_text)
# A relative path is taken from the directory of the start, even if a daemon leaves it.
PATH = Kind("path", str, _file_text)
SWITCH = Kind("true|false", gotext.parse_bool, _file_bool, is_switch=True)
UINT = _integer("uint", 0, (1 << 64) - 1)
UINT64 = _integer("uint64", 0, (1 << 64) - 1)
UINT32 = _integer("uint32", 0, (1 << 32) - 1)
INT = _integer("int", -(1 << 63), (1 << 63) - 1)
INT64 = _integer("int64", -(1 << 63), (1 << 63) - 1)
DURATION = Kind("duration", _duration, _file_duration)
URLS = Kind("URL[,URL]", _urls, _text_in_file(_urls))
IP_PORT = Kind("IP:port", _ip_port, _text_in_file(_ip_port))
ORIGINS = Kind("*|URL[,URL]", _origins, _text_in_file(_origins))
HOST_NAMES = Kind("*|host[,host]", _host_names, _text_in_file(_host_names))
LOG_OUTPUTS = Kind(
    "target[,target]",
    lambda text: tuple(sorted(set(text.split(",")))),  # an empty one is refused later
    lambda value: tuple(sorted(set(_file_list(value)))),
)
ENDPOINTS = Kind(
    "host:port[,host:port]", _unique_words, lambda value: tuple(sorted(set(_file_list(value))))
)
WORDS = Kind(
    "word[,word]",
    lambda text: tuple(text.split(",")) if text else (),
    lambda value: tuple(_file_list(value)),
)
# One name in a file of etcd before the last releases of 3.5, a list since.
NAMES = Kind(
    "name[,name]",
    WORDS.parse,
    lambda value: WORDS.parse(value) if isinstance(value, str) else tuple(_file_list(value)),
)
CHECK_FORMS = ("plan", "flags")


def _check(text: str) -> FlagValue:
    return text if text in CHECK_FORMS else gotext.parse_bool(text)


CHECKS = Kind("true|false|flags", _check, _text_in_file(_check), is_switch=True)
MESH = "mesh"


def _auto_tls(text: str) -> FlagValue:
    return MESH if text == MESH else gotext.parse_bool(text)


# etcd's switch, and one word more: certificates that prove something.
AUTO_TLS = Kind(
    "true|false|mesh",
    _auto_tls,
    lambda value: MESH if value == MESH else _file_bool(value),
    is_switch=True,
)
# Checked when the whole configuration is known, since etcd reports a bad one as a start error.
INITIAL_CLUSTER = Kind("name=URL[,name=URL]", str, _file_text)
