"""A text beside a member's data, for a start that needs more than one try: what a bootstrap
provider has done elsewhere before there was a log to write it into."""

from __future__ import annotations

import posixpath

from etcdtw.storage.datadir import NOTE
from etcdtw.storage.filesystem import write_synced
from etcdtw.storage.interfaces import IFilesystem

NOTE_BYTES_MAX = 1 << 16


class NoteFile:
    """The note in a data directory; the directory is made with the first one."""

    def __init__(self, fs: IFilesystem, data_dir: str) -> None:
        self._fs = fs
        self._data_dir = data_dir
        self._path = posixpath.join(data_dir, NOTE)

    def read(self) -> str:
        """The text; empty if there is none, or not a whole one."""
        if not self._fs.exists(self._path):
            return ""
        file = self._fs.open_readonly(self._path)
        try:
            return file.pread(min(file.size(), NOTE_BYTES_MAX), 0).decode(errors="replace")
        finally:
            file.close()

    def write(self, text: str) -> None:
        """Keep it: it is there after a power cut. Empty: forget it. OSError."""
        if not text:
            if self._fs.exists(self._path):
                self._fs.remove(self._path)
            return
        self._fs.makedirs(self._data_dir)
        self._fs.sync_dir(posixpath.dirname(self._data_dir))
        # Half a note is as good as none: what it tells of is done after it is there.
        write_synced(self._fs, self._path, text.encode())
        self._fs.sync_dir(self._data_dir)
