"""Log files that are put aside when they have grown (``--enable-log-rotation``)."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from threading import Thread
from typing import Any

_STAMP = re.compile(r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}")
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Rotation:
    """``maxsize`` in megabytes (0: 100), ``maxage`` in days and ``maxbackups`` in files (0: keep
    all); ``localtime`` for the times in names, ``compress`` with gzip. The names are etcd's."""

    maxsize: int = 100
    maxage: int = 0
    maxbackups: int = 0
    localtime: bool = False
    compress: bool = False


def rotation_from_json(value: Any) -> Rotation:
    """From the parsed ``--log-rotation-config-json``. ValueError in the words of Go's JSON."""
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {_go_kind(value)} into Go value of type "
                         "logutil.logRotationConfig")  # fmt: skip
    wanted: dict[str, type] = {
        each.name: bool if each.type == "bool" else int for each in fields(Rotation)
    }
    for name, kind in wanted.items():
        if name in value and type(value[name]) is not kind:
            raise ValueError(
                f"json: cannot unmarshal {_go_kind(value[name])} into Go struct field "
                f"logRotationConfig.{name} of type {kind.__name__}"
            )
    return Rotation(**{name: value[name] for name in wanted if name in value})


def _go_kind(value: object) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object" if isinstance(value, dict) else "null")


class RotatingFile:
    """Appends to a file; before it would grow beyond its size it is renamed, with the time in its
    name, and a new one begun."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        self._path = path
        self._rotation = rotation
        self._bytes_max = (rotation.maxsize or 100) << 20
        self._open()

    def write(self, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        if self._file.closed:  # it could not be opened when it was to begin anew
            self._open()
        if self._size and self._size + size > self._bytes_max:
            self.rotate()
        self._file.write(text)
        self._size += size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def rotate(self) -> None:
        """Put the file aside now."""
        self._file.close()
        now = time.time()
        while os.path.exists(aside := self._aside(now)):
            now += 0.001
        try:
            os.rename(self._path, aside)
        except OSError:
            # Somebody else has put it aside, or nobody can: then it grows on, rather than end.
            self._open()
            return
        self._open()
        if self._rotation.compress:
            Thread(target=self._compress, args=(aside,), daemon=True).start()
        else:
            self._remove_old()

    def _compress(self, path: str) -> None:
        """On a thread: it takes seconds, nearly all of them in zlib."""
        packed_path = path + ".gz"
        try:
            with open(path, "rb") as plain, gzip.open(packed_path, "wb") as packed:
                shutil.copyfileobj(plain, packed)
        except OSError:
            # Without space for both, the one that is whole stays.
            with suppress(OSError):
                os.remove(packed_path)
        else:
            os.remove(path)
        self._remove_old()

    def _open(self) -> None:
        self._file = open(  # noqa: SIM115  # it stays open
            self._path, "a", encoding="utf-8", errors="replace", buffering=1
        )
        self._size = os.fstat(self._file.fileno()).st_size

    def _aside(self, now: float) -> str:
        moment = time.localtime(now) if self._rotation.localtime else time.gmtime(now)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", moment) + f".{int(now * 1000) % 1000:03d}"
        root, extension = os.path.splitext(self._path)
        return f"{root}-{stamp}{extension}"

    def _remove_old(self) -> None:
        directory, name = os.path.split(os.path.abspath(self._path))
        root, extension = os.path.splitext(name)
        mine = re.compile(re.escape(root) + _STAMP.pattern + re.escape(extension) + r"(\.gz)?")
        aside = sorted(each for each in os.listdir(directory) if mine.fullmatch(each))
        doomed = aside[: -self._rotation.maxbackups] if self._rotation.maxbackups else []
        if self._rotation.maxage:
            oldest = time.time() - self._rotation.maxage * _DAY_SECONDS
            for each in aside:
                with suppress(OSError):  # somebody else tidies up as well
                    if os.path.getmtime(os.path.join(directory, each)) < oldest:
                        doomed.append(each)
        for each in set(doomed):
            with suppress(OSError):
                os.remove(os.path.join(directory, each))
