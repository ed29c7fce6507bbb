"""The command line of ``gateway start``, in the forms and words of etcd's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etcdtw.config.gotext import parse_duration
from etcdtw.config.urls import split_host_port
from etcdtw.dns.srv import Service

DEFAULT_PORT = 2379
HELP = """\
start the gateway

Usage:
  etcdtw gateway start [flags]

Flags:
      --discovery-srv string        DNS domain used to bootstrap initial cluster
      --discovery-srv-name string   service name to query when using DNS discovery
      --dns-server strings          name servers to ask instead of the system's
      --endpoints strings           comma separated etcd cluster endpoints \
(default [127.0.0.1:2379])
  -h, --help                        help for start
      --insecure-discovery          accept insecure SRV records
      --lenient-endpoints           take https:// in --endpoints, whose TLS is passed through
      --listen-addr string          listen address (default "127.0.0.1:23790")
      --log-format string           form of the log, zap or capnslog (default "zap")
      --retry-delay duration        duration of delay before retrying failed endpoints \
(default 1m0s)
      --trusted-ca-file string      path to the client server TLS CA file for verifying the \
discovered endpoints when discovery-srv is provided.
"""
_TEXTS = (
    "listen-addr",
    "discovery-srv",
    "discovery-srv-name",
    "trusted-ca-file",
    "log-format",
)
_LISTS = ("endpoints", "dns-server")
_SWITCHES = ("insecure-discovery", "lenient-endpoints")
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


class GatewayError(Exception):
    """A command line that cannot be; the text is the message."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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
    """The options, or the help text if that is asked for. GatewayError."""
    values: dict[str, list[str]] = {}
    left = list(words)
    is_start = False
    while left:
        word = left.pop(0)
        if word in ("-h", "--help"):
            return HELP
        if word == "start" and not is_start:
            is_start = True  # flags may stand before it
            continue
        if not word.startswith("--"):
            raise GatewayError(f'Error: unknown command "{word}" for "etcd gateway start"')
        name, has_value, value = word[2:].partition("=")
        if name not in (*_TEXTS, *_LISTS, *_SWITCHES, "retry-delay"):
            raise GatewayError(f"Error: unknown flag: --{name}")
        if not has_value:
            if name in _SWITCHES:
                value = "true"
            elif not left:
                raise GatewayError(f"Error: flag needs an argument: --{name}")
            else:
                value = left.pop(0)
        # Lists add up, as pflag's do; of other flags the last one counts.
        values[name] = [*values.get(name, ()), value] if name in _LISTS else [value]
    return _options(values)


def _options(values: dict[str, list[str]]) -> GatewayOptions:
    given = {name: found[0] for name, found in values.items() if name in _TEXTS}
    switches = {name: _switch(name, values.get(name, ["false"])[0]) for name in _SWITCHES}
    delay = values.get("retry-delay", ["1m0s"])[0]
    try:
        seconds = parse_duration(delay) / 1e9
    except ValueError as error:
        raise _invalid(delay, "retry-delay", str(error)) from None
    if seconds <= 0:
        raise _invalid(delay, "retry-delay", "a delay must be longer than nothing")
    log_format = given.get("log-format", "zap")
    if log_format not in ("zap", "capnslog"):
        raise _invalid(log_format, "log-format", "it is zap or capnslog")
    host, port = _listen(given.get("listen-addr", "127.0.0.1:23790"))
    endpoints = _words(values.get("endpoints", ["127.0.0.1:2379"]))
    return GatewayOptions(
        listen_host=host,
        listen_port=port,
        endpoints=tuple(_endpoint(each, switches["lenient-endpoints"]) for each in endpoints),
        discovery_srv=given.get("discovery-srv", ""),
        discovery_srv_name=given.get("discovery-srv-name", ""),
        insecure_discovery=switches["insecure-discovery"],
        trusted_ca_file=given.get("trusted-ca-file", ""),
        retry_seconds=seconds,
        log_format=log_format,
        dns_servers=tuple(_words(values.get("dns-server", []))),
    )


def _invalid(value: str, name: str, reason: str) -> GatewayError:
    return GatewayError(f'Error: invalid argument "{value}" for "--{name}" flag: {reason}')


def _switch(name: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise _invalid(value, name, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return value in _TRUE


def _words(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in value.split(",") if word]


def _listen(text: str) -> tuple[str, int]:
    try:
        host, port = split_host_port(text)
        number = int(port)
    except ValueError:
        raise GatewayError(f"failed to validate listen address: {text}") from None
    if not 0 <= number < 65536:
        raise GatewayError(f"failed to validate listen address: {text}")
    return host, number


def _endpoint(text: str, lenient: bool) -> Service:
    """``host:port`` or ``host``; a scheme says nothing that the gateway could heed."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme == "https" and not lenient:
        raise GatewayError(
            f'error parsing endpoint "{text}": the gateway does not terminate TLS; it passes what '
            f"clients send on as it is, TLS included: use {rest}",
            2,
        )
    if mark and scheme not in ("http", "https"):
        raise GatewayError(f'error parsing endpoint "{text}": {scheme} is no scheme for it', 2)
    found = (rest if mark else text).rstrip("/")
    try:
        host, port = split_host_port(found)
        number = int(port)
    except ValueError:
        host, number = found.strip("[]"), DEFAULT_PORT
        if not host or (":" in found and not found.startswith("[")):
            raise GatewayError(f'error parsing endpoint "{text}"') from None
    if not host or not 0 < number < 65536:
        raise GatewayError(f'error parsing endpoint "{text}"')
    return Service(host, number)
