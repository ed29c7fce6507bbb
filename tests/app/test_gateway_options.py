"""The gateway's command line."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.command_flags import CommandError
from etcdtw.app.gateway_options import GatewayOptions, parse_gateway
from etcdtw.dns.srv import Service


class OptionTests(SynchronousTestCase):
    def options(self, *words: str) -> GatewayOptions:
        found = parse_gateway(words)
        assert isinstance(found, GatewayOptions), "it is no question for help"
        return found

    def refusal(self, *words: str) -> CommandError:
        refused: CommandError = self.assertRaises(CommandError, parse_gateway, words)
        return refused

    def test_defaults(self) -> None:
        """GW19, GW21, GW22, GW24, GW27: those of the page."""
        found = self.options("start")
        flagged = self.options("--retry-delay=5s", "start", "--endpoints", "a:1")
        self.assertEqual((flagged.retry_seconds, len(flagged.endpoints)), (5, 1))
        self.assertEqual(found, self.options())
        self.assertEqual(found.endpoints, (Service("127.0.0.1", 2379),))
        self.assertEqual(found.listen_addr, "127.0.0.1:23790")
        self.assertEqual((found.discovery_srv, found.insecure_discovery), ("", False))
        self.assertEqual((found.retry_seconds, found.trusted_ca_file), (60.0, ""))

    def test_endpoints(self) -> None:
        """GW14, X8: a list, repeated flags add up; without a port it is 2379."""
        found = self.options(
            "start", "--endpoints=infra0.example.com,infra1.example.com:99", "--endpoints", "[::1]"
        )
        self.assertEqual(
            [each.host_port for each in found.endpoints],
            ["infra0.example.com:2379", "infra1.example.com:99", "[::1]:2379"],
        )
        plain = self.options("--endpoints=http://10.0.1.10:2379/").endpoints
        self.assertEqual(plain[0].host_port, "10.0.1.10:2379")

    def test_no_endpoints(self) -> None:
        """A list with nothing in it, as scripts make it of an empty variable; spaces around the
        rest are none of theirs."""
        self.assertEqual(str(self.refusal("start", "--endpoints=")), "no endpoints found")
        self.assertEqual(self.options("--endpoints=", "--discovery-srv=d").endpoints, ())
        found = self.options("--endpoints=10.0.0.1:1, http://10.0.0.2:2/ , c").endpoints
        self.assertEqual([each.host_port for each in found], ["10.0.0.1:1", "10.0.0.2:2", "c:2379"])

    def test_https(self) -> None:
        """GW20, X9: the gateway does not terminate TLS; etcd's habit is a flag."""
        refused = self.refusal("start", "--endpoints", "https://127.0.0.1:2379")
        self.assertEqual(refused.exit_code, 2)
        self.assertIn("the gateway does not terminate TLS", str(refused))
        found = self.options("--endpoints=https://127.0.0.1:2379", "--lenient-endpoints")
        self.assertEqual(found.endpoints, (Service("127.0.0.1", 2379),))
        for wrong in ("ftp://a:1", "a:b:c", "a:0", ":1"):
            self.assertIn("error parsing endpoint", str(self.refusal(f"--endpoints={wrong}")))

    def test_delays(self) -> None:
        """GW24, GW25: durations need a unit."""
        for text, seconds in (("1h2m3.5s", 3723.5), ("300ms", 0.3), ("1m0s", 60)):
            self.assertEqual(self.options("--retry-delay", text).retry_seconds, seconds)
        self.assertEqual(
            str(self.refusal("--retry-delay", "123")),
            'Error: invalid argument "123" for "--retry-delay" flag: '
            'time: missing unit in duration "123"',
        )
        self.assertIn("longer than nothing", str(self.refusal("--retry-delay=-1s")))

    def test_listening(self) -> None:
        """GW23: an interface and a port."""
        self.assertEqual(self.options("--listen-addr=[::1]:1").listen_addr, "[::1]:1")
        for wrong in ("foo", "a:b", "1.2.3.4:99999"):
            refused = self.refusal(f"--listen-addr={wrong}")
            self.assertEqual(str(refused), f"failed to validate listen address: {wrong}")

    def test_forms(self) -> None:
        """Flags as etcd's command line has them, and what is none."""
        found = self.options("--insecure-discovery", "--discovery-srv", "example.com")
        self.assertTrue(found.insecure_discovery)
        self.assertFalse(self.options("--insecure-discovery=false").insecure_discovery)
        for words, message in (
            (("--nope",), "Error: unknown flag: --nope"),
            (("--discovery-srv",), "Error: flag needs an argument: --discovery-srv"),
            (("stop",), 'Error: unknown command "stop" for "etcd gateway start"'),
            (("--insecure-discovery=maybe",), 'invalid argument "maybe"'),
            (("--log-format=xml",), "it is zap or capnslog"),
        ):
            self.assertIn(message, str(self.refusal(*words)))

    def test_help(self) -> None:
        """GW32: all six flags of the page, with their defaults, and the seventh of today's."""
        said = parse_gateway(["start", "--help"])
        assert isinstance(said, str), "it is the help text"
        for word in (
            "--endpoints", "--discovery-srv", "--discovery-srv-name", "--listen-addr",
            "--retry-delay", "--insecure-discovery", "--trusted-ca-file",
            "127.0.0.1:2379", "127.0.0.1:23790", "1m0s",
        ):  # fmt: skip
            self.assertIn(word, said)
