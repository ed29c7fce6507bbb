"""Every flag, once: name, kind, default, help, section and whether this build has its feature.

The command line, ``ETCD_*`` variables, configuration file keys, ``--help``, the documentation page
and the settings record all come from this table. Names and defaults are those of etcd 3.5, for v3
discovery of 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from etcdtw.config.kinds import (
    AUTO_TLS,
    CHECKS,
    DURATION,
    ENDPOINTS,
    HOST_NAMES,
    INITIAL_CLUSTER,
    INT,
    INT64,
    IP_PORT,
    LOG_OUTPUTS,
    NAMES,
    ORIGINS,
    PATH,
    SWITCH,
    TEXT,
    UINT,
    UINT32,
    UINT64,
    URLS,
    WORDS,
    Kind,
    one_of,
    refused,
)

DEFAULT_NAME = "default"
DEFAULT_INITIAL_CLUSTER = "default=http://localhost:2380"


class Feature(Enum):
    """What happens when a flag is set to something else than its default."""

    HERE = "works"
    LATER = "accepted with a warning; it has no effect yet"
    REFUSED = "refused: not available yet"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``default`` is text as on a command line."""

    name: str
    kind: Kind
    default: str
    help: str
    feature: Feature = Feature.HERE
    key: str | None = ""
    """Key in a configuration file: the name if empty, none if ``None``; ``a.b`` is key b in a."""
    shown_default: str | None = None
    """What ``--help`` shows instead of the default."""

    @property
    def field(self) -> str:
        """Its field in the settings record."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "ETCD_" + self.field.upper()

    @property
    def file_key(self) -> str | None:
        return self.name if self.key == "" else self.key


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    flags: tuple[Flag, ...]


_LATER, _REFUSED = Feature.LATER, Feature.REFUSED
_V2_PHASE = one_of("not-yet", "write-only", "write-only-drop-data", "gone", quotes_value=True)
_X, _TRACING = "experimental-", "experimental-distributed-tracing-"
_CLIENT_TLS, _PEER_TLS = "client-transport-security.", "peer-transport-security."
_MEETING = "discovery-config.client."

# A table: one flag is one row.
# fmt: off
SECTIONS = (
    Section("Member", (
        Flag("name", TEXT, DEFAULT_NAME, "Name of this member, for people."),
        Flag("data-dir", PATH, "",
             "Directory where the member keeps its data.", shown_default="${name}.etcd"),
        Flag("wal-dir", PATH, "", "Separate directory for the write-ahead log."),
        Flag("snapshot-count", UINT64, "100000", "Applied entries between two snapshots."),
        Flag("heartbeat-interval", UINT, "100", "Milliseconds between two heartbeats."),
        Flag("election-timeout", UINT, "1000", "Milliseconds without a leader until an election."),
        Flag("initial-election-tick-advance", SWITCH, "true",
             "Start close to the election timeout, so that the first election comes soon."),
        Flag("listen-peer-urls", URLS, "http://localhost:2380", "Where to listen for peers."),
        Flag("listen-client-urls", URLS, "http://localhost:2379", "Where to listen for clients."),
        Flag("listen-client-http-urls", URLS, "",
             "Where to serve HTTP apart from gRPC; empty: on the client URLs.", _LATER),
        Flag("max-snapshots", UINT, "5", "Snapshot files to keep (0: all)."),
        Flag("max-wals", UINT, "5", "Write-ahead log files to keep (0: all)."),
        Flag("quota-backend-bytes", INT64, "0",
             "Size of the keyspace that raises the NOSPACE alarm (0: 2 GiB, negative: none)."),
        Flag("backend-bbolt-freelist-type", TEXT, "map",
             "Free page list of a bbolt keyspace (array or map); this keyspace is none.", _LATER),
        Flag("backend-batch-interval", DURATION, "0s",
             "Longest time until writes are committed to the keyspace (0: 100ms).",
             shown_default=""),
        Flag("backend-batch-limit", INT, "0", "Most writes in one commit (0: 10000)."),
        Flag("max-txn-ops", UINT, "128", "Most operations in one transaction."),
        Flag("max-request-bytes", UINT, "1572864", "Largest request a client may send, in bytes."),
        Flag("max-concurrent-streams", UINT32, "4294967295",
             "Most streams that one client connection may have open."),
        Flag("enable-grpc-gateway", SWITCH, "true", "Serve the JSON gateway under /v3."),
        Flag("grpc-keepalive-min-time", DURATION, "5s",
             "Shortest time between two pings that a client is allowed."),
        Flag("grpc-keepalive-interval", DURATION, "2h",
             "Idle time after which a client is pinged (0: never)."),
        Flag("grpc-keepalive-timeout", DURATION, "20s",
             "Time a pinged client has to answer before its connection is closed (0: for ever)."),
        Flag("socket-reuse-port", SWITCH, "false",
             "Listen with SO_REUSEPORT.", _LATER, key="socket-options.reuse-port"),
        Flag("socket-reuse-address", SWITCH, "false",
             "Listen with SO_REUSEADDR.", _LATER, key="socket-options.reuse-address"),
        Flag("raft-read-timeout", DURATION, "5s",
             "Time without data after which a peer connection is given up.", key=None),
        Flag("raft-write-timeout", DURATION, "5s",
             "Time after which a write to a peer is given up.", key=None),
    )),
    Section("Clustering", (
        Flag("initial-advertise-peer-urls", URLS, "http://localhost:2380",
             "Peer URLs under which the other members reach this one."),
        Flag("initial-cluster", INITIAL_CLUSTER, DEFAULT_INITIAL_CLUSTER,
             "All members of a cluster that is founded or joined, with their peer URLs."),
        Flag("initial-cluster-state", one_of("new", "existing", "auto"), "new",
             "Found a cluster (new), join one (existing), or ask the peers which (auto)."),
        Flag("initial-cluster-token", TEXT, "etcd-cluster",
             "Word that goes into the ids of the cluster and its members.\n"
             "Clusters with different words cannot be mixed up."),
        Flag("advertise-client-urls", URLS, "http://localhost:2379",
             "Client URLs that clients are told; clients must be able to reach them."),
        Flag("discovery", TEXT, "", "URL of a discovery token to find the cluster by."),
        Flag("discovery-token", TEXT, "",
             "Token of a cluster to find by v3 discovery.", key="discovery-config.token"),
        Flag("discovery-endpoints", ENDPOINTS, "",
             "Client endpoints of the etcd where v3 discovery takes place.",
             key=_MEETING + "endpoints"),
        Flag("discovery-dial-timeout", DURATION, "2s",
             "v3 discovery: time to connect.", key=_MEETING + "dial-timeout"),
        Flag("discovery-request-timeout", DURATION, "5s",
             "v3 discovery: time for one request.", key=_MEETING + "request-timeout"),
        Flag("discovery-keepalive-time", DURATION, "2s",
             "v3 discovery: idle time after which the service is pinged, at least 10s\n"
             "(0: never).", key=_MEETING + "keepalive-time"),
        Flag("discovery-keepalive-timeout", DURATION, "6s",
             "v3 discovery: time that a pinged service has to answer.",
             key=_MEETING + "keepalive-timeout"),
        Flag("discovery-insecure-transport", SWITCH, "true",
             "v3 discovery: endpoints without a scheme are called without TLS.",
             key=_MEETING + "secure.insecure-transport"),
        Flag("discovery-insecure-skip-tls-verify", SWITCH, "false",
             "v3 discovery: do not check the service's certificate. Only for tests.",
             key=_MEETING + "secure.insecure-skip-tls-verify"),
        Flag("discovery-cert", PATH, "",
             "v3 discovery: certificate to show to the service.", key=_MEETING + "secure.cert"),
        Flag("discovery-key", PATH, "",
             "v3 discovery: key of that certificate.", key=_MEETING + "secure.key"),
        Flag("discovery-cacert", PATH, "",
             "v3 discovery: authorities that the service's certificate is checked against;\n"
             "empty: this system's.", key=_MEETING + "secure.cacert"),
        Flag("discovery-user", TEXT, "",
             "v3 discovery: name of a user of the service, or 'name:password'.",
             key=_MEETING + "auth.username"),
        Flag("discovery-password", TEXT, "",
             "v3 discovery: his password.", key=_MEETING + "auth.password"),
        Flag("discovery-fallback", one_of("exit", "proxy"), "proxy",
             "What to do when the discovered cluster is full: 'exit' or 'proxy'."),
        Flag("discovery-proxy", TEXT, "", "HTTP proxy on the way to discovery."),
        Flag("discovery-srv", TEXT, "", "DNS domain whose SRV records list members."),
        Flag("discovery-srv-name", TEXT, "", "Suffix of the SRV service names."),
        Flag("strict-reconfig-check", SWITCH, "true",
             "Refuse membership changes that would lose the quorum."),
        Flag("pre-vote", SWITCH, "true", "Ask whether an election can be won before starting it."),
        Flag("auto-compaction-retention", TEXT, "0",
             "How much history compaction leaves (0: never compacts)."),
        Flag("auto-compaction-mode", TEXT, "periodic",
             "What the retention counts: 'periodic' a duration (a bare number is hours),\n"
             "'revision' a number of revisions."),
        Flag("enable-v2", SWITCH, "true", "Serve the v2 API to clients."),
        Flag("v2-deprecation", _V2_PHASE, "not-yet",
             "How far the v2 store is given up:\n"
             "  'not-yet'               it is kept, and served\n"
             "  'write-only'            a start with keys in it is refused\n"
             "  'write-only-drop-data'  the same, as in etcd 3.5\n"
             "  'gone'                  the same, as in etcd 3.5"),
    )),
    Section("Security", (
        Flag("cert-file", PATH, "",
             "Certificate shown to clients.", key=_CLIENT_TLS + "cert-file"),
        Flag("key-file", PATH, "",
             "Key of that certificate.", key=_CLIENT_TLS + "key-file"),
        Flag("client-cert-auth", SWITCH, "false",
             "Clients must show a certificate.", key=_CLIENT_TLS + "client-cert-auth"),
        Flag("client-cert-file", PATH, "",
             "Certificate this member shows as a client of members; empty: --cert-file.",
             key=_CLIENT_TLS + "client-cert-file"),
        Flag("client-key-file", PATH, "",
             "Key of that certificate.", key=_CLIENT_TLS + "client-key-file"),
        Flag("client-crl-file", PATH, "", "Revoked client certificates.", key=None),
        Flag("client-cert-allowed-hostname", NAMES, "",
             "Host names, of which a client's certificate must carry one.",
             key=_CLIENT_TLS + "allowed-hostname"),
        Flag("trusted-ca-file", PATH, "",
             "Authorities that clients' certificates are checked against.",
             key=_CLIENT_TLS + "trusted-ca-file"),
        Flag("ca-file", PATH, "",
             "Former name of --trusted-ca-file.", key=None),
        Flag("auto-tls", AUTO_TLS, "false",
             "Make a certificate for clients at the first start; 'mesh': of an authority that all\n"
             "members derive from the cluster's token, and clients must show one of it too.",
             key=_CLIENT_TLS + "auto-tls"),
        Flag("peer-cert-file", PATH, "",
             "Certificate shown to peers.", key=_PEER_TLS + "cert-file"),
        Flag("peer-key-file", PATH, "",
             "Key of that certificate.", key=_PEER_TLS + "key-file"),
        Flag("peer-client-cert-auth", SWITCH, "false",
             "Peers must show a certificate.", key=_PEER_TLS + "client-cert-auth"),
        Flag("peer-trusted-ca-file", PATH, "",
             "Authorities that peers' certificates are checked against.",
             key=_PEER_TLS + "trusted-ca-file"),
        Flag("peer-ca-file", PATH, "",
             "Former name of --peer-trusted-ca-file.", key=None),
        Flag("peer-cert-allowed-cn", NAMES, "",
             "Common names, of which a peer's certificate must carry one.",
             key=_PEER_TLS + "allowed-cn"),
        Flag("peer-cert-allowed-hostname", NAMES, "",
             "Host names, of which a peer's certificate must carry one.",
             key=_PEER_TLS + "allowed-hostname"),
        Flag("peer-auto-tls", AUTO_TLS, "false",
             "Make a certificate for peers at the first start; 'mesh': of an authority that all\n"
             "members derive from the cluster's token, and peers must show one of it too.",
             key=_PEER_TLS + "auto-tls"),
        Flag("peer-client-cert-file", PATH, "",
             "Certificate this member shows when it calls a peer; empty: --peer-cert-file.",
             key=_PEER_TLS + "client-cert-file"),
        Flag("peer-client-key-file", PATH, "",
             "Key of that certificate.", key=_PEER_TLS + "client-key-file"),
        Flag("self-signed-cert-validity", UINT, "1",
             "Years that certificates made at the first start are valid."),
        Flag("peer-crl-file", PATH, "", "Revoked peer certificates.", key=None),
        Flag("cipher-suites", WORDS, "", "TLS cipher suites to offer; empty: all good."),
        Flag("cors", ORIGINS, "*", "Origins that browsers may call from (*: all)."),
        Flag("host-whitelist", HOST_NAMES, "*",
             "Host names that HTTP clients may ask for without TLS (*: all)."),
        Flag("tls-min-version", TEXT, "TLS1.2", "Oldest TLS version to speak."),
        Flag("tls-max-version", TEXT, "", "Newest TLS version to speak."),
    )),
    Section("Auth", (
        Flag("auth-token", TEXT, "simple",
             "Kind of authentication tokens and its options ('simple' or 'jwt').", _REFUSED),
        Flag("bcrypt-cost", UINT, "10", "Cost of hashing a password, from 4 to 31.", _REFUSED),
        Flag("auth-token-ttl", UINT, "300", "Seconds that an unused token lives.", _REFUSED),
    )),
    Section("Profiling and Monitoring", (
        Flag("enable-pprof", SWITCH, "false", "Serve profiles under /debug/pprof/."),
        Flag("metrics", TEXT, "basic", "'basic', or 'extensive' with histograms of RPCs."),
        Flag("listen-metrics-urls", URLS, "", "More URLs that serve metrics and health."),
    )),
    Section("Logging", (
        Flag("logger", TEXT, "zap",
             "Form of the log: 'zap' (lines of JSON) or 'capnslog' (the classic form)."),
        Flag("log-outputs", LOG_OUTPUTS, "default",
             "Where the log goes: 'stderr', 'stdout', 'systemd/journal', files,\n"
             "or 'default' (stderr)."),
        Flag("log-level", TEXT, "info", "Least level to log: debug, info, warn, error or fatal."),
        Flag("enable-log-rotation", SWITCH, "false", "Rotate the log file."),
        Flag("log-rotation-config-json", TEXT,
             '{"maxsize": 100, "maxage": 0, "maxbackups": 0, '
             '"localtime": false, "compress": false}',
             "Sizes (MB), ages (days) and numbers of rotated files."),
    )),
    Section("Experimental distributed tracing", (
        Flag("experimental-enable-distributed-tracing", SWITCH, "false",
             "Send spans to a collector.", _LATER),
        Flag(_TRACING + "address", TEXT, "localhost:4317", "Where the collector is.", _LATER),
        Flag(_TRACING + "service-name", TEXT, "etcd", "Service name in the spans.", _LATER),
        Flag(_TRACING + "instance-id", TEXT, "", "Instance id in the spans.", _LATER),
        Flag(_TRACING + "sampling-rate", INT, "0", "Spans per million to send.", _LATER),
    )),
    Section("v2 Proxy", (
        Flag("proxy", one_of("off", "readonly", "on"), "off",
             "Run as a proxy of the v2 API: 'off', 'readonly' or 'on'."),
        Flag("proxy-failure-wait", UINT, "5000",
             "Milliseconds to avoid a failed endpoint."),
        Flag("proxy-refresh-interval", UINT, "30000",
             "Milliseconds between two looks at the members."),
        Flag("proxy-dial-timeout", UINT, "1000", "Milliseconds to connect."),
        Flag("proxy-write-timeout", UINT, "5000", "Milliseconds to write.", _LATER),
        Flag("proxy-read-timeout", UINT, "0", "Milliseconds to read (0: for ever).", _LATER),
    )),
    Section("Experimental feature", (
        Flag(_X + "initial-corrupt-check", SWITCH, "false", "Check data before serving."),
        Flag(_X + "corrupt-check-time", DURATION, "0s", "Time between data checks."),
        Flag(_X + "compact-hash-check-enabled", SWITCH, "false",
             "Compare hashes of compacted revisions between members."),
        Flag(_X + "compact-hash-check-time", DURATION, "1m",
             "Time between comparisons of compaction hashes."),
        Flag(_X + "enable-v2v3", TEXT, "", "Serve the v2 API from v3 keys under a prefix.", _LATER),
        Flag(_X + "enable-lease-checkpoint", SWITCH, "false",
             "The leader tells the others how long leases still live."),
        Flag(_X + "enable-lease-checkpoint-persist", SWITCH, "false",
             "Remaining lives of leases survive a change of leader."),
        Flag(_X + "compaction-batch-limit", INT, "1000",
             "Most revisions that compaction deletes at once.", _LATER),
        Flag(_X + "compaction-sleep-interval", DURATION, "10ms",
             "Pause between two batches of compaction.", _LATER),
        Flag(_X + "peer-skip-client-san-verification", SWITCH, "false",
             "Do not compare a peer's address with its certificate."),
        Flag(_X + "watch-progress-notify-interval", DURATION, "10m",
             "Time between progress notices to idle watchers."),
        Flag(_X + "downgrade-check-time", DURATION, "5s",
             "Time between looks at a downgrade in progress (0: never)."),
        Flag(_X + "memory-mlock", SWITCH, "false", "Keep the keyspace in main memory.", _LATER),
        Flag(_X + "warning-apply-duration", DURATION, "100ms",
             "A request that takes longer than this to be applied is logged."),
        Flag(_X + "txn-mode-write-with-shared-buffer", SWITCH, "true",
             "Reads inside a write transaction share its buffer.", _LATER),
        Flag(_X + "bootstrap-defrag-threshold-megabytes", UINT, "0",
             "Defragment at start if this many megabytes come free (0: never)."),
        Flag(_X + "stop-grpc-service-on-defrag", SWITCH, "false",
             "Send clients elsewhere during defragmentation.", _LATER),
        Flag(_X + "snapshot-catchup-entries", UINT64, "5000",
             "Entries kept in memory for slow followers.",
             key=_X + "snapshot-catch-up-entries"),
    )),
    Section("Unsafe feature", (
        Flag("force-new-cluster", SWITCH, "false",
             "Make this member's data a new cluster of one member."),
        Flag("unsafe-no-fsync", SWITCH, "false", "Do not wait for the disk. Loses data."),
    )),
    Section("Only in etcdtw", (
        Flag("strict-bind", SWITCH, "false",
             "Refuse host names in listen URLs, as etcd does; else they are resolved."),
        Flag("strict-environment", SWITCH, "false",
             "Refuse a variable whose flag is also given, as etcd does; else the flag wins."),
        Flag("log-package-levels", TEXT, "",
             "Least levels of single rooms, as etcd 3.4 had them: 'replica=DEBUG,app=WARN'."),
        Flag("adopt", SWITCH, "false",
             "Take over etcd's database in the data directory though a keyspace is there already."),
        Flag("bootstrap-provider", TEXT, "",
             "Find the cluster by a provider of that name: 'name' or 'name:argument', such as\n"
             "'file:PATH', 'https://…', 'exec:COMMAND', 'last-known-good', 'chain:ONE,TWO', or an\n"
             "installed one."),
        Flag("bootstrap-timeout", DURATION, "0s",
             "How long to ask again for a cluster that is not known yet (0: 30s; for ever with\n"
             "--discovery)."),
        Flag("bootstrap-expect", UINT, "0",
             "Number of members that a list of them must have to be complete (0: any)."),
        Flag("tls-provider", TEXT, "files",
             "Take certificates from an installed provider of that name: 'name' or "
             "'name:argument'."),
        Flag("dns-server", WORDS, "",
             "Name servers to ask, 'address' or 'address:port', instead of the system's."),
        Flag("max-cluster-version", one_of("", "3.4", "3.5"), "",
             "Highest cluster version to set; with 3.4, etcd 3.4 can have the data back."),
    )),
)
# fmt: on

FLAGS: dict[str, Flag] = {flag.name: flag for section in SECTIONS for flag in section.flags}

CONFIG_FILE = Flag("config-file", PATH, "", "A file to take all settings from.", key=None)
VERSION = Flag("version", SWITCH, "false", "Show versions and exit.", key=None)
CHECK = Flag("check", CHECKS, "false", "Show what a start would do, and exit.", key=None)

OLD_NAMES = {"log-output": "log-outputs"}
"""Flags of etcd 3.3 and 3.4 that were renamed."""

OLD_ADDRESSES = {
    "addr": "advertise-client-urls",
    "bind-addr": "listen-client-urls",
    "peer-addr": "initial-advertise-peer-urls",
    "peer-bind-addr": "listen-peer-urls",
}
"""Flags of etcd 0.4 that take ``IP:port``, and the flags of URLs that took their places."""

GONE = ("peers", "peers-file")
"""Flags of etcd 0.4 that are refused, with a pointer to ``--initial-cluster``."""

OLD_FLAGS: dict[str, Flag] = {
    **{
        name: Flag(name, IP_PORT, "", f"Former form of --{new}.", key=None)
        for name, new in OLD_ADDRESSES.items()
    },
    **{
        name: Flag(name, refused(name, "initial-cluster"), "", "Is refused.", key=None)
        for name in GONE
    },
}

IGNORED_SWITCHES = frozenset(
    {
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "config",
        "debug",
        "force",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
        "snapshot",
        "v",
        "vv",
    }
)
"""Words of older releases: accepted, alone or as ``--word=value``, with a notice."""
