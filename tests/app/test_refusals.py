"""How refused starts are told."""

from __future__ import annotations

import json

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.refusals import problems_of, start_error_text, tell
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.config.problems import ConfigProblems, Stage
from etcdtw.errors import ConfigError, StorageError


def told(problems: ConfigProblems) -> list[str]:
    pieces: list[str] = []
    tell(problems, pieces.append, 0.0)
    return "".join(pieces).splitlines()


class TellTests(SynchronousTestCase):
    def test_arguments(self) -> None:
        """A command line that cannot be read gets the usage; the first problem is the last line."""
        lines = told(
            ConfigProblems(
                Stage.ARGUMENTS,
                [ConfigError("a", "command line", "first", 2), ConfigError("b", "", "second", 2)],
            )
        )
        self.assertEqual(lines[0], "Usage:")
        self.assertEqual(lines[-2:], ["second", "first"])

    def test_hint(self) -> None:
        """What to change comes before the sentence of etcd, which stays the last line."""
        problem = ConfigError("a", "command line", "first", 2)
        problem.hint = "do this"
        lines = told(ConfigProblems(Stage.ARGUMENTS, [problem]))
        self.assertEqual(lines[-2:], ["do this", "first"])

    def test_verify(self) -> None:
        """Each problem has a log line with flag and source, and the first one the last word."""
        lines = told(
            ConfigProblems(
                Stage.VERIFY,
                [ConfigError("a", "file x", "first"), ConfigError("b", "default", "second")],
            )
        )
        entries = [json.loads(line) for line in lines[:-1]]
        self.assertEqual(
            [(each["msg"], each["error"], each["flag"], each["source"]) for each in entries],
            [
                ("failed to verify flags", "first", "a", "file x"),
                ("failed to verify flags", "second", "b", "default"),
            ],
        )
        self.assertEqual(lines[-1], "first")

    def test_start(self) -> None:
        """A failed start has etcd's two log lines, and the guide's sentence at the end."""
        error = BootstrapError("f", "modern", code="ETW-BOOT-X", sentence="etcd: guide", hint="do")
        lines = told(ConfigProblems(Stage.START, [error]))
        entries = [json.loads(line) for line in lines[:-1]]
        self.assertEqual(
            [(each["level"], each["msg"]) for each in entries],
            [("warn", "failed to start etcd"), ("fatal", "discovery failed")],
        )
        self.assertEqual((entries[1]["code"], entries[1]["hint"]), ("ETW-BOOT-X", "do"))
        self.assertEqual(lines[-1], "etcd: guide")


class TextTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """A port that is taken is told as Go does."""
        taken = OSError(98, "Address already in use")
        for interface, host in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("", "")):
            self.assertEqual(
                start_error_text(CannotListenError(interface, 26001, taken)),
                f"listen tcp {host}:26001: bind: address already in use",
            )
        self.assertEqual(
            start_error_text(CannotListenError(None, "/s", taken)),
            "listen unix /s: bind: address already in use",
        )

    def test_files(self) -> None:
        """A file error names the file."""
        self.assertEqual(
            start_error_text(PermissionError(13, "Permission denied", "/x")),
            "open /x: permission denied",
        )
        self.assertEqual(start_error_text(StorageError("torn")), "torn")

    def test_problems(self) -> None:
        """Any start error becomes a refusal of the start stage with exit code 1."""
        problems = problems_of(StorageError("torn"))
        self.assertEqual((str(problems), problems.exit_code), ("torn", 1))
        self.assertIs(problems_of(problems), problems)
        error = ConfigError("a", "b", "c", 2)
        self.assertEqual(problems_of(error).exit_code, 2)
