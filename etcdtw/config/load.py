"""From a command line, an environment and perhaps a file to the settings of a member.

Precedence is etcd's: a configuration file replaces everything else; without one a flag wins over
its variable, and that over the default.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from etcdtw.app.settings import InitialCluster, MemberSettings
from etcdtw.bootstrap.naming import rooted
from etcdtw.config.arguments import Arguments, parse_arguments
from etcdtw.config.environment import read_environment
from etcdtw.config.flags import CHECK, CONFIG_FILE, FLAGS, OLD_ADDRESSES, VERSION
from etcdtw.config.kinds import PATH, FlagValue
from etcdtw.config.problems import ConfigProblems, Notice, Stage
from etcdtw.config.urls import parse_initial_cluster
from etcdtw.config.values import COMMAND_LINE, Value, Values, default_values
from etcdtw.config.verification import (
    Checked,
    compaction_retention,
    initial_cluster_text,
    notices,
    start_problems,
    verify,
)
from etcdtw.errors import ConfigError
from etcdtw.observe.logging import STANDARD

# Where 0 on the command line stands for etcd's own choice.
_ZERO_MEANS: dict[str, FlagValue] = {
    "snapshot-count": 100_000,
    "backend-batch-interval": 0.1,
    "backend-batch-limit": 10_000,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that etcd would begin to start with.

    The problems are those that etcd finds while starting: ``bootstrap_problems`` only matter when
    the data directory is new. ``etcdtw.app.preflight`` raises them in the right order. ``check``
    asks for a dry run: ``plan`` for what a start would do, ``flags`` for etcd's flags; empty: none.
    """

    settings: MemberSettings
    notices: tuple[Notice, ...] = ()
    bootstrap_problems: tuple[ConfigError, ...] = ()
    start_problems: tuple[ConfigError, ...] = ()
    check: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command line that asks for a text instead of a member: ``help`` or ``version``."""

    text: str


def load(
    words: Sequence[str],
    variables: Mapping[str, str],
    directory: str,
    read: Callable[[str], str],
) -> Loaded | Wanted:
    """Settings from a command line (without the program's name) and an environment.

    ``directory`` is what relative paths start from; ``read`` gives a file's text. Raises
    :class:`ConfigProblems`.
    """
    arguments = parse_arguments(words)
    if arguments.problems:
        raise ConfigProblems(Stage.ARGUMENTS, arguments.problems)
    if arguments.wants_help:
        return Wanted("help")
    if arguments.strays:
        stray = arguments.strays[0]
        reason = f"'{stray}' is not a valid flag"
        raise ConfigProblems(Stage.VERIFY, [ConfigError(stray, COMMAND_LINE, reason)])
    if (version := arguments.values.pop(VERSION.name, None)) is not None and version.value:
        return Wanted("version")
    check = _check(arguments)
    said = list(arguments.notices)
    path = _config_file(arguments, variables)
    if path:
        from etcdtw.config.file import read_file  # brings in YAML, which few starts need

        given, file_notices = read_file(os.path.join(directory, path), read)
        said += file_notices
        said.append(
            Notice(
                "loaded server configuration, other configuration command line flags and "
                "environment variables will be ignored if provided",
                {"path": path},
            )
        )
    else:
        given, more = _flags_and_variables(arguments, variables)
        said += more
    return replace(_finish(given, said, directory, from_file=bool(path)), check=check)


def member_settings(directory: str = "/", **changes: FlagValue) -> MemberSettings:
    """Default settings with some fields changed, for tests and for embedding.

    ``changes`` are fields of the record with the values that their flags have after parsing
    (``initial_cluster`` and ``auto_compaction_retention`` as text). Raises
    :class:`ConfigProblems`.
    """
    given = {name.replace("_", "-"): Value(value, "argument") for name, value in changes.items()}
    unknown = given.keys() - FLAGS.keys()
    assert not unknown, f"no such settings: {sorted(unknown)}"
    loaded = _finish(given, [], directory, from_file=False)
    problems = loaded.bootstrap_problems + loaded.start_problems
    if problems:
        raise ConfigProblems(Stage.START, problems)
    return loaded.settings


def _check(arguments: Arguments) -> str:
    given = arguments.values.pop(CHECK.name, None)
    if given is None or not given.value:
        return ""
    return str(given.value) if isinstance(given.value, str) else "plan"


def _config_file(arguments: Arguments, variables: Mapping[str, str]) -> str:
    given = arguments.values.pop(CONFIG_FILE.name, None)
    return str(given.value) if given is not None else variables.get(CONFIG_FILE.variable, "")


def _flags_and_variables(
    arguments: Arguments, variables: Mapping[str, str]
) -> tuple[Values, list[Notice]]:
    strict = arguments.values.get("strict-environment")
    environment = read_environment(
        variables, arguments.values, strict=strict is not None and bool(strict.value)
    )
    if environment.problems:
        raise ConfigProblems(Stage.VERIFY, environment.problems)
    given = {**environment.values, **arguments.values}
    problems = _take_addresses(given)
    if problems:
        raise ConfigProblems(Stage.VERIFY, problems)
    return given, environment.notices


def _take_addresses(given: Values) -> list[ConfigError]:
    """Put a URL in the place of every address that was given by a flag of etcd 0.4: one of https
    where there is a certificate for it. Both forms at once are a problem."""
    problems = []
    for old, new in OLD_ADDRESSES.items():
        address = given.pop(old, None)
        if address is None:
            continue
        if new in given:
            reason = f"Set only one of flags -{new} and -{old}"
            problems.append(ConfigError(old, address.source, reason))
            continue
        side = "peer-" if old.startswith("peer-") else ""
        is_secure = any(f"{side}{each}-file" in given for each in ("cert", "key"))
        url = f"{'https' if is_secure else 'http'}://{address.value}"
        given[new] = Value((url,), address.source)
    return problems


def _finish(given: Values, said: list[Notice], directory: str, *, from_file: bool) -> Loaded:
    values = default_values() | given
    found = Checked(values)
    problems = list(verify(found, from_file=from_file))
    if problems:
        raise ConfigProblems(Stage.VERIFY, problems)
    later = tuple(start_problems(found))
    members: InitialCluster = ()
    bootstrap_problems: tuple[ConfigError, ...] = ()
    try:
        members = parse_initial_cluster(initial_cluster_text(found))
    except ValueError as problem:
        reason = f"error setting up initial cluster: {problem}"
        bootstrap_problems = (found.problem("initial-cluster", reason),)
    settings = _settings(found, members, directory)
    return Loaded(settings, (*said, *notices(found)), bootstrap_problems, later)


def _settings(found: Checked, members: InitialCluster, directory: str) -> MemberSettings:

    def absolute(path: str) -> str:
        return os.path.abspath(os.path.join(directory, path)) if path else ""

    fields: dict[str, object] = {}
    for name, flag in FLAGS.items():
        value = found.values[name].value
        fields[flag.field] = absolute(str(value)) if flag.kind is PATH else value
    for name, meaning in _ZERO_MEANS.items():
        if not fields[FLAGS[name].field]:
            fields[FLAGS[name].field] = meaning
    try:
        retention = compaction_retention(
            found.text("auto-compaction-mode"), found.text("auto-compaction-retention")
        )
    except ValueError:
        retention = 0.0  # the start is refused for it
    fields.update(
        data_dir=absolute(found.text("data-dir") or f"{found.text('name')}.etcd"),
        log_outputs=tuple(
            each if each in STANDARD else absolute(each) for each in found.texts("log-outputs")
        ),
        initial_cluster=members,
        bootstrap_provider=rooted(found.text("bootstrap-provider"), directory),
        auto_compaction_retention=retention,
    )
    return MemberSettings(**fields)  # type: ignore[arg-type]
