"""The clustering guide's DNS commands and the gateway page's, letter for letter, on machines with
their addresses and a name server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.process.cluster import until
from tests.process.member import real_etcd, server_under_test
from tests.process.secured import Secured
from tests.process.test_guide import GuideCase

BY_NAME = r"""
etcd --name infra{n} \
--discovery-srv example.com \
--initial-advertise-peer-urls http://infra{n}.example.com:2380 \
--initial-cluster-token etcd-cluster-1 \
--initial-cluster-state new \
--advertise-client-urls http://infra{n}.example.com:2379 \
--listen-client-urls http://infra{n}.example.com:2379 \
--listen-peer-urls http://infra{n}.example.com:2380
"""
BY_ADDRESS = r"""
etcd --name infra{n} \
--discovery-srv example.com \
--initial-advertise-peer-urls http://10.0.1.1{n}:2380 \
--initial-cluster-token etcd-cluster-1 \
--initial-cluster-state new \
--advertise-client-urls http://10.0.1.1{n}:2379 \
--listen-client-urls http://10.0.1.1{n}:2379 \
--listen-peer-urls http://10.0.1.1{n}:2380
"""
GATEWAY_BY_SRV = "gateway start --discovery-srv=example.com"
GATEWAY_BY_NAMES = (
    "gateway start --endpoints=infra0.example.com,infra1.example.com,infra2.example.com"
)
RECORDS = [f"--member=infra{n}=10.0.1.1{n}" for n in range(3)]
THREE = [f"infra{n}.example.com:2379" for n in range(3)]


class DnsCase(GuideCase):
    """With a name server at the switch that serves the records of the guide."""

    secure = False

    def setUp(self) -> None:
        super().setUp()
        self.serve_records()
        resolv_conf = self.root / "resolv.conf"
        resolv_conf.write_text("nameserver 10.0.1.2\noptions timeout:1\n")
        self.machines.resolv_conf = str(resolv_conf)

    def serve_records(self, *members: str) -> None:
        twistd = str(Path(sys.executable).parent / "twistd")
        command = [twistd, "-n", "--pidfile=", "etcd-dns", "--domain=example.com"]
        command += ["--listen=10.0.1.2:53", *(members or RECORDS)]
        command += ["--secure"] if self.secure else []
        name_server = self.machines.start(None, command, str(self.root), str(self.root / "dns.log"))
        self.processes[-1] = name_server
        until(lambda: "starting on 53" in (self.root / "dns.log").read_text(), "names are served")

    def stop_records(self) -> None:
        self.processes[-1].kill()
        self.processes[-1].wait()
        (self.root / "dns.log").unlink()

    def peer_urls(self) -> list[str]:
        return sorted(url for each in self.members()["members"] for url in each["peerURLs"])


class BootstrapTests(DnsCase):
    def test_by_name(self) -> None:
        """DN1, DN4, DN10, DN12, DN14, DN17: the three commands with names form a cluster."""
        for n in range(3):
            self.paste(n, BY_NAME.format(n=n))
        self.founded()
        self.assertEqual(self.peer_urls(), [f"http://infra{n}.example.com:2380" for n in range(3)])
        self.assertEqual(self.etcdctl("put", "k", "v").strip(), "OK")
        first = f"{self.members()['header']['cluster_id']:x}"
        for n in range(3):
            self.processes[n].kill()
            self.processes[n].wait()
            shutil.rmtree(self.directory(n) / f"infra{n}.etcd")
        # DN18: with addresses it is the same cluster, for the records have the names.
        for n in range(3):
            self.paste(n, BY_ADDRESS.format(n=n).replace("--discovery-srv", "-discovery-srv"))
        self.founded()
        self.assertEqual(f"{self.members()['header']['cluster_id']:x}", first)

    def test_with_real_etcd(self) -> None:
        """DN4, DN16: members of both kinds find each other by the same records."""
        for n in range(2):
            self.paste(n, BY_ADDRESS.format(n=n))
        self.paste(2, BY_ADDRESS.format(n=2), command=real_etcd())
        self.founded()
        self.assertEqual(self.etcdctl("put", "k", "v", at=2).strip(), "OK")
        self.assertIn("v", self.etcdctl("get", "k", at=0))

    def test_refused(self) -> None:
        """DN15, DN19, DN20: an address that is in no record, a domain without any, another scheme:
        exit code 1, with what was compared, and nothing left behind."""
        text = BY_ADDRESS.format(n=0)
        for flags, words in (
            (text.replace("10.0.1.10:2380", "10.0.1.10:2399"), "cannot find local etcd member"),
            (text.replace("example.com", "nope.invalid"), "_etcd-server._tcp.nope.invalid"),
            (
                text.replace("http://10.0.1.10:2380", "https://10.0.1.10:2380")
                + " --peer-auto-tls",
                "scheme mismatch with expected peer https://10.0.1.10:2380",
            ),
        ):
            process = self.paste(0, flags)
            self.assertEqual(process.wait(40), 1, self.log(0)[-2000:])
            self.assertIn(words, self.log(0))
            self.assertEqual([each.name for each in self.directory(0).iterdir()], ["log"])
            (self.directory(0) / "log").unlink()


class SecureBootstrapTests(DnsCase):
    """Records of TLS. The certificates' authority is this system's, by a variable of OpenSSL."""

    secure = True

    def start(self, hosts: str) -> None:
        pki = Secured(self.root / "pki", "this system's authority")
        variables = {"SSL_CERT_FILE": pki.path("ca.crt")}
        for n in range(3):
            names = [each.format(n=n) for each in hosts.split()]
            pki.issue(f"infra{n}", "peer", names)
            text = BY_NAME.format(n=n).replace(f"http://infra{n}.example.com:2380",
                                               f"https://infra{n}.example.com:2380")  # fmt: skip
            pair = (f" --peer-cert-file={pki.path(f'infra{n}.crt')}"
                    f" --peer-key-file={pki.path(f'infra{n}.key')}")  # fmt: skip
            self.paste(n, text.rstrip() + pair, variables)

    def test_domain_in_certificates(self) -> None:
        """DN3, DN8, SE9: without an authority of one's own, certificates are for the domain."""
        self.start("example.com infra{n}.example.com")
        self.founded()
        urls = [f"https://infra{n}.example.com:2380" for n in range(3)]
        self.assertEqual(self.peer_urls(), urls)
        self.assertEqual(self.etcdctl("put", "k", "v").strip(), "OK")

    def test_domain_not_in_certificates(self) -> None:
        """DN8, SE9: with a certificate for the host alone nobody gets in, and the reason is
        logged."""
        self.start("infra{n}.example.com")
        until(
            lambda: (
                "x509: certificate is valid for infra1.example.com, not example.com" in self.log(0)
            ),
            lambda: self.log(0)[-3000:],
        )


