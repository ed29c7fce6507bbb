"""The command line of ``grpc-proxy start``, in the forms and words of etcd's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etcdtw.app.command_flags import CommandError, Flag, help_of, invalid, parse_flags
from etcdtw.config.gotext import quote
from etcdtw.config.urls import parse_url, split_host_port

COMMAND = "grpc-proxy start"
TLS_VERSIONS = ("", "TLS1.2", "TLS1.3")
# fmt: off
FLAGS = (
    Flag("advertise-client-url", "string",
         "advertise address to register (must be reachable by client)", "127.0.0.1:23790"),
    Flag("auto-tls", "bool", "proxy TLS using generated certificates"),
    Flag("cacert", "string",
         "verify certificates of TLS-enabled secure etcd servers using this CA bundle"),
    Flag("cert", "string",
         "identify secure connections with etcd servers using this TLS certificate file"),
    Flag("cert-file", "string",
         "identify secure connections to the proxy using this TLS certificate file"),
    Flag("client-crl-file", "string", "proxy client certificate revocation list file."),
    Flag("data-dir", "string", "Data directory for persistent data", "default.proxy"),
    Flag("debug", "bool", "Enable debug-level logging for grpc-proxy."),
    Flag("dial-keepalive-time", "duration",
         "keepalive time for client(grpc-proxy) connections (default 0, disable)."),
    Flag("dial-keepalive-timeout", "duration",
         "keepalive timeout for client(grpc-proxy) connections (default 20s).", "20s"),
    Flag("discovery-srv", "string",
         "domain name to query for SRV records describing cluster endpoints"),
    Flag("discovery-srv-name", "string", "service name to query when using DNS discovery"),
    Flag("dns-server", "strings", "name servers to ask instead of the system's"),
    Flag("enable-pprof", "bool",
         "Enable runtime profiling data via HTTP server. Address is at client URL + "
         '"/debug/pprof/"'),
    Flag("endpoints", "strings", "comma separated etcd cluster endpoints", "127.0.0.1:2379"),
    Flag("endpoints-auto-sync-interval", "duration",
         "etcd endpoints auto sync interval (disabled by default)"),
    Flag("experimental-leasing-prefix", "string",
         "leasing metadata prefix for disconnected linearized reads."),
    Flag("experimental-serializable-ordering", "bool",
         "Ensure serializable reads have monotonically increasing store revisions across "
         "endpoints."),
    Flag("grpc-keepalive-interval", "duration",
         "Frequency duration of server-to-client ping to check if a connection is alive (0 to "
         "disable).", "2h0m0s"),
    Flag("grpc-keepalive-min-time", "duration",
         "Minimum interval duration that a client should wait before pinging proxy.", "5s"),
    Flag("grpc-keepalive-timeout", "duration",
         "Additional duration of wait before closing a non-responsive connection (0 to disable).",
         "20s"),
    Flag("insecure-discovery", "bool", "accept insecure SRV records"),
    Flag("insecure-skip-tls-verify", "bool",
         "skip authentication of etcd server TLS certificates (CAUTION: this option should be "
         "enabled only for testing purposes)"),
    Flag("key", "string", "identify secure connections with etcd servers using this TLS key file"),
    Flag("key-file", "string", "identify secure connections to the proxy using this TLS key file"),
    Flag("listen-addr", "string", "listen address", "127.0.0.1:23790"),
    Flag("listen-cipher-suites", "strings",
         "Comma-separated list of supported TLS cipher suites between client/proxy (empty will be "
         "auto-populated by Go)."),
    Flag("max-concurrent-streams", "uint32",
         "Maximum concurrent streams that each client can open at a time.", "4294967295"),
    Flag("max-recv-bytes", "int",
         "message receive limits in bytes (default value is math.MaxInt32)", "2147483647"),
    Flag("max-send-bytes", "int",
         "message send limits in bytes (default value is 1.5 MiB)", "1572864"),
    Flag("metrics-addr", "string",
         "listen for endpoint /metrics requests on an additional interface"),
    Flag("namespace", "string", "string to prefix to all keys for namespacing requests"),
    Flag("permit-without-stream", "bool",
         "Enable client(grpc-proxy) to send keepalive pings even with no active RPCs."),
    Flag("resolver-prefix", "string",
         "prefix to use for registering proxy (must be shared with other grpc-proxy members)"),
    Flag("resolver-ttl", "int", "specify TTL, in seconds, when registering proxy endpoints"),
    Flag("self-signed-cert-validity", "uint",
         "The validity period of the proxy certificates, unit is year", "1"),
    Flag("tls-max-version", "string",
         "Maximum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3 (empty "
         "defers to Go)."),
    Flag("tls-min-version", "string",
         "Minimum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3.", "TLS1.2"),
    Flag("trusted-ca-file", "string",
         "verify certificates of TLS-enabled secure proxy using this CA bundle"),
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class GrpcProxyOptions:
    """What a gRPC proxy is started with, by the names of the flags; times in seconds."""

    advertise_client_url: str
    auto_tls: bool
    cacert: str
    cert: str
    cert_file: str
    client_crl_file: str
    data_dir: str
    debug: bool
    dial_keepalive_time: float
    dial_keepalive_timeout: float
    discovery_srv: str
    discovery_srv_name: str
    dns_server: tuple[str, ...]
    enable_pprof: bool
    endpoints: tuple[str, ...]
    endpoints_auto_sync_interval: float
    experimental_leasing_prefix: str
    experimental_serializable_ordering: bool
    grpc_keepalive_interval: float
    grpc_keepalive_min_time: float
    grpc_keepalive_timeout: float
    insecure_discovery: bool
    insecure_skip_tls_verify: bool
    key: str
    key_file: str
    listen_addr: str
    listen_cipher_suites: tuple[str, ...]
    max_concurrent_streams: int
    max_recv_bytes: int
    max_send_bytes: int
    metrics_addr: str
    namespace: str
    permit_without_stream: bool
    resolver_prefix: str
    resolver_ttl: int
    self_signed_cert_validity: int
    tls_max_version: str
    tls_min_version: str
    trusted_ca_file: str

    @property
    def serves_tls(self) -> bool:
        return bool(self.trusted_ca_file or self.cert_file or self.key_file or self.auto_tls)

    @property
    def calls_tls(self) -> bool:
        """Whether endpoints without a scheme are called over TLS."""
        return bool(self.cacert or self.cert or self.key or self.insecure_skip_tls_verify)

    @property
    def listen_url(self) -> str:
        return f"{'https' if self.serves_tls else 'http'}://{self.listen_addr}"


def parse_grpc_proxy(words: Sequence[str]) -> GrpcProxyOptions | str:
    """The options, or the help text if that is asked for. CommandError."""
    values = parse_flags(words, FLAGS, COMMAND)
    if values is None:
        return help_of("start the grpc proxy", COMMAND, FLAGS)
    options = GrpcProxyOptions(**values)
    for refusal in _refusals(options):
        raise refusal
    return options


def _refusals(options: GrpcProxyOptions) -> Iterator[CommandError]:
    """What is wrong, in the order of etcd's checks."""
    prefix, ttl = options.resolver_prefix, options.resolver_ttl
    if prefix and ttl < 1:
        yield CommandError(f"invalid resolver-ttl {ttl}")
    if not prefix and ttl > 0:
        yield CommandError(f"invalid resolver-prefix {quote(prefix)}")
    if prefix and not options.advertise_client_url:
        yield CommandError(f"invalid advertise-client-url {quote('')}")
    if options.auto_tls and not options.self_signed_cert_validity:
        yield CommandError("selfSignedCertValidity is invalid,it should be greater than 0")
    for side in ("min", "max"):
        version = getattr(options, f"tls_{side}_version")
        if version not in TLS_VERSIONS:
            yield CommandError(
                f"tls-{side}-version is invalid: unexpected TLS version {quote(version)} "
                "(must be one of: TLS1.2, TLS1.3)"
            )
    if options.tls_max_version and options.tls_min_version > options.tls_max_version:
        yield CommandError(
            f"min version ({options.tls_min_version}) is greater than max version "
            f"({options.tls_max_version})"
        )
    if options.tls_min_version == "TLS1.3" and options.listen_cipher_suites:
        yield CommandError("cipher suites cannot be configured when only TLS1.3 is enabled")
    if options.experimental_leasing_prefix:
        yield CommandError(
            "--experimental-leasing-prefix is not available: this proxy does not answer "
            "linearizable reads from a cache; leave the flag out, reads go to the cluster"
        )
    for name in ("endpoints_auto_sync_interval", "dial_keepalive_time", "dial_keepalive_timeout"):
        if getattr(options, name) < 0:
            yield invalid(
                f"{getattr(options, name):g}s", name.replace("_", "-"), "a time is never negative"
            )
    if not options.endpoints and not options.discovery_srv:
        yield CommandError("etcdclient: no available endpoints")
    yield from _bad_listen_address(options.listen_addr)
    if options.metrics_addr:
        yield from _bad_metrics_address(options)


def _bad_listen_address(text: str) -> Iterator[CommandError]:
    try:
        _, port = split_host_port(text)
    except ValueError as error:
        yield CommandError(f"listen tcp: {error}")
        return
    if not port.isdecimal() or int(port) > 65535:
        yield CommandError(f"listen tcp: address {port}: invalid port")


def _bad_metrics_address(options: GrpcProxyOptions) -> Iterator[CommandError]:
    text = options.metrics_addr
    try:
        url = parse_url(text)
        split_host_port(url.host)
    except ValueError:
        yield CommandError(f"cannot parse {quote(text)}")
        return
    if url.scheme not in ("http", "https"):
        yield CommandError(f"cannot parse {quote(text)}: the scheme is http or https")
    if url.scheme == "https" and not options.serves_tls:
        yield CommandError(
            f"cannot listen on TLS for {url.host}: KeyFile and CertFile are not presented"
        )
