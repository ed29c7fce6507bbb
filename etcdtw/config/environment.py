"""``ETCD_*`` variables: the flag's name in upper case with underscores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from etcdtw.config.flags import CONFIG_FILE, FLAGS, VERSION
from etcdtw.config.gotext import quote
from etcdtw.config.problems import Notice
from etcdtw.config.values import Value, Values
from etcdtw.errors import ConfigError

PREFIX = "ETCD_"
SHADOWED = (
    "conflicting environment variable is shadowed by corresponding command-line flag "
    "(either unset environment variable or disable flag))"
)


@dataclass(slots=True)
class Environment:
    """What the environment says."""

    values: Values = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    problems: list[ConfigError] = field(default_factory=list)


def read_environment(variables: Mapping[str, str], given: Values, *, strict: bool) -> Environment:
    """Values of flags that are not ``given`` on the command line; empty variables count as absent.

    A variable of a given flag is refused when ``strict``, else only noticed.
    """
    found = Environment()
    shadowed: list[ConfigError] = []
    # etcd sets flags in the order of their names and keeps the last refusal.
    for name in sorted(FLAGS, reverse=True):
        flag = FLAGS[name]
        text = variables.get(flag.variable, "")
        if not text:
            continue
        source = f"environment {flag.variable}"
        if name in given:
            reason = f"{SHADOWED}: {flag.variable}"
            if strict:
                shadowed.append(ConfigError(name, source, reason))
            else:
                found.notices.append(Notice(SHADOWED, {"environment-variable": flag.variable}))
            continue
        try:
            found.values[name] = Value(flag.kind.parse(text), source)
        except ValueError as problem:
            reason = f"invalid value {quote(text)} for {flag.variable}: {problem}"
            found.problems.append(ConfigError(name, source, reason))
    found.problems[:0] = shadowed
    found.notices.extend(_unknown(variables))
    return found


_OTHERS = frozenset({PREFIX + "UNSUPPORTED_ARCH"})
"""Read by etcd itself, on machines where it is not supported."""


def _unknown(variables: Mapping[str, str]) -> list[Notice]:
    known = {flag.variable for flag in FLAGS.values()} | {CONFIG_FILE.variable} | _OTHERS
    notices = []
    for key in sorted(variables):
        if key == VERSION.variable:
            notices.append(
                Notice(
                    "cannot set special environment variable", {"key": key, "value": variables[key]}
                )
            )
        elif key.startswith(PREFIX) and key not in known:
            text = f"{key}={variables[key]}"
            notices.append(
                Notice("unrecognized environment variable", {"environment-variable": text})
            )
    return notices
