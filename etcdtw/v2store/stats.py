"""Counters of what was asked of the tree; part of its saved form."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Stats:
    """Fields in the order of etcd's JSON. Reads count too, so members differ in them."""

    gets_success: int = 0
    gets_fail: int = 0
    sets_success: int = 0
    sets_fail: int = 0
    delete_success: int = 0
    delete_fail: int = 0
    update_success: int = 0
    update_fail: int = 0
    create_success: int = 0
    create_fail: int = 0
    compare_and_swap_success: int = 0
    compare_and_swap_fail: int = 0
    compare_and_delete_success: int = 0
    compare_and_delete_fail: int = 0
    expire_count: int = 0
    watchers: int = 0

    def json(self) -> str:
        """One JSON object."""
        parts = [f'"{key}":{getattr(self, name)}' for name, key in JSON_KEYS.items()]
        return "{" + ",".join(parts) + "}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


JSON_KEYS = {each.name: _camel(each.name) for each in fields(Stats)}
