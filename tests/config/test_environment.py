"""``ETCD_*`` variables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.environment import read_environment
from etcdtw.config.flags import FLAGS
from etcdtw.config.values import COMMAND_LINE, Value


class EnvironmentTests(SynchronousTestCase):
    def test_every_flag(self) -> None:
        """Every flag can be set by its variable."""
        for name, flag in FLAGS.items():
            if flag.default:
                found = read_environment({flag.variable: flag.default}, {}, strict=True)
                self.assertEqual(found.values[name].value, flag.kind.parse(flag.default))
                self.assertEqual(found.values[name].source, f"environment {flag.variable}")

    def test_mesh(self) -> None:
        """The word mesh is a value of automatic TLS here too."""
        for name in ("auto-tls", "peer-auto-tls"):
            found = read_environment({FLAGS[name].variable: "mesh"}, {}, strict=True)
            self.assertEqual(found.values[name].value, "mesh")

    def test_empty_is_absent(self) -> None:
        """An empty variable sets nothing and shadows nothing."""
        given = {"name": Value("x", COMMAND_LINE)}
        found = read_environment({"ETCD_NAME": "", "ETCD_DATA_DIR": ""}, given, strict=True)
        self.assertEqual((found.values, found.problems, found.notices), ({}, [], []))

    def test_bad_values(self) -> None:
        """A bad value is refused with etcd's text and exit code 1; the last flag by name leads."""
        variables = {"ETCD_HEARTBEAT_INTERVAL": "abc", "ETCD_ENABLE_PPROF": "maybe"}
        found = read_environment(variables, {}, strict=True)
        self.assertEqual(
            [(problem.reason, problem.exit_code) for problem in found.problems],
            [
                ('invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error', 1),
                ('invalid value "maybe" for ETCD_ENABLE_PPROF: parse error', 1),
            ],
        )

    def test_shadowed(self) -> None:
        """A variable whose flag is given is refused, or noticed when that is allowed."""
        given = {"name": Value("x", COMMAND_LINE)}
        strict = read_environment({"ETCD_NAME": "y"}, given, strict=True)
        self.assertIn("shadowed by corresponding command-line flag", strict.problems[0].reason)
        lenient = read_environment({"ETCD_NAME": "y"}, given, strict=False)
        self.assertEqual((lenient.values, lenient.problems), ({}, []))
        self.assertEqual(lenient.notices[0].fields, {"environment-variable": "ETCD_NAME"})

    def test_unknown(self) -> None:
        """A variable that belongs to no flag is noticed; those of other programs are not."""
        found = read_environment(
            {
                "ETCD_PORT": "1",
                "ETCD_VERSION": "3",
                "ETCD_UNSUPPORTED_ARCH": "arm",
                "ETCDCTL_API": "3",
            },
            {},
            strict=True,
        )
        self.assertEqual(
            [(notice.message, notice.fields) for notice in found.notices],
            [
                ("unrecognized environment variable", {"environment-variable": "ETCD_PORT=1"}),
                (
                    "cannot set special environment variable",
                    {"key": "ETCD_VERSION", "value": "3"},
                ),
            ],
        )
