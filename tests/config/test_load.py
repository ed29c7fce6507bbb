"""From command line, environment and file to settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from types import MappingProxyType

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.proxy_mode import way_to_members
from etcdtw.bootstrap.interfaces import DiscoverySettings
from etcdtw.config.flags import FLAGS, Feature
from etcdtw.config.load import Loaded, Wanted, load, member_settings
from etcdtw.config.problems import ConfigProblems, Stage

NOTHING: Mapping[str, str] = MappingProxyType({})


def loaded(
    *words: str, variables: Mapping[str, str] = NOTHING, files: Mapping[str, str] = NOTHING
) -> Loaded:
    found = load(words, variables, "/here", files.__getitem__)
    assert isinstance(found, Loaded), "a text was asked for"
    return found


class PrecedenceTests(SynchronousTestCase):
    def test_flag_variable_default(self) -> None:
        """A flag wins over a variable, which is noticed, and a variable over the default."""
        variables = {"ETCD_NAME": "v", "ETCD_MAX_WALS": "7"}
        found = loaded("--name=f", variables=variables)
        settings = found.settings
        self.assertEqual((settings.name, settings.max_wals, settings.max_snapshots), ("f", 7, 5))
        self.assertTrue(any("is shadowed" in notice.message for notice in found.notices))

    def test_shadowed_variable(self) -> None:
        """With ``--strict-environment`` a variable whose flag is given ends the start."""
        variables = {"ETCD_NAME": "v"}
        words = ("--name=f", "--strict-environment")
        error = self.assertRaises(ConfigProblems, loaded, *words, variables=variables)
        self.assertIs(error.stage, Stage.VERIFY)
        self.assertEqual(error.problems[0].source, "environment ETCD_NAME")

    def test_file_replaces_all(self) -> None:
        """With a file, flags and variables have no effect."""
        found = loaded(
            "--name=f",
            "--config-file=c.yml",
            variables={"ETCD_MAX_WALS": "7"},
            files={"/here/c.yml": "max-snapshots: 3\n"},
        )
        settings = found.settings
        self.assertEqual(
            (settings.name, settings.max_wals, settings.max_snapshots), ("default", 5, 3)
        )
        self.assertTrue(any("will be ignored" in notice.message for notice in found.notices))

    def test_file_by_variable(self) -> None:
        """``ETCD_CONFIG_FILE`` names a file as the flag does."""
        variables = {"ETCD_CONFIG_FILE": "/c.yml"}
        found = loaded(variables=variables, files={"/c.yml": "name: z\n"})
        self.assertEqual(found.settings.name, "z")


class SettingsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """ST15, ST16, ST18: a start without arguments gives etcd's defaults."""
        found = loaded().settings
        self.assertEqual(found.data_dir, "/here/default.etcd")
        self.assertEqual(found.wal_path, "/here/default.etcd/member/wal")
        self.assertEqual(found.initial_cluster, (("default", ("http://localhost:2380",)),))
        self.assertEqual((found.heartbeat_interval, found.election_timeout), (100, 1000))
        self.assertEqual(found.grpc_keepalive_interval, 7200.0)
        self.assertEqual(found, member_settings("/here"))

    def test_zero_means(self) -> None:
        """0 stands for etcd's own choice where etcd says so."""
        found = loaded("--snapshot-count=0", "--backend-batch-limit=0").settings
        self.assertEqual((found.snapshot_count, found.backend_batch_limit), (100_000, 10_000))
        self.assertEqual(found.backend_batch_interval, 0.1)

    def test_relative_paths(self) -> None:
        """Directories, certificates and log files are taken from the directory of the start."""
        found = loaded(
            "--data-dir=d",
            "--wal-dir=/w",
            "--peer-trusted-ca-file=ca.crt",
            "--log-outputs=stderr,l",
        ).settings
        self.assertEqual((found.data_dir, found.wal_dir, found.wal_path), ("/here/d", "/w", "/w"))
        self.assertEqual(found.peer_trusted_ca_file, "/here/ca.crt")
        self.assertEqual(found.log_outputs, ("/here/l", "stderr"))

    def test_name_alone(self) -> None:
        """Only a name: the initial cluster is that name with the advertised URLs."""
        found = loaded("--name=m", "--initial-advertise-peer-urls=http://b:2,http://a:1").settings
        self.assertEqual(found.initial_cluster, (("m", ("http://a:1", "http://b:2")),))

    def test_discovery_clears_initial_cluster(self) -> None:
        """With discovery the default initial cluster does not count."""
        self.assertEqual(loaded("--discovery=http://a:1/x").settings.initial_cluster, ())

    def test_v3_discovery(self) -> None:
        """DP7: the flags of etcd 3.6 with its defaults, by flag and by variable."""
        settings = loaded(
            "--discovery-endpoints=b:1,a:1,b:1",
            "--discovery-cacert=ca.crt",
            variables={"ETCD_DISCOVERY_TOKEN": "t", "ETCD_DISCOVERY_DIAL_TIMEOUT": "3s"},
        ).settings
        self.assertEqual(settings.initial_cluster, ())
        self.assertEqual(
            settings.bootstrap().discovery_v3,
            DiscoverySettings(
                token="t", endpoints=("a:1", "b:1"), cacert="/here/ca.crt", dial_timeout=3.0
            ),
        )
        self.assertEqual(loaded().settings.bootstrap().discovery_v3, DiscoverySettings())

    def test_bad_initial_cluster_waits(self) -> None:
        """A malformed initial cluster only matters to a member that is new."""
        found = loaded("--initial-cluster=http://127.0.0.1:1")
        self.assertEqual(found.settings.initial_cluster, ())
        self.assertEqual(
            [problem.reason for problem in found.bootstrap_problems],
            ["error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "],
        )

    def test_retention(self) -> None:
        """Retention is hours or a duration in periodic mode, revisions in revision mode."""
        for mode, text, value in (
            ("periodic", "2", 7200),
            ("periodic", "30m", 1800),
            ("revision", "1000", 1000),
            ("revision", "1h", 3_600_000_000_000),
            ("", "1", 3600),
            ("periodic", "", 0),
            ("revision", "", 0),
        ):
            found = loaded(f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={text}")
            self.assertEqual(found.settings.auto_compaction_retention, value)
        found = loaded("--auto-compaction-retention=1x")
        self.assertEqual(
            found.start_problems[0].reason,
            'error parsing CompactionRetention: time: unknown unit "x" in duration "1x"',
        )

    def test_texts(self) -> None:
        """``--help`` and ``--version`` win over everything that parses."""
        self.assertEqual(load(["--help", "--nope"], {}, "/", str), Wanted("help"))
        self.assertEqual(load(["--version", "--name=x"], {}, "/", str), Wanted("version"))
        self.assertIsInstance(load(["--version=false"], {}, "/", str), Loaded)


class RefusalTests(SynchronousTestCase):
    def reasons(self, *words: str) -> list[str]:
        error = self.assertRaises(ConfigProblems, loaded, *words)
        return [problem.reason for problem in error.problems]

    def test_all_at_once(self) -> None:
        """All problems of a configuration are reported, each with flag and source."""
        error = self.assertRaises(
            ConfigProblems,
            loaded,
            "--election-timeout=300",
            "--listen-client-urls=http://10.0.0.1:1",
            variables={"ETCD_AUTO_COMPACTION_MODE": "weekly"},
        )
        self.assertEqual(
            [(problem.flag, problem.source) for problem in error.problems],
            [
                ("election-timeout", "command line"),
                ("advertise-client-urls", "default"),
                ("auto-compaction-mode", "environment ETCD_AUTO_COMPACTION_MODE"),
            ],
        )

    def test_empty_host(self) -> None:
        """A listen URL without a host and an advertised one without are refused."""
        self.assertEqual(
            self.reasons("--listen-peer-urls=http://:1"),
            ["expected IP in URL for binding (http://:1)"],
        )
        self.assertEqual(
            self.reasons("--initial-advertise-peer-urls=http://:1"),
            [
                '--initial-advertise-peer-urls "http://:1" must be "host:port" '
                "(unexpected empty host (http://:1))"
            ],
        )

    def test_host_names(self) -> None:
        """A host name to listen on is accepted, and refused with ``--strict-bind``."""
        word = "--listen-peer-urls=http://example.com:1"
        self.assertEqual(loaded(word).settings.listen_peer_urls, ("http://example.com:1",))
        self.assertEqual(
            self.reasons(word, "--strict-bind"),
            ["expected IP in URL for binding (http://example.com:1)"],
        )

    def test_advertised(self) -> None:
        """Who listens somewhere must advertise something, unless he is, or may become, a proxy."""
        listening = "--listen-client-urls=http://127.0.0.1:1"
        for words, refused in (
            ((), True),
            (("--proxy=on",), False),
            (("--proxy=readonly",), False),
            (("--discovery=http://a/b",), False),
            (("--discovery=http://a/b", "--discovery-fallback=exit"), True),
        ):
            if refused:
                error = self.assertRaises(ConfigProblems, loaded, listening, *words)
                self.assertIn("--advertise-client-urls is required", str(error))
            else:
                self.assertEqual(loaded(listening, *words).start_problems, ())

    def test_ways_to_bootstrap(self) -> None:
        """OV2: one way only, in etcd 3.5's words; in 3.6's where its own way is among them."""
        ways = (
            "--initial-cluster=a=http://a:1", "--discovery=http://a:1/x", "--discovery-srv=x.com",
            "--discovery-endpoints=a:1",
        )  # fmt: skip
        sentence = "multiple discovery or bootstrap flags are set. Choose one of "
        for one, other in combinations(ways, 2):
            v3 = ', "discovery-endpoints"' if other == ways[3] else ""
            kinds = f'"initial-cluster", "discovery"{v3} or "discovery-srv"'
            self.assertIn(sentence + kinds, self.reasons(one, other))

    def test_v3_discovery(self) -> None:
        """DP7: etcd 3.6's rules and words for its flags."""
        both = ["both --discovery-token and --discovery-endpoints must be set"]
        self.assertEqual(self.reasons("--discovery-token=t"), both)
        self.assertEqual(self.reasons("--discovery-endpoints=a:1"), both)
        self.assertEqual(
            self.reasons("--discovery-token=t", "--discovery-endpoints=a:1, "),
            ["--discovery-endpoints must not contain empty endpoints"],
        )
        words = ["--discovery-proxy=p:1", "--discovery=http://a:1/x"]
        for flag in ("cert", "key", "cacert", "user", "password"):
            self.assertEqual(
                self.reasons(*words, f"--discovery-{flag}=x"),
                [
                    "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery "
                    "settings (discovery-token, discovery-endpoints, discovery-cert, "
                    "discovery-key, discovery-cacert, discovery-user, discovery-password) are set"
                ],
            )

    def test_log_outputs(self) -> None:
        """The default output stands alone, and each has a name."""
        self.assertEqual(
            self.reasons("--log-outputs=default,stderr"),
            ['multi logoutput for "default" is not supported yet'],
        )
        for text in ("", "stderr,"):
            self.assertEqual(
                self.reasons(f"--log-outputs={text}"),
                ['couldn\'t open sink "": open : no such file or directory'],
            )

    def test_name_servers(self) -> None:
        """Name servers are addresses."""
        problems = loaded("--dns-server=10.0.0.1,x:y").start_problems
        self.assertEqual(
            [each.reason for each in problems], ["'x:y' is not the address of a name server"]
        )

    def test_missing_features(self) -> None:
        """What would be dangerous to ignore is refused by name; defaults are fine."""
        for name, flag in FLAGS.items():
            if flag.feature is not Feature.REFUSED:
                continue
            self.assertEqual(loaded(f"--{name}={flag.default}").start_problems, (), name)
        for word in ("--auth-token-ttl=9", "--bcrypt-cost=11"):
            reasons = [problem.reason for problem in loaded(word).start_problems]
            name = word.partition("=")[0]
            self.assertEqual(reasons, [f"{name} is not available in this build yet"])
        jwt = loaded("--auth-token=jwt,sign-method=RS256").start_problems
        self.assertIn("--auth-token is not available", jwt[0].reason)

    def test_secure_urls(self) -> None:
        """https and unixs ports need a certificate, of files or of their own making."""
        for scheme in ("https", "unixs"):
            peers = f"--listen-peer-urls={scheme}://127.0.0.1:1"
            clients = f"--listen-client-urls={scheme}://127.0.0.1:1"
            for missing, sentence in (
                (peers, "cannot listen on TLS for 127.0.0.1:1: "),
                (
                    clients,
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url ",
                ),
            ):
                problems = loaded(missing, "--advertise-client-urls=http://x:1").start_problems
                self.assertEqual(
                    [problem.reason[: len(sentence)] for problem in problems], [sentence]
                )
            for words in (
                (peers, "--peer-auto-tls"),
                (peers, "--peer-cert-file=x"),
                (peers, "--tls-provider=mine"),
                (clients, "--auto-tls", "--advertise-client-urls=http://x:1"),
                (clients, "--auto-tls=mesh", "--advertise-client-urls=http://x:1"),
            ):
                self.assertEqual(loaded(*words).start_problems, (), words)

    def test_mesh(self) -> None:
        """What would not count beside the cluster's own authority is refused, unless there are
        certificates that count instead; plain URLs are told of."""
        for prefix in ("", "peer-"):
            mesh = f"--{prefix}auto-tls=mesh"
            for word, flag in (
                (f"--{prefix}trusted-ca-file=x", f"{prefix}trusted-ca-file"),
                (f"--{prefix}ca-file=x", f"{prefix}ca-file"),
                ("--tls-provider=mine", "tls-provider"),
            ):
                problems = loaded(mesh, word).start_problems
                self.assertEqual([each.flag for each in problems], [flag])
                self.assertIn(mesh, problems[0].reason)
            given = loaded(mesh, f"--{prefix}trusted-ca-file=x", f"--{prefix}cert-file=y")
            self.assertEqual(given.start_problems, ())
            plain = f"scheme is HTTP while {mesh} is given"
            self.assertTrue(any(each.message.startswith(plain) for each in loaded(mesh).notices))
            self.assertFalse(any(each.message.startswith(plain) for each in given.notices))

    def test_unused_certificates(self) -> None:
        """What plain URLs leave unused is said in etcd's words (TA8)."""
        words = [
            f"--{side}{flag}"
            for side in ("", "peer-")
            for flag in ("cert-file=x", "key-file=y", "client-cert-auth", "auto-tls")
        ]
        said = [notice.message for notice in loaded(*words).notices]
        for side, prefix in (("client", ""), ("peer", "peer-")):
            for sentence in (
                f"ignoring {side} auto TLS since certs given",
                f"scheme is HTTP while --{prefix}client-cert-auth is enabled; "
                "ignoring client cert auth for this URL",
            ):
                self.assertIn(sentence, said)
        unused = "scheme is HTTP while key and cert files are present; ignoring key and cert files"
        self.assertEqual(said.count(unused), 2)

    def test_python_settings(self) -> None:
        """Settings made in Python are checked as those of a command line."""
        self.assertEqual(member_settings(max_wals=9).max_wals, 9)
        self.assertRaises(ConfigProblems, member_settings, election_timeout=1)
        self.assertRaises(AssertionError, member_settings, nope=1)


class NoticeTests(SynchronousTestCase):
    def notices(self, *words: str) -> list[str]:
        return [notice.message for notice in loaded("--data-dir=d", *words).notices]

    def test_no_effect(self) -> None:
        """A flag whose feature is missing is noticed once, unless it has its default value."""
        self.assertEqual(self.notices("--experimental-memory-mlock=false"), [])
        self.assertEqual(
            self.notices("--experimental-memory-mlock"),
            ["flag is accepted but has no effect in this build yet"],
        )

    def test_effect(self) -> None:
        """Checkpoints of leases are made, and the v2 API is not served, so nobody is told
        otherwise."""
        checkpoint = "--experimental-enable-lease-checkpoint"
        found = loaded(checkpoint, f"{checkpoint}-persist", "--v2-deprecation=write-only")
        self.assertEqual([each for each in found.notices if "no effect" in each.message], [])

    def test_local_advertising(self) -> None:
        """ST19: listening for the network while advertising localhost is noticed."""
        self.assertEqual(
            self.notices("--listen-peer-urls=http://0.0.0.0:2380"),
            ["advertised URL can only be reached from this machine"],
        )
        self.assertEqual(self.notices("--listen-peer-urls=http://127.0.0.1:2380"), [])

    def test_large_requests(self) -> None:
        """More than 10 MiB per request is noticed."""
        self.assertEqual(
            self.notices("--max-request-bytes=10485761"), ["exceeded recommended request limit"]
        )


class OldNameTests(SynchronousTestCase):
    """Flags of etcd 0.4."""

    def test_addresses(self) -> None:
        """CL23-6: addresses become URLs, of TLS where there is a certificate for that side."""
        words = ["-addr", "10.0.1.10:4001", "-bind-addr=127.0.0.1:4001"]
        words += ["-peer-addr=[::1]:7001", "--peer-bind-addr", "0.0.0.0:7001"]
        found = loaded(*words)
        settings = found.settings
        self.assertEqual(settings.advertise_client_urls, ("http://10.0.1.10:4001",))
        self.assertEqual(settings.listen_client_urls, ("http://127.0.0.1:4001",))
        self.assertEqual(settings.initial_advertise_peer_urls, ("http://[::1]:7001",))
        self.assertEqual(settings.listen_peer_urls, ("http://0.0.0.0:7001",))
        said = [notice.message for notice in found.notices]
        self.assertIn('flag "-addr" is deprecated, use "-advertise-client-urls"', said)
        settings = loaded(*words, "--peer-cert-file=p", "--peer-key-file=p").settings
        self.assertEqual(settings.listen_peer_urls, ("https://0.0.0.0:7001",))
        self.assertEqual(settings.listen_client_urls, ("http://127.0.0.1:4001",))
        settings = loaded(*words, variables={"ETCD_CERT_FILE": "c"}).settings
        self.assertEqual(settings.advertise_client_urls, ("https://10.0.1.10:4001",))

    def test_both(self) -> None:
        """CL23-6: the old name and the new one at once are refused, wherever the new one is."""
        for words, variables in (
            (("-addr=127.0.0.1:1", "--advertise-client-urls=http://a:1"), {}),
            (("-addr=127.0.0.1:1",), {"ETCD_ADVERTISE_CLIENT_URLS": "http://a:1"}),
        ):
            error = self.assertRaises(ConfigProblems, loaded, *words, variables=variables)
            self.assertIs(error.stage, Stage.VERIFY)
            self.assertEqual(
                [each.reason for each in error.problems],
                ["Set only one of flags -advertise-client-urls and -addr"],
            )
            self.assertEqual(error.exit_code, 1)

    def test_refused(self) -> None:
        """CL23-6: what has no place any more is refused with a pointer, and so is what is no
        address; exit code 2."""
        for word, text in (
            (
                "-peers=a:1",
                'invalid value "a:1" for flag -peers: flag "-peers" is no longer supported. '
                "Use -initial-cluster instead.",
            ),
            ("-peers-file=x", 'flag "-peers-file" is no longer supported. Use -initial-cluster'),
            ("-addr=h:1", 'invalid value "h:1" for flag -addr: bad IP in address specification'),
            ("-bind-addr=1.2.3.4:x", "bad port in address specification"),
            ("-bind-addr=1.2.3.4", "missing port in address"),
        ):
            error = self.assertRaises(ConfigProblems, loaded, word)
            self.assertIn(text, error.problems[0].reason)
            self.assertEqual(error.exit_code, 2)

    def test_file(self) -> None:
        """A configuration file replaces them as it does all flags."""
        files = {"/here/c.yml": "name: x\n"}
        found = loaded("-addr=127.0.0.1:1", "--config-file=c.yml", files=files)
        self.assertEqual(found.settings.advertise_client_urls, ("http://localhost:2379",))


class CheckTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """A dry run is asked for on the command line alone, also beside a file."""
        files = {"/here/c.yml": "name: x\n"}
        for words, form in (
            ((), ""),
            (("--check",), "plan"),
            (("-check=true",), "plan"),
            (("--check=false",), ""),
            (("--check=flags",), "flags"),
            (("--check", "--config-file=c.yml"), "plan"),
        ):
            self.assertEqual(loaded(*words, files=files).check, form)
        error = self.assertRaises(ConfigProblems, loaded, "--check=maybe")
        self.assertEqual(error.exit_code, 2)

    def test_chain(self) -> None:
        """OV2, P31: two ways to find the cluster exclude each other, except in a chain."""
        words = ("--discovery-srv=example.com", "--initial-cluster=default=http://a:1")
        self.assertRaises(ConfigProblems, loaded, *words)
        self.assertRaises(ConfigProblems, loaded, *words, "--bootstrap-provider=file:x")
        found = loaded(*words, "--bootstrap-provider=chain:dns-srv,static,file:x")
        self.assertEqual(found.settings.initial_cluster, (("default", ("http://a:1",)),))
        self.assertEqual(found.settings.bootstrap_provider, "chain:dns-srv,static,file:/here/x")

    def test_proxy(self) -> None:
        """PX2: a proxy takes a discovery URL before a domain before a list, which has a default;
        a provider of members is none of its ways."""
        settings = member_settings("/here", proxy="on")
        self.assertEqual(settings.initial_cluster, (("default", ("http://localhost:2380",)),))
        for changes, way in (
            ({}, "initial-cluster"),
            ({"discovery_srv": "example.com"}, "discovery-srv"),
            ({"discovery": "http://d/x", "discovery_srv": "example.com"}, "discovery"),
            ({"discovery_endpoints": ("a:1",), "discovery_token": "t"}, "discovery-endpoints"),
        ):
            self.assertEqual(way_to_members(replace(settings, **changes)), way)
        found = loaded("--proxy=on", "--bootstrap-provider=file:x")
        self.assertIn("a proxy is no member", found.start_problems[0].reason)
