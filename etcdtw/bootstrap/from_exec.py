"""``--bootstrap-provider exec:COMMAND``: a program prints the list of members.

It is found in ``PATH`` and run without a shell, in the member's environment with the variables of
etcd's flags that say who asks.
"""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from etcdtw.bootstrap.interfaces import BootstrapSettings, ReactorView
from etcdtw.bootstrap.lists import LIST_BYTES_MAX, ListProvider, bad_list, no_list
from etcdtw.bootstrap.waiting import a_turn

COMPLAINT_BYTES_MAX = 1000
"""Of what it writes to stderr the end is shown."""


class ExecSource:
    """Runs a program to its end; it may wait for others as long as there is time."""

    pause_seconds_max = 8.0

    def __init__(self, settings: BootstrapSettings, reactor: ReactorView) -> None:
        self._settings = settings
        self._reactor = reactor
        self.name = settings.provider_argument
        try:
            self._words = shlex.split(self.name)
        except ValueError as error:
            raise bad_list(f"exec:{self.name}: {error}") from None
        if not self._words:
            raise bad_list("exec has no command: exec:COMMAND")

    async def read(self, seconds: float) -> bytes:
        await a_turn(self._reactor)  # children are only noticed once the reactor runs
        path = shutil.which(self._words[0])
        if path is None:
            raise no_list(f'exec: "{self._words[0]}": executable file not found')
        run = _Run(self.name)
        reactor = cast(Any, self._reactor)
        IReactorProcess(reactor).spawnProcess(run, path, self._words, self._environment(), None)
        run.finished.addTimeout(max(seconds, 0.1), cast(IReactorTime, reactor))
        try:
            return await run.finished
        except TimeoutError:
            raise no_list(f"{self.name} did not end within {seconds:.0f} s{run.said()}") from None

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        return {
            **os.environ,
            "ETCD_NAME": settings.name,
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": ",".join(settings.peer_urls),
            "ETCD_INITIAL_CLUSTER_STATE": settings.initial_cluster_state,
            "ETCD_INITIAL_CLUSTER_TOKEN": settings.initial_cluster_token,
        }

    def close(self) -> None:
        """What ran has ended."""


class _Run(ProcessProtocol):
    """One run. ``finished`` fires with what it printed; cancelled, it kills the process."""

    transport: IProcessTransport

    def __init__(self, name: str) -> None:
        self._name = name
        self._printed = bytearray()
        self._complaint = b""
        self.finished: Deferred[bytes] = Deferred(lambda _: self._kill())

    def said(self) -> str:
        """The end of what it wrote to stderr, to complete a sentence."""
        text = " ".join(self._complaint.decode(errors="replace").split())
        return f": {text}" if text else ""

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._printed += data
        if len(self._printed) > LIST_BYTES_MAX and not self.finished.called:
            self._kill()
            self.finished.errback(
                bad_list(f"{self._name} printed more than {LIST_BYTES_MAX} bytes")
            )

    def errReceived(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-COMPLAINT_BYTES_MAX:]

    def processEnded(self, reason: Failure) -> None:
        if self.finished.called:
            return
        ended: Any = reason.value
        if ended.exitCode == 0:
            self.finished.callback(bytes(self._printed))
            return
        how = f"was ended by signal {ended.signal}" if ended.signal else f"exited {ended.exitCode}"
        self.finished.errback(
            no_list(f"{self._name} {how}{self.said()}"),
        )

    def _kill(self) -> None:
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
        # Its own children may hold the pipes.
        self.transport.loseConnection()


def exec_provider(reactor: ReactorView) -> ListProvider:
    return ListProvider(reactor, ExecSource)
