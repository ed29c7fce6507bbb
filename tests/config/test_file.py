"""The configuration file; the refusals were seen from etcd 3.5.1."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.file import read_file
from etcdtw.config.flags import FLAGS
from etcdtw.config.kinds import AUTO_TLS, DURATION, ENDPOINTS, LOG_OUTPUTS, SWITCH, WORDS
from etcdtw.config.problems import ConfigProblems
from etcdtw.config.values import Values

DECODING = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "

REFUSALS = {
    "grpc-keepalive-min-time: 5s": DECODING
    + "string into Go struct field configYAML.grpc-keepalive-min-time of type time.Duration",
    "name: .5": DECODING + "number into Go struct field configYAML.name of type string",
    "name: y": DECODING + "bool into Go struct field configYAML.name of type string",
    "name: !!int x": (
        "error converting YAML to JSON: yaml: invalid literal for int() with base 10: 'x'"
    ),
    "name: 5": DECODING + "number into Go struct field configYAML.name of type string",
    "name: [a]": DECODING + "array into Go struct field configYAML.name of type string",
    "heartbeat-interval: abc": DECODING
    + "string into Go struct field configYAML.heartbeat-interval of type uint",
    "heartbeat-interval: 1.5": DECODING
    + "number 1.5 into Go struct field configYAML.heartbeat-interval of type uint",
    "snapshot-count: -1": DECODING
    + "number -1 into Go struct field configYAML.snapshot-count of type uint64",
    'enable-v2: "true"': DECODING + "string into Go struct field configYAML.enable-v2 of type bool",
    "log-outputs: stderr": DECODING
    + "string into Go struct field configYAML.log-outputs of type []string",
    "abc": DECODING + "string into Go value of type embed.configYAML",
    "client-transport-security: x": DECODING
    + "string into Go struct field configYAML.client-transport-security "
    "of type embed.securityConfig",
    "client-transport-security:\n  auto-tls: x": DECODING
    + "string into Go struct field securityConfig.client-transport-security.auto-tls of type bool",
    "initial-cluster-state: foo": 'unexpected clusterState "foo"',
    "proxy: foo": "unexpected error setting up proxyFlag: invalid value",
    "discovery-fallback: zz": (
        "unexpected error setting up discovery-fallback flag: invalid value"
    ),
    "advertise-client-urls: x": (
        "unexpected error setting up advertise-peer-urls: "
        "URL scheme must be http, https, unix, or unixs: x"
    ),
    "listen-metrics-urls: x": (
        "unexpected error setting up listen-metrics-urls: "
        "URL scheme must be http, https, unix, or unixs: x"
    ),
    "name: [": ("error converting YAML to JSON: yaml: line 1: did not find expected node content"),
    "a: 1\n\tb: 2": (
        "error converting YAML to JSON: yaml: line 2: "
        "found a tab character that violates indentation"
    ),
    "a: b: c": (
        "error converting YAML to JSON: yaml: mapping values are not allowed in this context"
    ),
}


def read(text: str) -> Values:
    return read_file("/c.yml", lambda path: text + "\n")[0]


class FileTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        """Malformed files are refused with etcd's texts, exit code 1, naming the file."""
        for text, words in REFUSALS.items():
            problems = self.assertRaises(ConfigProblems, read, text)
            self.assertEqual(str(problems), words, text)
            self.assertEqual(problems.exit_code, 1)
            self.assertEqual(problems.problems[0].source, "file /c.yml")

    def test_missing_file(self) -> None:
        """A file that is not there is refused with the path and the system's reason."""

        def missing(path: str) -> str:
            raise FileNotFoundError(2, "No such file or directory")

        problems = self.assertRaises(ConfigProblems, read_file, "/x.yml", missing)
        self.assertEqual(str(problems), "open /x.yml: no such file or directory")

    def test_all_at_once(self) -> None:
        """Every bad key is reported."""
        problems = self.assertRaises(ConfigProblems, read, "name: 5\nmax-wals: x\n")
        self.assertEqual([each.flag for each in problems.problems], ["name", "max-wals"])

    def test_every_key(self) -> None:
        """Every flag that has a key can be set in a file with a value of the key's type."""
        for name, flag in FLAGS.items():
            key = flag.file_key
            if key is None or not flag.default:
                continue
            text, expected = flag.default, flag.kind.parse(flag.default)
            if flag.kind is DURATION:
                text = str(int(float(str(expected)) * 1e9))
            elif flag.kind in (LOG_OUTPUTS, WORDS, ENDPOINTS):
                text = f"[{text}]"
            elif flag.kind in (SWITCH, AUTO_TLS) or flag.kind.word == "integer":
                pass
            else:
                text = "'" + text + "'"
            *groups, inner = key.split(".")
            nested = [f"{'  ' * depth}{each}:" for depth, each in enumerate(groups)]
            found = read("\n".join([*nested, f"{'  ' * len(groups)}{inner}: {text}"]))
            self.assertEqual(found[name].value, expected, name)

    def test_plain_words(self) -> None:
        """What looks like a time or a date is text, and numbers have the forms of etcd's YAML."""
        for text in ("12:30", "2026-11-22", "1:2:3", "=", "0x", "1.2.3"):
            self.assertEqual(read(f"name: {text}")["name"].value, text)
        for text, number in (
            ("8e9", 8_000_000_000), ("8.5E+9", 8_500_000_000), ("5.0", 5), ("0o17", 15),
            ("017", 15), ("08", 8), ("1_000", 1000), ("0x10", 16), ("+5", 5),
        ):  # fmt: skip
            found = read(f"quota-backend-bytes: {text}")["quota-backend-bytes"].value
            self.assertEqual((type(found), found), (int, number), text)
        for text, value in (("y", True), ("On", True), ("NO", False), ("n", False)):
            self.assertEqual(read(f"pre-vote: {text}")["pre-vote"].value, value)

    def test_no_word(self) -> None:
        """An empty text, as templates leave it, means the default."""
        for name in ("initial-cluster-state", "discovery-fallback", "proxy", "v2-deprecation"):
            self.assertEqual(read(f'{name}: ""'), {})

    def test_first_document(self) -> None:
        """Of several documents the first counts."""
        self.assertEqual(read("name: a\n---\nname: b")["name"].value, "a")

    def test_nanoseconds(self) -> None:
        """A duration is a whole number of nanoseconds."""
        self.assertEqual(
            read("grpc-keepalive-min-time: 1500000000")["grpc-keepalive-min-time"].value, 1.5
        )

    def test_security_maps(self) -> None:
        """The security maps hold the TLS flags without their prefix."""
        found = read("peer-transport-security:\n  cert-file: a.crt\n  allowed-cn: b")
        self.assertEqual(found["peer-cert-file"].value, "a.crt")
        self.assertEqual(found["peer-cert-allowed-cn"].value, ("b",))
        later = read("peer-transport-security:\n  allowed-cn: [b, c]")
        self.assertEqual(later["peer-cert-allowed-cn"].value, ("b", "c"))

    def test_mesh(self) -> None:
        """auto-tls is a boolean, or the word mesh."""
        for prefix, group in (("", "client"), ("peer-", "peer")):
            for text, value in (("mesh", "mesh"), ("true", True)):
                found = read(f"{group}-transport-security:\n  auto-tls: {text}")
                self.assertEqual(found[f"{prefix}auto-tls"].value, value)

    def test_discovery_map(self) -> None:
        """DP7: v3 discovery is a map of maps, as in etcd 3.6."""
        client = "discovery-config:\n  token: t\n  client:\n    "
        found = read(
            f"{client}endpoints: [b:1, a:1]\n    request-timeout: 1000000000\n"
            "    secure:\n      cacert: ca.crt\n    auth:\n      username: u\n"
        )
        self.assertEqual(
            {name: each.value for name, each in found.items()},
            {
                "discovery-token": "t",
                "discovery-endpoints": ("a:1", "b:1"),
                "discovery-request-timeout": 1.0,
                "discovery-cacert": "ca.crt",
                "discovery-user": "u",
            },
        )
        for wrong, field in (
            ("secure: 1", "number into Go struct field ConfigSpec.discovery-config.client.secure "
             "of type clientv3.SecureConfig"),
            ("auth:\n      password: 1", "number into Go struct field "
             "AuthConfig.discovery-config.client.auth.password of type string"),
        ):  # fmt: skip
            problems = self.assertRaises(ConfigProblems, read, client + wrong)
            self.assertEqual(str(problems), DECODING + field)

    def test_unknown_and_empty_keys(self) -> None:
        """Unknown keys are noticed and empty ones leave the default."""
        values, notices = read_file("/c.yml", lambda path: "nope: 1\nname:\nlisten-peer-urls: ''\n")
        self.assertEqual(values, {})
        self.assertEqual([notice.fields for notice in notices], [{"key": "nope"}])
        self.assertEqual(read_file("/c.yml", lambda path: ""), ({}, []))
