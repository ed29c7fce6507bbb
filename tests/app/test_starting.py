"""Starting, stopping and dying of a member, with a stand-in for the member itself."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted.plugins
from etcdtw.app.earlier import has_log
from etcdtw.app.fatal import STOP_SECONDS, Fatal
from etcdtw.app.greeting import greeting
from etcdtw.app.notify import notify_ready
from etcdtw.app.settings import MemberSettings
from etcdtw.app.starting import StartingMember, note_of
from etcdtw.bootstrap.factories import BUILT_IN, bootstrap_factories, others_drop_in
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.config.load import member_settings


class FakeReactor(Clock):
    """A clock that notes its stop and resolves names when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0
        self.lookups: list[Deferred[str]] = []

    def callWhenRunning(self, callable: Any, *args: object, **kw: object) -> None:
        callable(*args, **kw)

    def stop(self) -> None:
        self.stops += 1

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        self.lookups.append(Deferred())
        return self.lookups[-1]


class FakeMember:
    def __init__(self, plan: ClusterPlan | None, error: Exception | None) -> None:
        self.plan = plan
        self.on_ready: list[Callable[[], object]] = []
        self.on_fatal: list[Callable[[BaseException], object]] = []
        self.on_removed: list[Callable[[], object]] = []
        self.error = error
        self.calls: list[str] = []

    def startService(self) -> None:
        self.calls.append("start")
        if self.error is not None:
            raise self.error

    def stopService(self) -> None:
        self.calls.append("stop")


class StartingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.codes: list[int] = []
        self.fatal = Fatal(self.reactor, self.codes.append, self.codes.append)
        self.members: list[FakeMember] = []
        self.error: Exception | None = None
        self.ready: list[str] = []
        self.directory = os.path.abspath(self.mktemp())

    def starting(self, **changes: Any) -> StartingMember:
        def assemble(
            settings: MemberSettings, reactor: object, plan: ClusterPlan | None
        ) -> FakeMember:
            self.members.append(FakeMember(plan, self.error))
            return self.members[-1]

        settings = member_settings(self.directory, **changes)
        return StartingMember(
            settings,
            self.reactor,
            BUILT_IN,
            self.fatal,
            assemble,
            [lambda: self.ready.append("ready")],
        )

    def named(self, **changes: Any) -> StartingMember:
        return self.starting(
            name="m",
            initial_cluster="m=http://m.test:1",
            initial_advertise_peer_urls=("http://10.0.0.1:1",),
            **changes,
        )

    def test_at_once(self) -> None:
        """A lone member with numeric addresses is running when ``startService`` returns."""
        service = self.starting()
        service.startService()
        self.assertEqual(self.members[0].calls, ["start"])
        self.members[0].on_ready[0]()
        self.assertEqual(self.ready, ["ready"])
        service.stopService()
        self.assertEqual(self.members[0].calls, ["start", "stop"])

    def test_refused_at_once(self) -> None:
        """What keeps the member from starting comes out of ``startService``."""
        service = self.starting(name="x", initial_cluster="m=http://localhost:2380")
        self.assertRaises(BootstrapError, service.startService)
        self.error = OSError(98, "Address already in use")
        self.assertRaises(OSError, self.starting().startService)
        self.assertEqual(self.codes, [])

    def test_waits_for_dns(self) -> None:
        """Where a name must be resolved the member starts later, with its plan."""
        service = self.named()
        service.startService()
        self.assertEqual(self.members, [])
        self.reactor.lookups[0].callback("10.0.0.1")
        self.assertEqual(self.members[0].calls, ["start"])
        plan = self.members[0].plan
        assert plan is not None
        self.assertEqual(plan.members[0].peer_urls, ("http://m.test:1",))

    def test_refused_later(self) -> None:
        """A start that fails after waiting ends the process with code 1."""
        self.named().startService()
        self.reactor.lookups[0].callback("10.0.0.2")
        self.assertEqual((self.codes, self.reactor.stops), ([1], 1))
        self.assertIn("different advertised URLs", self.fatal.reason or "")
        self.flushLoggedErrors()

    def test_bug_later(self) -> None:
        """So does a bug, of a provider that somebody has installed for one."""
        self.error = KeyError("forgotten")
        self.named().startService()
        self.reactor.lookups[0].callback("10.0.0.1")
        self.assertEqual((self.codes, self.reactor.stops), ([1], 1))
        self.assertEqual(self.fatal.reason, "KeyError: 'forgotten'")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_stopped_while_waiting(self) -> None:
        """Stopping before the member exists cancels the plan and starts nothing."""
        service = self.named()
        service.startService()
        self.assertIs(service.stopService(), None)
        self.assertEqual((self.members, self.codes), ([], []))

    def test_restart_ignores_bootstrap_flags(self) -> None:
        """With a log in the data directory the initial cluster is not looked at."""
        settings = member_settings(self.directory)
        self.assertFalse(has_log(settings))
        os.makedirs(settings.wal_path)
        with open(os.path.join(settings.wal_path, "0-0.wal"), "wb"):
            pass
        self.assertTrue(has_log(settings))
        self.starting(initial_cluster="other=http://a:1").startService()
        self.assertEqual(self.members[0].calls, ["start"])
        self.assertIs(self.members[0].plan, None)

    def test_note(self) -> None:
        """P30: a provider's note lies in the data directory until the member has its log."""
        service = self.named()
        service.startService()
        note = note_of(service._settings)
        note.write("registered")
        self.error = OSError(28, "No space left on device", "/wal")
        self.reactor.lookups[0].callback("10.0.0.1")
        self.assertEqual(note_of(service._settings).read(), "registered")
        self.error = None
        self.starting(name="m").startService()
        self.assertEqual(note.read(), "")
        self.assertEqual(os.listdir(os.path.join(self.directory, "m.etcd")), [])
        self.flushLoggedErrors()

    def test_fatal_member(self) -> None:
        """An error of a running member ends the process with code 1, once."""
        self.starting().startService()
        for _ in range(2):
            self.members[0].on_fatal[0](OSError(28, "No space left on device", "/wal"))
        self.assertEqual(self.fatal.reason, "open /wal: no space left on device")
        self.assertEqual((self.codes, self.reactor.stops), ([1], 1))

    def test_stuck_services(self) -> None:
        """Services that do not stop are left behind after a while."""
        self.fatal("disk", path="/x")
        self.reactor.advance(STOP_SECONDS)
        self.assertEqual(self.codes, [1, 1])

    def test_factories(self) -> None:
        """The built-in providers are known however the package is installed."""
        self.assertEqual(bootstrap_factories()[: len(BUILT_IN)], list(BUILT_IN))

    def test_drop_ins(self) -> None:
        """Plugins are listed if any file is there that is neither Twisted's nor ours, or if it
        cannot be seen what is there; directories that are not there hold none."""
        own = list(twisted.plugins.__path__)
        self.assertFalse(others_drop_in([*own, self.mktemp()]))
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertFalse(others_drop_in([*own, str(directory)]))
        (directory / "twisted_etcd_finder.py").touch()
        self.assertTrue(others_drop_in([*own, str(directory)]))
        archive = Path(self.mktemp())
        archive.touch()
        self.assertTrue(others_drop_in([*own, str(archive)]))
        self.assertTrue(others_drop_in([*own, str(archive / "twisted" / "plugins")]))

    def test_found_drop_in(self) -> None:
        """A provider of another package is found by its drop-in file."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "somebody_elses.py").write_text(
            "from etcdtw.bootstrap.factories import BootstrapFactory\n"
            "other = BootstrapFactory('other', '', (), 'a.b', 'a.c')\n",
            encoding="utf-8",
        )
        self.patch(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(directory)])
        self.addCleanup(sys.modules.pop, "twisted.plugins.somebody_elses", None)
        self.assertEqual([each.name for each in bootstrap_factories()][-1], "other")


class GreetingTests(SynchronousTestCase):
    def test_greeting(self) -> None:
        """The greeting says where the member is and what to try."""
        text = greeting(member_settings("/here"))
        for part in ("http://localhost:2379", "/here/default.etcd", "put foo bar", "/health"):
            self.assertIn(part, text)


class NotifyTests(SynchronousTestCase):
    def test_ready(self) -> None:
        """``READY=1`` goes to the supervisor's socket, by path or by abstract name."""
        path = os.path.join(os.path.relpath(self.mktemp()) + "s")
        for address, name in ((path, path), (f"\0etcdtw-{os.getpid()}", f"@etcdtw-{os.getpid()}")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
                supervisor.bind(address)
                self.assertTrue(notify_ready({"NOTIFY_SOCKET": name}))
                self.assertEqual(supervisor.recv(100), b"READY=1")

    def test_nobody(self) -> None:
        """Without a supervisor, or with one that is gone, nothing happens."""
        self.assertFalse(notify_ready({}))
        self.assertFalse(notify_ready({"NOTIFY_SOCKET": "/nonexistent/socket"}))
