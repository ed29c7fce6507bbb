"""The log's JSON lines and outputs."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import socket
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.command_line import told_command_line, without_secrets
from etcdtw.app.log import observers_for
from etcdtw.config.load import Loaded, load
from etcdtw.errors import ConfigError
from etcdtw.observe import journal
from etcdtw.observe.journal import JournalStream
from etcdtw.observe.levels import Verbosity, least_level, parse_package_levels
from etcdtw.observe.lines import LineObserver, classic_line, json_line
from etcdtw.observe.logging import log_observers, open_output
from etcdtw.observe.rotation import RotatingFile, Rotation, rotation_from_json


class JsonLineTests(SynchronousTestCase):
    def lines_of(self, level: str = "debug", namespace: str = "etcdtw.app.main") -> Any:
        lines: list[str] = []
        return Logger(namespace, observer=LineObserver(lines.append, Verbosity(level))), lines

    def test_form(self) -> None:
        """A line begins with level and time in UTC with milliseconds, then caller and message."""
        self.assertEqual(
            json_line("info", 1795216325.7396, "Running: ", {"args": ["x", "é"]}, "app/main"),
            '{"level":"info","ts":"2026-11-20T23:12:05.739Z","caller":"app/main",'
            '"msg":"Running: ","args":["x","é"]}',
        )
        self.assertNotIn("caller", json_line("info", 0.0, "x", {}))

    def test_event(self) -> None:
        """Keyword arguments become fields with dashes; the message is formatted."""
        log, lines = self.lines_of()
        log.info("took {seconds} s", seconds=3, local_member_id="8e9e")
        entry = json.loads(lines[0])
        self.assertTrue(lines[0].endswith("}\n"))
        self.assertEqual(list(entry)[:4], ["level", "ts", "caller", "msg"])
        self.assertEqual(entry["msg"], "took 3 s")
        self.assertEqual((entry["seconds"], entry["local-member-id"]), (3, "8e9e"))
        self.assertEqual(entry["caller"], "app/main")

    def test_levels(self) -> None:
        """Levels have etcd's names, and those below the least one are dropped."""
        log, lines = self.lines_of("warn")
        for level in (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error):
            log.emit(level, "x")
        log.critical("x")
        self.assertEqual([json.loads(line)["level"] for line in lines], ["warn", "error", "fatal"])
        self.assertEqual(
            [least_level(word) for word in ("", "WARN", "panic")], ["info", "warn", "fatal"]
        )

    def test_twisted_chatter(self) -> None:
        """Twisted's own news is shown at debug only, its critical events are errors."""
        log, lines = self.lines_of("info", "twisted.web.http")
        log.info("Starting factory")
        log.critical("unhandled")
        self.assertEqual([json.loads(line)["level"] for line in lines], ["error"])

    def test_failure(self) -> None:
        """A failure gives its type and text, and the trace."""
        log, lines = self.lines_of()
        try:
            raise KeyError("lost")
        except KeyError:
            log.failure("broken", Failure())
        entry = json.loads(lines[0])
        self.assertEqual(entry["error"], "KeyError: 'lost'")
        self.assertIn("KeyError", entry["stacktrace"])

    def test_strange_values(self) -> None:
        """Values that JSON does not know are shown as text."""
        log, lines = self.lines_of()
        log.info("x", value=b"\x00")
        self.assertEqual(json.loads(lines[0])["value"], "b'\\x00'")


class CommandLineTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        """The command line goes into the log without what nobody should read there."""
        words = ["--name=a", "--discovery-password=p", "-discovery-user", "u:p", "--name", "b"]
        told = ["--name=a", "--discovery-password=***", "-discovery-user", "***", "--name", "b"]
        self.assertEqual(without_secrets(words), told)

    def test_secret_of_mesh(self) -> None:
        """Nor does the token that a mesh is made of, and it is in no line of the log."""
        url = "https://example.com/3e86b59982e49066c5d813af1c2e2579"
        for flags, told in (
            (["--peer-auto-tls=mesh", "-discovery", url], "https://example.com/***"),
            (["--auto-tls=mesh", f"--initial-cluster-token={url}"], "--initial-cluster-token=***"),
            (["--auto-tls", f"--initial-cluster-token={url}"], f"--initial-cluster-token={url}"),
            # Too short to be one: it is refused, or an authority is kept and it means nothing.
            (["--auto-tls=mesh", "--initial-cluster-token=l"], "--initial-cluster-token=l"),
            (["--auto-tls=mesh", "--log-level=info"], "--log-level=info"),
        ):
            path = self.mktemp()
            words = ["--name=a", f"--log-outputs={path}", *flags]
            loaded = load(words, {}, os.getcwd(), lambda path: "")
            assert isinstance(loaded, Loaded), "not only help"
            self.assertEqual(told_command_line(loaded.settings, words)[-1], told)
            (observer,) = observers_for(loaded.settings)
            Logger("etcdtw", observer=observer).info("found", discovery_url=words[-1])
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file)["discovery-url"], told)


