"""The command line of ``gateway start``, in the forms and words of etcd's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etcdtw.app.command_flags import CommandError, Flag, help_of, invalid, parse_flags
from etcdtw.config.urls import split_host_port
from etcdtw.dns.srv import Service

DEFAULT_PORT = 2379
COMMAND = "gateway start"
# fmt: off
FLAGS = (
    Flag("discovery-srv", "string", "DNS domain used to bootstrap initial cluster"),
    Flag("discovery-srv-name", "string", "service name to query when using DNS discovery"),
    Flag("dns-server", "strings", "name servers to ask instead of the system's"),
    Flag("endpoints", "strings", "comma separated etcd cluster endpoints", "127.0.0.1:2379"),
    Flag("insecure-discovery", "bool", "accept insecure SRV records"),
    Flag("lenient-endpoints", "bool",
         "take https:// in --endpoints, whose TLS is passed through"),
    Flag("listen-addr", "string", "listen address", "127.0.0.1:23790"),
    Flag("log-format", "string", "form of the log, zap or capnslog", "zap"),
    Flag("retry-delay", "duration", "duration of delay before retrying failed endpoints", "1m0s"),
    Flag("trusted-ca-file", "string",
         "path to the client server TLS CA file for verifying the discovered endpoints when "
         "discovery-srv is provided."),
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """What a gateway is started with; times in seconds."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 23790
    endpoints: tuple[Service, ...] = (Service("127.0.0.1", DEFAULT_PORT),)
    discovery_srv: str = ""
    discovery_srv_name: str = ""
    insecure_discovery: bool = False
    trusted_ca_file: str = ""
    retry_seconds: float = 60.0
    log_format: str = "zap"
    dns_servers: tuple[str, ...] = ()

    @property
    def listen_addr(self) -> str:
        return Service(self.listen_host, self.listen_port).host_port


def parse_gateway(words: Sequence[str]) -> GatewayOptions | str:
    """The options, or the help text if that is asked for. CommandError."""
    values = parse_flags(words, FLAGS, COMMAND)
    if values is None:
        return help_of("start the gateway", COMMAND, FLAGS)
    delay = values.pop("retry_delay")
    if delay <= 0:
        raise invalid(f"{delay:g}s", "retry-delay", "a delay must be longer than nothing")
    log_format = values["log_format"]
    if log_format not in ("zap", "capnslog"):
        raise invalid(log_format, "log-format", "it is zap or capnslog")
    lenient = values.pop("lenient_endpoints")
    if not values["endpoints"] and not values["discovery_srv"]:
        raise CommandError("no endpoints found")
    host, port = listen_address(values.pop("listen_addr"))
    return GatewayOptions(
        listen_host=host,
        listen_port=port,
        endpoints=tuple(_endpoint(each, lenient) for each in values.pop("endpoints")),
        retry_seconds=delay,
        dns_servers=values.pop("dns_server"),
        **values,
    )


def listen_address(text: str) -> tuple[str, int]:
    try:
        host, port = split_host_port(text)
        number = int(port)
    except ValueError:
        raise CommandError(f"failed to validate listen address: {text}") from None
    if not 0 <= number < 65536:
        raise CommandError(f"failed to validate listen address: {text}")
    return host, number


def _endpoint(text: str, lenient: bool) -> Service:
    """``host:port`` or ``host``; a scheme says nothing that the gateway could heed."""
    scheme, mark, rest = text.strip().partition("://")
    if mark and scheme == "https" and not lenient:
        raise CommandError(
            f'error parsing endpoint "{text}": the gateway does not terminate TLS; it passes what '
            f"clients send on as it is, TLS included: use {rest}",
            2,
        )
    if mark and scheme not in ("http", "https"):
        raise CommandError(f'error parsing endpoint "{text}": {scheme} is no scheme for it', 2)
    found = (rest if mark else scheme).rstrip("/")
    try:
        host, port = split_host_port(found)
        number = int(port)
    except ValueError:
        host, number = found.strip("[]"), DEFAULT_PORT
        if not host or (":" in found and not found.startswith("[")):
            raise CommandError(f'error parsing endpoint "{text}"') from None
    if not host or not 0 < number < 65536:
        raise CommandError(f'error parsing endpoint "{text}"')
    return Service(host, number)
