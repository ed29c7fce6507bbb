"""Scenarios as data: what is done on which machine, what is expected, and which row that proves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
WITHIN_SECONDS = 45.0
RUN_SECONDS = 40.0
ACTIONS = (
    "start", "run", "until", "log", "no_log", "stop", "kill", "ends", "records", "read", "links",
)  # fmt: skip
"""``start`` goes on in the background, its output in the file ``log`` of the machine's directory;
``run`` is done once, ``until`` again and again until it is as expected; ``log`` waits for lines
of the log, which ``no_log`` must not have; ``stop`` and ``kill`` end what was started, ``ends``
waits for it to end by itself, with that code; ``records`` are what the name server says from now
on; ``read`` and ``links`` are about a page of our own documentation."""
EXPECTATIONS = ("says", "says_not", "matches", "last", "exit")
ABOUT = ("at", "each", "rows", "needed", "within", "seconds", "only", "change")


@dataclass(frozen=True)
class Step:
    """One action and what is expected of it.

    ``says``, ``says_not``: parts of the output, ``matches``: regular expressions, ``last``: its
    last line, ``exit``: the code, 0 unless given, None for any. ``needed``: nothing later makes
    sense if it fails. ``only``: the server it is for, or "" for all.
    """

    at: str
    action: str
    text: str
    rows: tuple[str, ...]
    says: tuple[str, ...] = ()
    says_not: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    last: str = ""
    exit: int | None = 0
    needed: bool = False
    within: float = WITHIN_SECONDS
    seconds: float = RUN_SECONDS
    only: str = ""


@dataclass(frozen=True)
class Scenario:
    """Steps on machines that begin empty. ``certificates``: file names by authority, see
    ``Stage``. ``mixed``: it is played with a real member among ours as well."""

    name: str
    part: str
    about: str
    machines: int
    certificates: Mapping[str, Mapping[str, str]]
    steps: tuple[Step, ...]
    mixed: bool = False

    @property
    def rows(self) -> list[str]:
        """In the order in which they come."""
        return list(dict.fromkeys(row for step in self.steps for row in step.rows))


@dataclass(frozen=True)
class Row:
    """A statement of the documents: ``what`` must work; ``decided``: what holds where documents
    and servers disagree; ``ours``: why other servers cannot have it."""

    name: str
    what: str
    decided: str = ""
    ours: str = ""


def catalogue() -> dict[str, Any]:
    """``rows.yaml``: ``documents``, ``linked`` and ``open``."""
    found: dict[str, Any] = yaml.safe_load((HERE / "rows.yaml").read_text(encoding="utf-8"))
    return found


def rows() -> dict[str, Row]:
    """All rows of the documents, in their order."""
    return _rows("documents")


def linked_rows() -> dict[str, Row]:
    """Those of the pages that the documents link to; other tests have them."""
    return _rows("linked")


def all_rows() -> dict[str, Row]:
    """Both; some of the latter are proved by scenarios on the way."""
    return {**rows(), **linked_rows()}


def open_rows() -> list[str]:
    found: list[str] = catalogue()["open"]
    return found


def _rows(part: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for name, said in catalogue()[part].items():
        found[name] = Row(name, **(said if isinstance(said, dict) else {"what": said}))
    return found


def scenarios() -> list[Scenario]:
    return [each for path in sorted((HERE / "scenarios").glob("*.yaml")) for each in _read(path)]


def _read(path: Path) -> Iterator[Scenario]:
    """The scenarios of one file, which begins with its ``commands``."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = {name: text.strip() for name, text in content.get("commands", {}).items()}
    for name, said in content["scenarios"].items():
        try:
            yield Scenario(
                name,
                path.stem.split("-", 1)[-1],
                said["about"],
                said.get("machines", 4),
                said.get("certificates", {}),
                tuple(step for each in said["steps"] for step in _steps(each, commands)),
                said.get("mixed", False),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path.name}: {name}: {error}") from error


def _steps(said: Mapping[str, Any], commands: Mapping[str, str]) -> Iterator[Step]:
    """One step, or one for each number n in ``each``, which it writes as ``{n}``; without
    ``each`` that is the number of its machine."""
    unknown = set(said) - {*ACTIONS, *EXPECTATIONS, *ABOUT}
    actions = [each for each in ACTIONS if each in said]
    if unknown or len(actions) != 1:
        raise ValueError(f"a step has one action and no unknown words: {dict(said)}")

    def whole(text: object) -> str:
        found = str(text)
        for name, command in commands.items():
            found = found.replace("{" + name + "}", command)
        return found

    text = whole(said[actions[0]])
    for old, new in said.get("change", {}).items():
        if old not in text:
            raise ValueError(f"nothing to change: {old!r} is not in {text!r}")
        text = text.replace(old, str(new))
    at = str(said.get("at", ""))
    for n in str(said.get("each", at[-1:])).split() or [""]:

        def put(text: object, n: str = n) -> str:
            return whole(text).replace("{n}", n)

        yield Step(
            at=put(at),
            action=actions[0],
            text=put(text),
            rows=tuple(str(said.get("rows", "")).split()),
            says=tuple(map(put, _listed(said.get("says")))),
            says_not=tuple(map(put, _listed(said.get("says_not")))),
            matches=tuple(map(put, _listed(said.get("matches")))),
            last=put(said.get("last", "")),
            exit=None if said.get("exit") == "any" else int(said.get("exit", 0)),
            # What proves no row is there for what comes after it.
            needed=said.get("needed", "rows" not in said),
            within=float(said.get("within", WITHIN_SECONDS)),
            seconds=float(said.get("seconds", RUN_SECONDS)),
            only=said.get("only", ""),
        )


def _listed(said: object) -> list[object]:
    if said is None:
        return []
    return said if isinstance(said, list) else [said]