class GatewayTests(DnsCase):
    """The gateway page's commands, on a machine beside the cluster."""

    def setUp(self) -> None:
        super().setUp()
        for n in range(3):
            self.paste(n, BY_NAME.format(n=n))
        self.founded()

    def gateway(self, words: str, *program: str) -> subprocess.Popen[bytes]:
        """On machine 3; its log is that machine's."""
        (self.directory(3) / "log").unlink(missing_ok=True)
        argv = [*(program or server_under_test()), *words.split()]
        log = str(self.directory(3) / "log")
        process = self.machines.start(3, argv, str(self.directory(3)), log)
        self.processes[3] = process
        until(
            lambda: "ready to proxy client requests to [" in self.log(3),
            lambda: self.log(3),
            15,
        )
        return process

    def ask(self) -> str:
        """The name of the member behind the gateway's next connection."""
        argv = ["curl", "-s", "-m", "10", "http://127.0.0.1:23790/v2/stats/self"]
        said = self.machines.run(3, argv).stdout
        return str(json.loads(said)["name"]) if said else ""

    def test_by_records(self) -> None:
        """GW2, GW4, GW5, GW6, GW16, GW17, GW22: endpoints by the records, one after the other; one
        that dies is passed over, and nobody notices; nothing is written."""
        self.gateway(GATEWAY_BY_SRV)
        for address in THREE:
            self.assertIn(address, self.log(3))
        self.assertIn("nothing authenticates these endpoints", self.log(3))
        asked = [self.ask() for _ in range(6)]
        self.assertEqual(sorted(asked[:3]), ["infra0", "infra1", "infra2"])
        self.assertEqual(asked[:3], asked[3:])
        self.processes[1].kill()
        self.processes[1].wait()
        ask = ["curl", "-sS", "-m", "20", "http://127.0.0.1:23790/version"]
        for _ in range(20):
            self.assertIn("etcdserver", self.machines.run(3, ask).stdout)
        self.assertIn("deactivated endpoint", self.log(3))
        self.assertEqual(os.listdir(self.directory(3)), ["log"])

    def test_by_names(self) -> None:
        """GW14, GW15, GW18, X8: the page's static command, in its own form of log line, and by
        twistd; without a port it is 2379."""
        line = f"tcpproxy: ready to proxy client requests to [{' '.join(THREE)}]"
        twistd = str(Path(sys.executable).parent / "twistd")
        without_start = GATEWAY_BY_NAMES.replace("gateway start", "gateway")
        for words, program in (
            (GATEWAY_BY_NAMES, ()),
            (f"-n --pidfile= etcd-{GATEWAY_BY_NAMES}", (twistd,)),
            (f"-n --pidfile= etcd-{without_start}", (twistd,)),
        ):
            process = self.gateway(f"{words} --log-format=capnslog", *program)
            self.assertRegex(self.log(3), r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} I \| ")
            self.assertIn(line, self.log(3))
            self.assertTrue(self.ask())
            process.terminate()
            process.wait()

    def test_records_change(self) -> None:
        """GW9, GW10: the records change, and the gateway goes by them without a restart; what is
        connected stays."""
        self.stop_records()
        self.serve_records("--ttl=5", *RECORDS)
        self.gateway(GATEWAY_BY_SRV)
        self.stop_records()
        self.serve_records("--ttl=5", RECORDS[2])
        until(lambda: "endpoints changed" in self.log(3), lambda: self.log(3), 20)
        self.assertEqual(len({self.ask() for _ in range(4)}), 1)

    def test_other_ways(self) -> None:
        """CL23-4, CL23-5: the v2 proxy and etcdctl find the cluster by the same records."""
        argv = [*server_under_test(), "--proxy=on", "--discovery-srv=example.com",
                "--listen-client-urls=http://127.0.0.1:8080",
                "--advertise-client-urls=http://127.0.0.1:8080"]  # fmt: skip
        log = str(self.directory(3) / "log")
        self.processes[3] = self.machines.start(3, argv, str(self.directory(3)), log)
        put = ["curl", "-s", "-m", "5", "-X", "PUT", "-d", "value=v",
               "http://127.0.0.1:8080/v2/keys/k"]  # fmt: skip
        until(lambda: '"action":"set"' in self.machines.run(3, put).stdout, lambda: self.log(3), 20)
        ctl = [self.ctl, "--discovery-srv=example.com", "--insecure-discovery", "put", "k", "v"]
        self.assertEqual(self.machines.run(3, ctl).stdout.strip(), "OK")

    def test_refused(self) -> None:
        """GW30, GW31, X10: no records, or itself as an endpoint: a reason and exit code 1, and
        never another endpoint instead."""
        for words, reason in (
            ("--discovery-srv=nope.invalid", "dns lookup errors: "),
            (
                "--endpoints=127.0.0.1:23790",
                "SRV or endpoint (127.0.0.1:23790->127.0.0.1:23790) should not resolve to the "
                "gateway listen addr (127.0.0.1:23790)",
            ),
        ):
            argv = [*server_under_test(), "gateway", "start", words]
            done = self.machines.run(3, argv, 60)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(reason, done.stderr)
