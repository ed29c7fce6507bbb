"""The configuration file: YAML whose keys are flag names and whose types are etcd's.

Durations are whole nanoseconds there, lists of URLs are one text with commas; the error texts are
those of etcd's YAML to JSON to structure decoding.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from etcdtw.config.flags import FLAGS, Flag
from etcdtw.config.gotext import quote
from etcdtw.config.kinds import FileTypeError, file_type
from etcdtw.config.problems import ConfigProblems, Notice, Stage
from etcdtw.config.values import Value, Values
from etcdtw.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_KEPT_TAGS = (_TAG + "merge", _TAG + "null")
_BOOLS = ("y", "n", "yes", "no", "true", "false", "on", "off")
_FLOAT = r"(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|\.inf|\.nan"
# What plain words may be, with the characters that they begin with.
_PLAIN_WORDS = (
    ("bool", "|".join(f"{each}|{each.title()}|{each.upper()}" for each in _BOOLS), "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", rf"[-+]?(?:{_FLOAT})", "-+.0123456789"),
)
_DECODING = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "
# Where etcd's message calls the key something else.
_SHOWN_NAMES = {
    "advertise-client-urls": "advertise-peer-urls",
    "discovery-fallback": "discovery-fallback flag",
    "proxy": "proxyFlag",
}
_GROUP_TYPES = {
    "client-transport-security": "embed.securityConfig",
    "peer-transport-security": "embed.securityConfig",
    "socket-options": "transport.SocketOpts",
    "discovery-config": "v3discovery.DiscoveryConfig",
    "discovery-config.client": "clientv3.ConfigSpec",
    "discovery-config.client.secure": "clientv3.SecureConfig",
    "discovery-config.client.auth": "clientv3.AuthConfig",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Sees in plain words what etcd's YAML sees: other numbers than YAML 1.1 has, no dates, and
    the shortest yes and no as well."""

    yaml_implicit_resolvers = {
        first: [each for each in rules if each[0] in _KEPT_TAGS]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _switch(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return str(node.value).lower() in ("y", "yes", "true", "on")


for _name, _rule, _firsts in _PLAIN_WORDS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_rule})\Z"), list(_firsts))
_Loader.add_constructor(_TAG + "bool", _switch)


def read_file(path: str, read: Callable[[str], str]) -> tuple[Values, list[Notice]]:
    """Values that the file sets, and notices about keys that mean nothing.

    ``read`` gives a file's text. Raises :class:`ConfigProblems` for whatever is wrong in it.
    """
    source = f"file {path}"
    try:
        text = read(path)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise _refusal(source, f"open {path}: {reason}") from None
    except UnicodeDecodeError:
        raise _refusal(
            source, "error converting YAML to JSON: yaml: invalid UTF-8 in the file"
        ) from None
    try:
        # What follows a first document is nothing to etcd either.
        content = next(yaml.load_all(text, Loader=_Loader), None)
    except ValueError as problem:
        raise _refusal(source, f"error converting YAML to JSON: yaml: {problem}") from None
    except yaml.YAMLError as problem:
        raise _refusal(
            source, f"error converting YAML to JSON: yaml: {_yaml_text(problem)}"
        ) from None
    if content is None:
        return {}, []
    if not isinstance(content, dict):
        raise _refusal(
            source, f"{_DECODING}{file_type(content)} into Go value of type embed.configYAML"
        )
    return _take_keys(content, source)


def _take_keys(content: dict[object, object], source: str) -> tuple[Values, list[Notice]]:
    flat, problems = _flatten(content, source)
    values: Values = {}
    for name, flag in FLAGS.items():
        key = flag.file_key
        if key is None or flat.get(key) is None:
            continue
        try:
            given = flat.pop(key)
            value = flag.kind.from_file(given)
        except FileTypeError as problem:
            field = f"Go struct field {_struct_field(key)}"
            reason = _DECODING + str(problem).format(field=field)
            problems.append(ConfigError(name, source, reason))
        except ValueError as problem:
            problems.append(ConfigError(name, source, _value_text(flag, given, problem)))
        else:
            if value != ():  # no URL, or no word, leaves the default
                values[name] = Value(value, source)
    if problems:
        raise ConfigProblems(Stage.VERIFY, problems)
    notices = [
        Notice("key of the configuration file is unknown", {"key": key})
        for key, value in flat.items()
        if value is not None
    ]
    return values, notices


def _flatten(
    content: dict[object, object], source: str, prefix: str = ""
) -> tuple[dict[str, object], list[ConfigError]]:
    """Keys of nested maps become ``map.key``."""
    flat: dict[str, object] = {}
    problems: list[ConfigError] = []
    for key, value in content.items():
        group = f"{prefix}{key}"
        if group not in _GROUP_TYPES or value is None:
            flat[group] = value
        elif isinstance(value, dict):
            inner, more = _flatten(value, source, f"{group}.")
            flat |= inner
            problems += more
        else:
            reason = (
                f"{_DECODING}{file_type(value)} into Go struct field {_struct_field(group)}"
                f" of type {_GROUP_TYPES[group]}"
            )
            problems.append(ConfigError(group, source, reason))
    return flat, problems


def _struct_field(key: str) -> str:
    group, dot, _ = key.rpartition(".")
    return f"{_GROUP_TYPES[group].partition('.')[2]}.{key}" if dot else f"configYAML.{key}"


def _value_text(flag: Flag, given: object, problem: ValueError) -> str:
    """What etcd says about a value of the right type: it differs from key to key."""
    if flag.name == "initial-cluster-state":
        return f"unexpected clusterState {quote(str(given))}"
    return f"unexpected error setting up {_SHOWN_NAMES.get(flag.name, flag.name)}: {problem}"


def _yaml_text(problem: yaml.YAMLError) -> str:
    """libyaml's words with its line, which it counts from 0 except in the scanner."""
    if not isinstance(problem, yaml.MarkedYAMLError):
        return str(problem)
    mark = problem.problem_mark
    line = mark.line if mark is not None else 0
    if line and isinstance(problem, yaml.scanner.ScannerError):
        line += 1
    return (f"line {line}: " if line else "") + str(problem.problem)


def _refusal(source: str, reason: str) -> ConfigProblems:
    return ConfigProblems(Stage.VERIFY, [ConfigError("config-file", source, reason)])
