"""Data directories recorded from real etcd, with their decoded content."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from etcdtw.testing.disk import SimDisk

VECTORS = Path(__file__).parent / "vectors"
NAMES = sorted(
    f"{path.parent.name}/{path.name.removesuffix('.tar.xz')}"
    for path in VECTORS.glob("wal-*/*.tar.xz")
)


class Recorded(NamedTuple):
    """``files`` maps paths below ``member`` to (content without the zeros at its end, size);
    ``decoded`` maps the same paths to what an independent reader made of them."""

    files: dict[str, tuple[bytes, int]]
    decoded: dict[str, dict[str, Any]]

    @property
    def wal_names(self) -> list[str]:
        return sorted(name for name in self.files if name.endswith(".wal"))

    def put_on(self, disk: SimDisk, directory: str) -> None:
        """Lay the data directory down, durably."""
        for below in ("wal", "snap"):
            disk.makedirs(f"{directory}/member/{below}")
        for name, (content, size) in self.files.items():
            file = disk.open(f"{directory}/member/{name}", create=True)
            file.pwrite(content, 0)
            file.truncate(size)
            file.sync_data()
            file.close()
        sync_all_directories(disk, "/")


def sync_all_directories(disk: SimDisk, path: str) -> None:
    disk.sync_dir(path)
    for name in disk.listdir(path):
        below = f"{path.rstrip('/')}/{name}"
        if disk.isdir(below):
            sync_all_directories(disk, below)


@cache
def recorded(name: str) -> Recorded:
    files = {}
    with tarfile.open(VECTORS / f"{name}.tar.xz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and not member.name.endswith(".tmp"):
                below = member.name.partition("/member/")[2]
                # A segment is 64 MB long and its records end within the first 64 KiB.
                files[below] = (content.read(1 << 17).rstrip(b"\0"), member.size)
    decoded = json.loads((VECTORS / f"{name}.decoded.json").read_text())["wal"]
    return Recorded(files, {path.partition("/member/")[2]: each for path, each in decoded.items()})
