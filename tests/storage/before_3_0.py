"""Data directories as etcd 2.3 wrote them, made from the facts of its sources, not by a binary;
etcd 3.4 and its etcdctl read them (``tests/process/test_v2_import.py``).

What differs from later releases: records in the log are not padded, there is no database, entries
hold a bare v2 request, ``ConfState`` has no ``auto_leave``, files end where their content does.
Nothing here uses the code that is tested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from struct import pack
from typing import Any

from google_crc32c import extend

from etcdtw.pb.etcdserver_pb2 import Request

TERM = 2
CLUSTER_ID = 0x1C4
NEVER = "0001-01-01T00:00:00Z"
HISTORY = 1000
REQUIRED = (
    "ID", "Method", "Path", "Val", "Dir", "PrevValue", "PrevIndex", "Expiration", "Wait", "Since",
    "Recursive", "Sorted", "Quorum", "Time", "Stream",
)  # fmt: skip

Tree = dict[str, Any]


def varint(number: int) -> bytes:
    pieces = []
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*pieces, number))


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def request(method: str, path: str, **fields: Any) -> bytes:
    """An entry's data; release 2.3 writes every field but two, whether it says something or not."""
    made = Request(Method=method, Path=path, **fields)
    for name in REQUIRED:
        setattr(made, name, getattr(made, name))
    return made.SerializeToString()


class OldLog:
    """A log of one segment, record by record."""

    def __init__(self, member: int, first_index: int = 0) -> None:
        self.name = f"{0:016x}-{first_index:016x}.wal"
        self._crc = 0
        self._content = b""
        self.record(4)
        self.record(1, number(1, member) + number(2, CLUSTER_ID))
        self.snapshot(0, 0)

    def record(self, kind: int, data: bytes | None = None) -> None:
        if data is not None:
            self._crc = extend(self._crc, data)
        body = number(1, kind) + number(2, self._crc) + (b"" if data is None else text(3, data))
        self._content += pack("<q", len(body)) + body

    def snapshot(self, index: int, term: int) -> None:
        self.record(5, number(1, index) + number(2, term))

    def entry(self, index: int, data: bytes, kind: int = 0) -> None:
        self.record(2, number(1, kind) + number(2, TERM) + number(3, index) + text(4, data))

    def add_member(self, index: int, member: int, url: str) -> None:
        context = json.dumps({"id": member, "peerURLs": [url]}).encode()
        self.entry(index, number(1, 0) + number(2, 0) + number(3, member) + text(4, context), 1)

    def state(self, commit: int) -> None:
        self.record(3, number(1, TERM) + number(2, 0) + number(3, commit))

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True)
        path = directory / self.name
        path.write_bytes(self._content)
        return path


def directory_node(path: str, index: int = 0, **children: Tree) -> Tree:
    return _node(path, index, "", NEVER, children)


def file_node(path: str, index: int, value: str, expires: str = NEVER) -> Tree:
    return _node(path, index, value, expires, None)


def _node(path: str, index: int, value: str, expires: str, children: Tree | None) -> Tree:
    return {
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": expires,
        "Value": value,
        "Children": children,
    }


def store(root: Tree, index: int) -> bytes:
    """The saved tree, without events."""
    return json.dumps(
        {
            "Root": root,
            "WatcherHub": {
                "EventHistory": {
                    "Queue": {
                        "Events": [None] * HISTORY,
                        "Size": 0,
                        "Front": 0,
                        "Back": 0,
                        "Capacity": HISTORY,
                    },
                    "StartIndex": 0,
                    "LastIndex": 0,
                }
            },
            "CurrentIndex": index,
            "Stats": {"getsSuccess": 3, "setsSuccess": index},
            "CurrentVersion": 2,
        }
    ).encode()


def write_snapshot(directory: Path, index: int, members: Sequence[int], data: bytes) -> Path:
    configuration = b"".join(number(1, each) for each in members)
    metadata = text(1, configuration) + number(2, index) + number(3, TERM)
    snapshot = text(1, data) + text(2, metadata)
    path = directory / f"{TERM:016x}-{index:016x}.snap"
    path.write_bytes(number(1, extend(0, snapshot)) + text(2, snapshot))
    return path


def member_node(member: int, name: str, url: str) -> Tree:
    path = f"/0/members/{member:x}"
    return directory_node(
        path,
        1,
        attributes=file_node(f"{path}/attributes", 2, json.dumps({"name": name})),
        raftAttributes=file_node(f"{path}/raftAttributes", 1, json.dumps({"peerURLs": [url]})),
    )


SNAPSHOT_INDEX = 40
LAST_INDEX = 43
EXPIRES = "2100-01-01T00:00:00.5Z"


def write_member(base: Path, own: int, *others: int, with_snapshot: bool = True) -> None:
    """The data directory of a member of a stopped cluster of 2.3: keys in a snapshot, and more in
    the log behind it; or all of it in the log.

    Afterwards there are ``/dir/old`` (created and modified at 3), ``/dir/_hidden`` (4),
    ``/short`` (5, with a TTL), ``/dir/new`` (6), and ``/dir/gone`` was deleted (7).
    """
    members = sorted((own, *others))
    (base / "member/snap").mkdir(parents=True)
    log = OldLog(own)
    old = [
        request("PUT", "/1/dir/old", Val="before"),
        request("PUT", "/1/dir/_hidden", Val="h"),
        request("PUT", "/1/short", Val="s", Expiration=4102444800_500000000),
    ]
    for index, member in enumerate(members, 1):
        log.add_member(index, member, f"http://127.0.0.1:{index}")
    first = len(members) + 1
    log.entry(first, request("PUT", "/0/version", Val="2.3.0"))
    for index, data in enumerate(old, first + 1):
        log.entry(index, data)
    for index in range(first + 1 + len(old), SNAPSHOT_INDEX + 1):
        log.entry(index, request("SYNC", "", Time=1))
    log.state(SNAPSHOT_INDEX)
    if with_snapshot:
        nodes = {
            f"{each:x}": member_node(each, f"m{place}", f"http://127.0.0.1:{place}")
            for place, each in enumerate(members, 1)
        }
        version = file_node("/0/version", 2, "2.3.0")
        keys = {
            "dir": directory_node(
                "/1/dir",
                3,
                old=file_node("/1/dir/old", 3, "before"),
                _hidden=file_node("/1/dir/_hidden", 4, "h"),
            ),
            "short": file_node("/1/short", 5, "s", EXPIRES),
        }
        tree = directory_node("/", 0)
        tree["Children"] = {
            "0": directory_node(
                "/0", 0, members=directory_node("/0/members", 1, **nodes), version=version
            ),
            "1": directory_node("/1", 0, **keys),
        }
        write_snapshot(base / "member/snap", SNAPSHOT_INDEX, members, store(tree, 5))
        log.snapshot(SNAPSHOT_INDEX, TERM)
    log.entry(SNAPSHOT_INDEX + 1, request("PUT", "/1/dir/new", Val="ü"))
    log.entry(SNAPSHOT_INDEX + 2, request("PUT", "/1/dir/gone", Val="x"))
    log.entry(LAST_INDEX, request("DELETE", "/1/dir/gone"))
    log.state(LAST_INDEX)
    log.write(base / "member/wal")
