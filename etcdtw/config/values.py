"""Flag values as they were found, each with where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from etcdtw.config.flags import FLAGS
from etcdtw.config.kinds import FlagValue

COMMAND_LINE = "command line"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Value:
    """``source`` is ``command line``, ``environment ETCD_X``, ``file PATH`` or ``default``."""

    value: FlagValue
    source: str = DEFAULT

    @property
    def is_set(self) -> bool:
        return self.source != DEFAULT


Values = dict[str, Value]
"""By flag name."""


def default_values() -> Values:
    """Every flag at its default."""
    return {name: Value(flag.kind.parse(flag.default)) for name, flag in FLAGS.items()}