class OutputTests(SynchronousTestCase):
    def test_file(self) -> None:
        """A path is a file to which whole lines are appended at once."""
        path = self.mktemp()
        for text in ("one", "two"):
            (observer,) = log_observers([path], Verbosity("info"))
            Logger("etcdtw", observer=observer).info(text)
        with open(path, encoding="utf-8") as file:
            self.assertEqual([json.loads(line)["msg"] for line in file], ["one", "two"])

    def test_missing_directory(self) -> None:
        """A file that cannot be opened is the system's error."""
        self.assertRaises(OSError, open_output, "/nonexistent/log")

    def test_journal(self) -> None:
        """systemd's journal gets each line as an entry of its level, of several lines as well."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(name := f"\0etcdtw-test-journal-{os.getpid()}")
            stream = JournalStream(name)
            stream.write('{"level":"warn","msg":"é"}\n')
            stream.write("2026-11-22 I | one\ntwo\n")
            stream.flush()
            first, second = listener.recv(1000), listener.recv(1000)
        line = '{"level":"warn","msg":"é"}'.encode()
        self.assertEqual(
            first,
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=etcdtw\nMESSAGE\n"
            + len(line).to_bytes(8, "little")
            + line
            + b"\n",
        )
        self.assertTrue(second.startswith(b"PRIORITY=6\n"))
        self.assertTrue(second.endswith(b" | one\ntwo\n"))

    def test_no_journal(self) -> None:
        """Where there is no journal the start is refused in etcd's words."""
        self.patch(journal, "SOCKET_PATH", "/nowhere")
        error = self.assertRaises(ConfigError, open_output, "systemd/journal")
        self.assertEqual(
            error.reason,
            "can't find journal (dial unixgram /nowhere: connect: no such file or directory)",
        )
        found = load(["--log-outputs=systemd/journal,stderr"], {}, "/", str)
        assert isinstance(found, Loaded), "it is no question"
        self.assertEqual(found.settings.log_outputs, ("stderr", "systemd/journal"))

    def test_locale(self) -> None:
        """Lines are JSON in UTF-8 whatever the terminal is set to, and whatever is in them."""
        for name in ("stdout", "stderr"):
            octets = BytesIO()
            self.patch(sys, f"__{name}__", TextIOWrapper(octets, encoding="latin-1"))
            (observer,) = log_observers([name], Verbosity("info"))
            Logger("etcdtw", observer=observer).info("é€{name}", name="\udcff")
            self.assertEqual(json.loads(octets.getvalue())["name"], "\udcff")
            self.assertIn("é€".encode(), octets.getvalue())


class ClassicTests(SynchronousTestCase):
    def test_line(self) -> None:
        """Time, level, room, message, and fields behind it."""
        line = classic_line("warn", 0.5, "slow", {"took": "1s", "n": 2}, "replica")
        self.assertRegex(
            line,
            r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.500000 W \| replica: slow \(took: 1s, n: 2\)\Z",
        )
        self.assertTrue(classic_line("fatal", 0.0, "end", {}).endswith(" C | etcdtw: end"))


class VerbosityTests(SynchronousTestCase):
    def passed(self, verbosity: Verbosity) -> list[str]:
        lines: list[str] = []
        observer = LineObserver(lines.append, verbosity)
        for room in ("replica", "replica.reads", "app"):
            log = Logger(f"etcdtw.{room}", observer=observer)
            log.debug("d")
            log.info("i")
            log.warn("w")
        return [f"{entry['caller']} {entry['msg']}" for entry in map(json.loads, lines)]

    def test_packages(self) -> None:
        """A room may have its own level."""
        verbosity = Verbosity("warn", parse_package_levels("replica=DEBUG"))
        self.assertEqual(len(self.passed(verbosity)), 7)
        self.assertEqual(self.passed(verbosity)[-2:], ["replica/reads w", "app w"])
        verbosity = Verbosity("warn", parse_package_levels("*=INFO,replica=CRITICAL"))
        self.assertEqual(self.passed(verbosity), ["app i", "app w"])

    def test_switched(self) -> None:
        """The level may change while observers are there."""
        verbosity = Verbosity("error")
        self.assertEqual(self.passed(verbosity), [])
        verbosity.set_level("DEBUG")
        self.assertEqual(len(self.passed(verbosity)), 9)
        self.assertRaises(ValueError, verbosity.set_level, "loud")
        self.assertEqual(verbosity.level, "debug")

    def test_bad_lists(self) -> None:
        """A list that is none is refused by its part."""
        for text in ("replica", "=DEBUG", "a=LOUD"):
            with self.assertRaisesRegex(ValueError, "name=LEVEL"):
                parse_package_levels(text)


class RotationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "etcd.log")

    def file(self, **settings: Any) -> RotatingFile:
        file = RotatingFile(self.path, Rotation(maxsize=1, **settings))
        self.addCleanup(file.close)
        return file

    def test_size(self) -> None:
        """A file that would grow beyond its size is put aside; a line is in one file only."""
        file = self.file()
        line = "x" * 99_999 + "\n"
        for _ in range(25):
            file.write(line)
        aside = sorted(os.listdir(self.directory))
        self.assertEqual(len(aside), 3)
        self.assertEqual(aside[-1], "etcd.log")
        self.assertRegex(aside[0], r"\Aetcd-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log\Z")
        sizes = [os.path.getsize(os.path.join(self.directory, each)) for each in aside]
        self.assertEqual(sizes, [1_000_000, 1_000_000, 500_000])

    def test_backups(self) -> None:
        """The oldest files go."""
        other = os.path.join(self.directory, "etcd-other.log")
        Path(other).touch()
        file = self.file(maxbackups=2)
        for number in range(5):
            file.write(f"{number}\n")
            time.sleep(0.002)
            file.rotate()
        aside = sorted(each for each in os.listdir(self.directory) if "T" in each)
        found = [Path(self.directory, each).read_text() for each in aside]
        self.assertEqual(found, ["3\n", "4\n"])
        self.assertTrue(os.path.exists(other))

    def test_age(self) -> None:
        """Files beyond their age go."""
        old = os.path.join(self.directory, "etcd-2020-01-01T00-00-00.000.log")
        Path(old).touch()
        os.utime(old, (0, 0))
        file = self.file(maxage=1)
        file.write("x\n")
        file.rotate()
        self.assertFalse(os.path.exists(old))
        self.assertEqual(len(os.listdir(self.directory)), 2)

    def test_compressed(self) -> None:
        """With gzip, on a thread."""
        file = self.file(compress=True)
        file.write("x\n")
        file.rotate()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            packed = [each for each in os.listdir(self.directory) if each.endswith(".gz")]
            if packed and len(os.listdir(self.directory)) == 2:
                break
            time.sleep(0.01)
        with gzip.open(os.path.join(self.directory, packed[0])) as unpacked:
            self.assertEqual(unpacked.read(), b"x\n")

    def test_put_aside_by_somebody_else(self) -> None:
        """Without the file, or its directory, the log goes on as soon as it can."""
        file = self.file()
        os.remove(self.path)
        file.rotate()
        file.write("a\n")
        self.assertEqual(Path(self.path).read_text(), "a\n")
        os.rename(self.directory, self.directory + ".away")
        self.assertRaises(OSError, file.rotate)
        self.assertRaises(OSError, file.write, "b\n")
        os.rename(self.directory + ".away", self.directory)
        file.write("c\n")
        self.assertEqual(Path(self.path).read_text(), "a\nc\n")

    def test_no_space_to_compress(self) -> None:
        """What could not be compressed stays as it was."""
        file = self.file()
        file.write("a\n")
        file.rotate()
        (aside,) = (each for each in os.listdir(self.directory) if "T" in each)

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        self.patch(shutil, "copyfileobj", fail)
        file._compress(os.path.join(self.directory, aside))
        self.assertEqual(sorted(os.listdir(self.directory)), [aside, "etcd.log"])

    def test_goes_on(self) -> None:
        """A restart goes on with the file there is."""
        self.file().write("one\n")
        self.file().write("two\n")
        with open(self.path) as file:
            self.assertEqual(file.read(), "one\ntwo\n")

    def test_settings(self) -> None:
        """The flag's JSON has etcd's names; what is no setting is refused in Go's words."""
        self.assertEqual(rotation_from_json({"maxsize": 5, "x": 1}), Rotation(maxsize=5))
        for value, text in (
            ({"maxsize": "x"}, "cannot unmarshal string into Go struct field "
                               "logRotationConfig.maxsize of type int"),
            ({"compress": 1}, "cannot unmarshal number into Go struct field "
                              "logRotationConfig.compress of type bool"),
            ([], "cannot unmarshal array"),
        ):  # fmt: skip
            with self.assertRaisesRegex(ValueError, text):
                rotation_from_json(value)
