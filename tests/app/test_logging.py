"""The log's JSON lines and outputs."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.observe.logging import log_observers, open_output
from etcdtw.observe.logging_json import JsonLineObserver, json_line, least_level


class JsonLineTests(SynchronousTestCase):
    def lines_of(self, level: str = "debug", namespace: str = "etcdtw.app.main") -> Any:
        lines: list[str] = []
        return Logger(namespace, observer=JsonLineObserver(lines.append, level)), lines

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


class OutputTests(SynchronousTestCase):
    def test_file(self) -> None:
        """A path is a file to which whole lines are appended at once."""
        path = self.mktemp()
        for text in ("one", "two"):
            (observer,) = log_observers([path], "info")
            Logger("etcdtw", observer=observer).info(text)
        with open(path, encoding="utf-8") as file:
            self.assertEqual([json.loads(line)["msg"] for line in file], ["one", "two"])

    def test_missing_directory(self) -> None:
        """A file that cannot be opened is the system's error."""
        self.assertRaises(OSError, open_output, "/nonexistent/log")
