"""``--bootstrap-provider file:PATH``: the members are listed in a file, which may come later."""

from __future__ import annotations

import os
import stat

from etcdtw.bootstrap.interfaces import BootstrapSettings, ReactorView
from etcdtw.bootstrap.lists import LIST_BYTES_MAX, ListProvider, bad_list, no_list
from etcdtw.bootstrap.waiting import PAUSE_SECONDS


class FileSource:
    """Reads a file whole."""

    pause_seconds_max = PAUSE_SECONDS

    def __init__(self, settings: BootstrapSettings, reactor: ReactorView) -> None:
        self.name = settings.provider_argument
        if not self.name:
            raise bad_list("file has no path: file:PATH")

    async def read(self, seconds: float) -> bytes:
        try:
            # A pipe could keep the whole process waiting.
            if not stat.S_ISREG(os.stat(self.name).st_mode):
                raise bad_list(f"{self.name} is no regular file")
            with open(self.name, "rb") as file:
                content = file.read(LIST_BYTES_MAX + 1)
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise no_list(f"open {self.name}: {why}") from None
        if len(content) > LIST_BYTES_MAX:
            raise bad_list(f"{self.name} is larger than {LIST_BYTES_MAX} bytes")
        return content

    def close(self) -> None:
        """It is closed already."""


def file_provider(reactor: ReactorView) -> ListProvider:
    return ListProvider(reactor, FileSource)
