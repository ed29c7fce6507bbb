"""The gRPC proxy's command line."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.command_flags import CommandError
from etcdtw.app.grpc_proxy import checked
from etcdtw.app.grpc_proxy_options import FLAGS, GrpcProxyOptions, parse_grpc_proxy
from tests.process.member import real_etcd

LATER = {
    *("dial-keepalive-time", "dial-keepalive-timeout", "endpoints-auto-sync-interval"),
    *("listen-cipher-suites", "max-concurrent-streams", "permit-without-stream"),
    *("tls-max-version", "tls-min-version"),
}
"""Flags of later releases of 3.5."""
OURS = {"dns-server"}


class OptionTests(SynchronousTestCase):
    def options(self, *words: str) -> GrpcProxyOptions:
        found = parse_grpc_proxy(words)
        assert isinstance(found, GrpcProxyOptions), "it is no question for help"
        return found

    def refusal(self, *words: str) -> str:
        return str(self.assertRaises(CommandError, parse_grpc_proxy, words))

    def test_defaults(self) -> None:
        """GX1: those of etcd 3.5."""
        found = self.options("start")
        self.assertEqual(found, self.options())
        self.assertEqual(found.listen_addr, "127.0.0.1:23790")
        self.assertEqual(found.advertise_client_url, "127.0.0.1:23790")
        self.assertEqual(found.endpoints, ("127.0.0.1:2379",))
        self.assertEqual((found.data_dir, found.self_signed_cert_validity), ("default.proxy", 1))
        self.assertEqual((found.max_send_bytes, found.max_recv_bytes), (1572864, 2147483647))
        self.assertEqual(found.max_concurrent_streams, 4294967295)
        times = found.grpc_keepalive_min_time, found.grpc_keepalive_interval
        self.assertEqual(times, (5.0, 7200.0))
        self.assertEqual((found.dial_keepalive_time, found.dial_keepalive_timeout), (0.0, 20.0))
        self.assertEqual((found.tls_min_version, found.tls_max_version), ("TLS1.2", ""))

    def test_help(self) -> None:
        """GX1: the help is etcd's, word by word, but for the flags of later releases and ours."""
        ours = parse_grpc_proxy(["start", "--help"])
        assert isinstance(ours, str), "help was asked for"
        etcd = subprocess.run(
            [*real_etcd(), "grpc-proxy", "start", "--help"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
        new = tuple(f"      --{name} " for name in LATER | OURS)
        lines = [each.split() for each in ours.splitlines() if not each.startswith(new)]
        theirs = etcd.replace("etcd grpc", "etcdtw grpc").splitlines()
        self.assertEqual(lines, [each.split() for each in theirs])
        self.assertEqual(len(ours.splitlines()) - len(lines), len(new))
        self.assertEqual(len(FLAGS), len({each.name for each in FLAGS}))

    def test_refusals(self) -> None:
        """GX1: what cannot be is refused in etcd's words."""
        for words, said in (
            (["--nope"], "Error: unknown flag: --nope"),
            (["--endpoints"], "Error: flag needs an argument: --endpoints"),
            (
                ["--resolver-ttl=x"],
                'Error: invalid argument "x" for "--resolver-ttl" flag: '
                'strconv.ParseInt: parsing "x": invalid syntax',
            ),
            (
                ["--debug=maybe"],
                'Error: invalid argument "maybe" for "--debug" flag: '
                'strconv.ParseBool: parsing "maybe": invalid syntax',
            ),
            (
                ["--self-signed-cert-validity=-1"],
                'Error: invalid argument "-1" for "--self-signed-cert-validity" flag: '
                'strconv.ParseUint: parsing "-1": invalid syntax',
            ),
            (
                ["--grpc-keepalive-timeout=5"],
                'Error: invalid argument "5" for "--grpc-keepalive-timeout" flag: '
                'time: missing unit in duration "5"',
            ),
            (["--resolver-prefix=p"], "invalid resolver-ttl 0"),
            (["--resolver-ttl=5"], 'invalid resolver-prefix ""'),
            (
                ["--resolver-prefix=p", "--resolver-ttl=5", "--advertise-client-url="],
                'invalid advertise-client-url ""',
            ),
            (
                ["--auto-tls", "--self-signed-cert-validity=0"],
                "selfSignedCertValidity is invalid,it should be greater than 0",
            ),
            (["--listen-addr=foo"], "listen tcp: address foo: missing port in address"),
            (["--listen-addr=127.0.0.1:99999"], "listen tcp: address 99999: invalid port"),
            (["--endpoints="], "etcdclient: no available endpoints"),
            (["--metrics-addr=127.0.0.1:1"], 'cannot parse "127.0.0.1:1"'),
            (
                ["--metrics-addr=https://127.0.0.1:1"],
                "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
            ),
            (
                ["--tls-min-version=TLS1.1"],
                'tls-min-version is invalid: unexpected TLS version "TLS1.1" '
                "(must be one of: TLS1.2, TLS1.3)",
            ),
            (
                ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
        ):
            self.assertEqual(self.refusal(*words), said)

    def test_leasing(self) -> None:
        """What is not there is refused, and says so."""
        said = self.refusal("--experimental-leasing-prefix=l/")
        self.assertIn("--experimental-leasing-prefix is not available", said)

    def test_files(self) -> None:
        """GX1: files that are not there and endpoints that are none are told of at the start."""
        for words, said in (
            (["--cert-file=/nope", "--key-file=/nope"], "open /nope: no such file or directory"),
            (["--cacert=/nope"], "open /nope: no such file or directory"),
            (["--endpoints=ftp://a:1"], "endpoint 'ftp://a:1': the scheme must be"),
        ):
            stderr = StringIO()
            self.patch(sys, "stderr", stderr)
            self.assertEqual(checked(["start", *words]), 1)
            self.assertIn(said, stderr.getvalue())
