"""The recorded refusals of real etcd 3.5.1: which are replayed here, how, and which are not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "bootstrap-errors.json"
RELEASE = "3.5.1"

SEVERAL = "later: several members"
TLS = "later: TLS"
DISCOVERY = "later: discovery"
SRV = "later: DNS SRV"
SOCKETS = "needs sockets: replayed as a process"

# By the beginning of the label.
EXCLUDED = {
    "bad cipher suite": TLS,
    "cert file not found": TLS,
    "client port in use": SOCKETS,
    "discovery:": DISCOVERY,
    "join:": SEVERAL,
    "new cluster while peers answer": SEVERAL,
    "new state, peers belong to another cluster": SEVERAL,
    "peer port in use": SOCKETS,
    "restart of a removed member": SEVERAL,
    "running member gets removed": SEVERAL,
    "srv:": SRV,
}

# Where we accept more than etcd unless told otherwise.
STRICT_WORDS = {
    "env var shadowed by flag": ("--strict-environment",),
    "listen url domain name": ("--strict-bind",),
    "listen peer url domain name": ("--strict-bind",),
}

# The recorder's files; their text was chosen to give the recorded answers.
FILES = {
    "bad.yml": "name: [\n",
    "bad2.yml": 'listen-client-urls: "127.0.0.1:1"\n',
    "bad3.yml": 'no-such-key: 1\nlisten-client-urls: "127.0.0.1:1"\n',
}


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded start. ``exit_code`` is ``None`` if etcd kept running."""

    label: str
    words: tuple[str, ...]
    variables: dict[str, str]
    exit_code: int | None
    text: str


def cases(directory: str) -> list[Case]:
    """All cases to replay, with the recorder's directory replaced."""
    found = []
    for record in json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]:
        label = record["label"]
        if record["version"] != RELEASE or label.startswith(tuple(EXCLUDED)):
            continue
        words = tuple(word.replace("RUNDIR", directory) for word in record["args"])
        found.append(
            Case(
                label,
                words + STRICT_WORDS.get(label, ()),
                record["env"] or {},
                record["exit_code"],
                _text(record).replace("RUNDIR", directory),
            )
        )
    return found


def labels() -> set[str]:
    """Labels of all recorded cases of this release."""
    records = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    return {record["label"] for record in records if record["version"] == RELEASE}


def _text(record: dict[str, object]) -> str:
    """The reason in the recorded last line: the error field of a log line, or the line itself."""
    lines = record["warn_or_worse"] or [record["last_line"]]
    assert isinstance(lines, list), "a list of lines is recorded"
    line = str(lines[-1])
    if not line.startswith("{"):
        return line
    entry = json.loads(line)
    reason = str(entry.get("error", ""))
    if entry["msg"] != "failed to list data directory":
        return reason
    return f"{entry['msg']}: {reason}"
