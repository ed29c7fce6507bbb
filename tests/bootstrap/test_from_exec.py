"""Lists of members that programs print, with processes in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.bootstrap.factories import BUILT_IN, BootstrapFactory, choose_factory
from etcdtw.bootstrap.from_exec import exec_provider
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, ReactorView
from etcdtw.bootstrap.lists import LIST_BYTES_MAX, ListProvider
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from tests.bootstrap.test_static import IC3, NamedHosts

PROGRAM = sys.executable


class FakeProcess:
    """Ends when the test says so, or when it is killed."""

    def __init__(self, protocol: Any, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.protocol = protocol
        self.words = words
        self.env = env
        self.has_stdin = True
        self.has_ended = False
        self.let_go = False
        self.signals: list[str] = []

    def closeStdin(self) -> None:
        self.has_stdin = False

    def signalProcess(self, signal: str) -> None:
        if self.has_ended:
            raise ProcessExitedAlready
        self.signals.append(signal)

    def loseConnection(self) -> None:
        self.let_go = True

    def ends(self, printed: bytes = b"", status: int = 0, complaint: bytes = b"") -> None:
        self.protocol.outReceived(printed)
        self.protocol.errReceived(complaint)
        self.has_ended = True
        ended = ProcessTerminated(exitCode=status) if status else ProcessDone(0)
        self.protocol.processEnded(Failure(ended))


@implementer(IReactorProcess)
class Machine:
    """A reactor that starts processes in memory. With ``answers`` they end by themselves."""

    def __init__(self, reactor: Any, answers: bytes | None = None) -> None:
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater
        self.resolve = reactor.resolve
        self.answers = answers
        self.started: list[FakeProcess] = []

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: Any,
        args: Any = (),
        env: Any = None,
        path: Any = None,
        uid: Any = None,
        gid: Any = None,
        usePTY: Any = False,
        childFDs: Any = None,
    ) -> Any:
        assert executable == PROGRAM
        process = FakeProcess(processProtocol, args, env)
        self.started.append(process)
        processProtocol.makeConnection(process)
        if self.answers is not None:
            process.ends(self.answers)
        return process


class ExecTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosts = NamedHosts()
        self.machine = Machine(self.hosts)

    def begin(self, command: str = f"{PROGRAM} --all 'two words'") -> Deferred[ClusterPlan]:
        settings = BootstrapSettings(
            name="infra0",
            peer_urls=("http://10.0.1.10:2380",),
            initial_cluster_token="t",
            provider="exec",
            provider_argument=command,
        )
        factory = choose_factory(settings, BUILT_IN)
        begun = factory.provider(self.machine).plan(settings)
        self.hosts.clock.advance(0)
        return begun

    def refusal(self, begun: Deferred[ClusterPlan]) -> BootstrapError:
        self.hosts.clock.pump([1.0] * 40)
        error = self.failureResultOf(begun, BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def test_found(self) -> None:
        """It is run without a shell and without input, is told who asks, and prints the list."""
        begun = self.begin()
        (process,) = self.machine.started
        self.assertEqual(process.words, [PROGRAM, "--all", "two words"])
        self.assertFalse(process.has_stdin)
        told = {name: process.env[name] for name in process.env if name.startswith("ETCD_")}
        self.assertEqual(
            told,
            {
                "ETCD_NAME": "infra0",
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://10.0.1.10:2380",
                "ETCD_INITIAL_CLUSTER_STATE": "new",
                "ETCD_INITIAL_CLUSTER_TOKEN": "t",
            },
        )
        self.assertIn("PATH", process.env)
        process.ends(IC3.encode())
        self.hosts.clock.advance(0)
        self.assertEqual(len(self.successResultOf(begun).members), 3)
        self.assertEqual(self.hosts.clock.getDelayedCalls(), [])

    def test_fails(self) -> None:
        """A program that fails is run again; its status and its complaint are told."""
        begun = self.begin()
        self.machine.started[0].ends(b"infra0=", 3, b"no route\n  to host\n")
        self.hosts.clock.advance(1)
        self.hosts.clock.advance(0)
        self.assertEqual(len(self.machine.started), 2)
        self.machine.started[1].ends(IC3.encode())
        self.hosts.clock.advance(0)
        self.successResultOf(begun)
        begun = self.begin("false-program-that-nobody-has")
        error = self.refusal(begun)
        self.assertIsInstance(error, BootstrapUnavailable)
        self.assertIn('"false-program-that-nobody-has": executable file not found', error.reason)

    def test_complaint(self) -> None:
        """In the end the last complaint is told, or the signal."""
        for ended, text in (
            ({"exitCode": 3}, "exited 3: no route to host"),
            ({"signal": 9}, "was ended by signal 9: no route to host"),
        ):
            self.machine.started.clear()
            begun = self.begin()
            for _ in range(40):
                for each in self.machine.started:
                    if not each.has_ended:
                        each.protocol.errReceived(b"no route\n  to host\n")
                        each.has_ended = True
                        each.protocol.processEnded(Failure(ProcessTerminated(**ended)))
                self.hosts.clock.advance(1)
                self.hosts.clock.advance(0)
            error = self.refusal(begun)
            self.assertIsInstance(error, BootstrapUnavailable)
            self.assertIn(text, error.reason)

    def test_hangs(self) -> None:
        """One that does not end is killed when the time is up."""
        begun = self.begin()
        self.hosts.clock.advance(29)
        self.assertEqual(self.machine.started[0].signals, [])
        error = self.refusal(begun)
        self.assertEqual(self.machine.started[0].signals, ["KILL"])
        self.assertTrue(self.machine.started[0].let_go)
        self.assertIn("did not end within 30 s", error.reason)
        self.machine.started[0].ends()

    def test_floods(self) -> None:
        """One that prints without end is killed, and told."""
        begun = self.begin()
        for _ in range(10):
            for each in self.machine.started:
                each.protocol.outReceived(b"#" * (LIST_BYTES_MAX + 1))
                each.protocol.outReceived(b"#" * (LIST_BYTES_MAX + 1))
            self.hosts.clock.advance(8)
            self.hosts.clock.advance(0)
        error = self.refusal(begun)
        self.assertIn("printed more than 1048576 bytes", error.reason)
        self.assertTrue(all(each.signals == ["KILL"] for each in self.machine.started))

    def test_stopped(self) -> None:
        """A member that is stopped kills it."""
        begun = self.begin()
        begun.cancel()
        self.failureResultOf(begun)
        self.assertEqual(self.machine.started[0].signals, ["KILL"])
        self.assertEqual(self.hosts.clock.getDelayedCalls(), [])

    def test_no_command(self) -> None:
        """No command, and one that cannot be read, are refused at once."""
        for command, text in (("", "exec has no command"), ("x 'y", "No closing quotation")):
            error = self.failureResultOf(self.begin(command), BootstrapError).value
            self.assertIn(text, str(error))


def listing_provider(reactor: ReactorView) -> ListProvider:
    """Of a program that prints a list, for the suite."""
    return exec_provider(Machine(reactor, IC3.encode()))


class ExecConformanceTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> Any:
        return BootstrapFactory(
            "exec",
            "a program prints the members",
            ("bootstrap-provider",),
            "etcdtw.bootstrap.factories.claims_nothing",
            "tests.bootstrap.test_from_exec.listing_provider",
        )

    def make_settings(self) -> BootstrapSettings:
        return BootstrapSettings(
            name="infra0",
            peer_urls=("http://10.0.1.10:2380",),
            provider="exec",
            provider_argument=PROGRAM,
        )
