"""Texts made from the flag table: usage, ``--help``, ``--version`` and the documentation page."""

from __future__ import annotations

import platform

from etcdtw.config.flags import (
    GONE,
    IGNORED_SWITCHES,
    OLD_ADDRESSES,
    OLD_NAMES,
    SECTIONS,
    Feature,
    Flag,
)
from etcdtw.version import ETCD_VERSION, ETCDTW_VERSION

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

USAGE = """\
Usage:

  etcdtw [flags]
    Start a member.

  etcdtw --version
    Show versions.

  etcdtw --check [flags]
    Show what a start would do, without doing it; with --check=flags, what etcd would be told.

  etcdtw gateway
    Pass TCP connections on to the members of a cluster.

  etcdtw grpc-proxy
    Share watches, lease renewals and cached reads among gRPC clients.

  etcdtw playground
    Run a cluster on this machine, to try things out.

  etcdtw ctl
    Make certificates, backups and discovery tokens, restore snapshots, replace members.

  etcdtw -h | --help
    Show all flags.

  etcdtw --config-file
    Take all settings from this file. Other flags and environment variables are ignored then.
"""


def help_text() -> str:
    """All flags with defaults by section, in the layout of ``etcd --help``."""
    parts = []
    for section in SECTIONS:
        lines = [f"{section.title}:"]
        for flag in section.flags:
            lines.append(f"  --{flag.name} '{_shown_default(flag)}'")
            lines += [f"    {line}" for line in _sentences(flag)]
        parts.append("\n".join(lines))
    return "\n" + "\n\n".join(parts) + "\n"


def version_text() -> str:
    """The four lines of ``etcd --version``, with what we are made of in Go's places."""
    system = platform.system().lower()
    machine = platform.machine()
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"Git SHA: etcdtw-{ETCDTW_VERSION}\n"
        f"Go Version: {platform.python_implementation()} {platform.python_version()}\n"
        f"Go OS/Arch: {system}/{_MACHINES.get(machine, machine)}\n"
    )


def docs_page() -> str:
    """``docs/reference/flags.md``."""
    lines = [
        "# Flags",
        "",
        "Made from the table in `etcdtw/config/flags.py` by `python -m etcdtw.config.help`;",
        "do not edit by hand.",
        "",
        "Each flag may be written `--name value` or `--name=value`, with one dash or two; a switch",
        "also stands alone. Its environment variable is `ETCD_` and the name in upper case with",
        "underscores. With `--config-file` all settings come from that YAML file, flags and",
        "variables are ignored; durations are whole nanoseconds there.",
        "",
        "`--check` before or among the flags shows what a start with them would do, and exits;",
        "`--check=flags` prints flags for etcd.",
    ]
    for section in SECTIONS:
        lines += [
            "",
            f"## {section.title}",
            "",
            "| flag | value | default | meaning | in this build | key in a file |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_docs_row(flag) for flag in section.flags]
    renamed = sorted((OLD_NAMES | OLD_ADDRESSES).items())
    old = ", ".join(f"`--{old}` is `--{new}`" for old, new in renamed)
    gone = ", ".join(f"`--{name}`" for name in GONE)
    ignored = ", ".join(f"`{name}`" for name in sorted(IGNORED_SWITCHES))
    lines += [
        "",
        "## Old names",
        "",
        f"{old}; addresses are `IP:port`, and go with their new names not at once. Refused:",
        f"{gone} (`--initial-cluster`). Accepted and ignored with a notice: {ignored}.",
    ]
    return "\n".join(lines) + "\n"


def _docs_row(flag: Flag) -> str:
    cells = (
        # The anchor is that of etcd's own page of flags.
        f'<a id="--{flag.name}"></a>`--{flag.name}`',
        flag.kind.word,
        f"`{_shown_default(flag)}`" if _shown_default(flag) else "",
        " ".join(flag.help.split()),
        "" if flag.feature is Feature.HERE else flag.feature.value,
        f"`{flag.file_key}`" if flag.file_key else "none",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentences(flag: Flag) -> list[str]:
    lines = flag.help.splitlines()
    if flag.feature is not Feature.HERE:
        lines.append(f"(In this build: {flag.feature.value}.)")
    return lines


def _shown_default(flag: Flag) -> str:
    return flag.default if flag.shown_default is None else flag.shown_default


if __name__ == "__main__":
    print(docs_page(), end="")
