"""What can be said about a configuration: problems that end the start, notices that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from etcdtw.errors import ConfigError


class Stage(Enum):
    """Where etcd stops for a problem; it decides how the refusal is logged."""

    ARGUMENTS = "arguments"
    VERIFY = "verify"
    START = "start"


class ConfigProblems(Exception):
    """Everything found wrong at one stage, in the order in which etcd would find it.

    ``str()`` and ``exit_code`` are those of the first problem, the one that etcd names.
    """

    def __init__(self, stage: Stage, problems: Sequence[ConfigError]) -> None:
        assert problems, "a refusal needs a reason"
        super().__init__(str(problems[0]))
        self.stage = stage
        self.problems = tuple(problems)
        self.exit_code = problems[0].exit_code


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the operator should know; ``fields`` go into the log line."""

    message: str
    fields: dict[str, str] = field(default_factory=dict)
