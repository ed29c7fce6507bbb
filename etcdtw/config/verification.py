"""Checks of a whole configuration, in etcd's order and words; all that fail are reported."""

from __future__ import annotations

import json
from collections.abc import Iterator

from etcdtw.api.gateway.gosyntax import syntax_error
from etcdtw.config.flags import DEFAULT_INITIAL_CLUSTER, FLAGS, Feature
from etcdtw.config.gotext import parse_duration, parse_integer, quote
from etcdtw.config.kinds import MESH, FlagValue
from etcdtw.config.problems import Notice
from etcdtw.config.urls import host_of, is_ip_address, is_loopback, is_secure, parse_url
from etcdtw.config.values import Values
from etcdtw.dns.resolvers import server_address
from etcdtw.errors import ConfigError
from etcdtw.observe.levels import parse_package_levels
from etcdtw.observe.lines import FORMS
from etcdtw.observe.logging import STANDARD
from etcdtw.observe.rotation import rotation_from_json

ELECTION_TIMEOUT_MAX = 50_000
"""Milliseconds."""
REQUEST_BYTES_WARNED = 10 * 1024 * 1024
LOG_LEVELS = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
_V3_DISCOVERY = (
    "discovery-token",
    "discovery-endpoints",
    "discovery-cert",
    "discovery-key",
    "discovery-cacert",
    "discovery-user",
    "discovery-password",
)
_OTHER_WAYS = ("discovery", "discovery-endpoints", "discovery-srv", "discovery-srv-name")
UNAVAILABLE = "is not available in this build yet"


class Checked:
    """Typed looks at values, and problems that know where a value came from."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def text(self, name: str) -> str:
        value = self.values[name].value
        assert isinstance(value, str), f"{name} is no text"
        return value

    def number(self, name: str) -> float:
        value = self.values[name].value
        assert isinstance(value, int | float), f"{name} is no number"
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values[name].value
        assert isinstance(value, tuple), f"{name} is no list"
        return tuple(str(each) for each in value)

    def auto_tls(self, prefix: str) -> FlagValue:
        return self.values[f"{prefix}auto-tls"].value

    def is_set(self, name: str) -> bool:
        return self.values[name].is_set

    def problem(self, name: str, reason: str, exit_code: int = 1) -> ConfigError:
        return ConfigError(name, self.values[name].source, reason, exit_code)


def verify(found: Checked, *, from_file: bool) -> Iterator[ConfigError]:
    """What etcd refuses before it starts anything (its "failed to verify flags")."""
    yield from _logging_problems(found)
    yield from _url_problems(found)
    yield from _bootstrap_problems(found)
    yield from _timing_problems(found)
    if (
        not from_file
        and found.is_set("listen-client-urls")
        and not found.is_set("advertise-client-urls")
        and not _may_be_proxy(found)
    ):
        yield found.problem(
            "advertise-client-urls",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        )
    mode = found.text("auto-compaction-mode")
    if mode not in ("", "periodic", "revision"):
        yield found.problem("auto-compaction-mode", f"unknown auto-compaction-mode {quote(mode)}")
    checkpoint = "experimental-enable-lease-checkpoint"
    if found.number(f"{checkpoint}-persist") and not found.number(checkpoint):
        yield found.problem(
            f"{checkpoint}-persist", f"setting {checkpoint}-persist requires {checkpoint}"
        )
    hash_check = "experimental-compact-hash-check-time"
    if found.number(hash_check) <= 0:
        yield found.problem(hash_check, f"--{hash_check} must be >0 (set to 0s)")


def _may_be_proxy(found: Checked) -> bool:
    """A proxy advertises nothing, and discovery may find the cluster full."""
    falls_back = found.text("discovery-fallback") == "proxy"
    return found.text("proxy") != "off" or bool(found.text("discovery") and falls_back)


def _logging_problems(found: Checked) -> Iterator[ConfigError]:
    logger = found.text("logger")
    if logger not in FORMS:
        yield found.problem("logger", f"unknown logger option {quote(logger)}")
    outputs = found.texts("log-outputs")
    if "default" in outputs and len(outputs) > 1:
        yield found.problem("log-outputs", 'multi logoutput for "default" is not supported yet')
    if "" in outputs:
        yield found.problem(
            "log-outputs", 'couldn\'t open sink "": open : no such file or directory'
        )
    if found.number("enable-log-rotation"):
        yield from _rotation_problems(found)
    try:
        parse_package_levels(found.text("log-package-levels"))
    except ValueError as error:
        yield found.problem("log-package-levels", str(error))
    level = found.text("log-level")
    if level and level.lower() not in LOG_LEVELS:
        # etcd dies of a panic here, hence the text and the code.
        yield found.problem("log-level", f"panic: unrecognized level: {quote(level)}", 2)


def _rotation_problems(found: Checked) -> Iterator[ConfigError]:
    outputs = found.texts("log-outputs")
    if len(outputs) != 1 or outputs[0] in STANDARD:
        yield found.problem(
            "log-outputs",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        )
    name = "log-rotation-config-json"
    text = found.text(name)
    try:
        rotation_from_json(json.loads(text))
    except json.JSONDecodeError:
        reason = syntax_error(text.encode())
        yield found.problem(name, f"improperly formatted log rotation config: {reason}")
    except ValueError as error:
        yield found.problem(name, f"invalid log rotation config: {error}")


def _url_problems(found: Checked) -> Iterator[ConfigError]:
    strict = found.number("strict-bind")
    for name in ("listen-peer-urls", "listen-client-urls", "listen-metrics-urls"):
        for url in found.texts(name):
            host = host_of(url)
            if url.startswith("unix") or host == "localhost" or is_ip_address(host):
                continue
            if strict or not host:
                yield found.problem(name, f"expected IP in URL for binding ({url})")
    for name in ("initial-advertise-peer-urls", "advertise-client-urls"):
        for url in found.texts(name):
            if not host_of(url):
                given = quote(",".join(found.texts(name)))
                yield found.problem(
                    name, f'--{name} {given} must be "host:port" (unexpected empty host ({url}))'
                )


def _bootstrap_problems(found: Checked) -> Iterator[ConfigError]:
    ways = [
        name
        for name in ("initial-cluster", "discovery", "discovery-srv", "discovery-endpoints")
        if found.values[name].value and found.is_set(name)
    ]
    chained = found.text("bootstrap-provider").startswith("chain:")
    if len(ways) > 1 and not chained:
        # etcd knows the fourth way, and names it, from 3.6 on.
        v3 = ', "discovery-endpoints"' if "discovery-endpoints" in ways else ""
        yield found.problem(
            ways[1],
            "multiple discovery or bootstrap flags are set. Choose one of "
            f'"initial-cluster", "discovery"{v3} or "discovery-srv"',
        )
    yield from _v3_discovery_problems(found)


def _v3_discovery_problems(found: Checked) -> Iterator[ConfigError]:
    """The rules of etcd 3.6."""
    endpoints = found.texts("discovery-endpoints")
    of_v3 = [name for name in _V3_DISCOVERY if found.values[name].value]
    if found.text("discovery-proxy") and of_v3:
        yield found.problem(
            of_v3[0],
            "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings "
            f"({', '.join(_V3_DISCOVERY)}) are set",
        )
    if bool(found.text("discovery-token")) != bool(endpoints):
        missing = "discovery-token" if endpoints else "discovery-endpoints"
        yield found.problem(missing, "both --discovery-token and --discovery-endpoints must be set")
    if not all(each.strip() for each in endpoints):
        yield found.problem(
            "discovery-endpoints", "--discovery-endpoints must not contain empty endpoints"
        )


def _timing_problems(found: Checked) -> Iterator[ConfigError]:
    heartbeat, election = found.number("heartbeat-interval"), found.number("election-timeout")
    if heartbeat == 0:
        yield found.problem("heartbeat-interval", "--heartbeat-interval must be >0 (set to 0ms)")
    if election == 0:
        yield found.problem("election-timeout", "--election-timeout must be >0 (set to 0ms)")
    elif 5 * heartbeat > election:
        yield found.problem(
            "election-timeout",
            f"--election-timeout[{election}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat}ms]",
        )
    elif election > ELECTION_TIMEOUT_MAX:
        yield found.problem(
            "election-timeout",
            f"--election-timeout[{election}ms] is too long, and should be set less than "
            f"{ELECTION_TIMEOUT_MAX}ms",
        )


def start_problems(found: Checked) -> Iterator[ConfigError]:
    """What etcd refuses while it starts, and what this build cannot do yet."""
    yield from _tls_problems(found)
    if found.text("bootstrap-provider") and found.text("proxy") != "off":
        yield found.problem(
            "bootstrap-provider",
            "a proxy is no member: it finds the cluster by --discovery, --discovery-srv or "
            "--initial-cluster",
        )
    for each in found.texts("dns-server"):
        try:
            server_address(each)
        except ValueError as problem:
            yield found.problem("dns-server", str(problem))
    try:
        compaction_retention(
            found.text("auto-compaction-mode"), found.text("auto-compaction-retention")
        )
    except ValueError as problem:
        yield found.problem("auto-compaction-retention", str(problem))
    kind, _, options = found.text("auth-token").partition(",")
    if kind not in ("simple", "jwt") or (kind == "jwt" and "sign-method=" not in options):
        yield found.problem("auth-token", "auth: invalid auth options")
    asked_for = found.is_set("enable-v2") and found.number("enable-v2")
    if asked_for and found.text("v2-deprecation") != "not-yet":
        phase = found.text("v2-deprecation")
        yield found.problem(
            "enable-v2", f"--enable-v2 and --v2-deprecation={phase} are mutually exclusive"
        )
    for name, flag in FLAGS.items():
        if flag.feature is Feature.REFUSED and _differs(found, name):
            yield found.problem(name, f"--{name} {UNAVAILABLE}")


def _tls_problems(found: Checked) -> Iterator[ConfigError]:
    for url in found.texts("listen-peer-urls"):
        if is_secure(url) and not _has_certificate(found, "peer-"):
            yield found.problem(
                "listen-peer-urls",
                f"cannot listen on TLS for {parse_url(url).host}: "
                "KeyFile and CertFile are not presented",
            )
    for url in found.texts("listen-client-urls"):
        if is_secure(url) and not _has_certificate(found, ""):
            yield found.problem(
                "listen-client-urls",
                "TLS key/cert (--cert-file, --key-file) must be provided for client url "
                f"{url} with HTTPS scheme",
            )
    for prefix in ("peer-", ""):
        if _uses_mesh(found, prefix):
            yield from _mesh_problems(found, prefix)


def _mesh_problems(found: Checked, prefix: str) -> Iterator[ConfigError]:
    """What would have to be left out, so that nobody believes that it counts."""
    for name in (f"{prefix}trusted-ca-file", f"{prefix}ca-file"):
        if found.text(name):
            yield found.problem(
                name,
                f"--{prefix}auto-tls=mesh has an authority of its own: leave out --{name}, or give "
                f"--{prefix}cert-file and --{prefix}key-file instead of --{prefix}auto-tls",
            )
    if _has_plugin(found):
        yield found.problem(
            "tls-provider",
            f"--{prefix}auto-tls=mesh and --tls-provider={found.text('tls-provider')} are mutually "
            "exclusive",
        )


def _uses_mesh(found: Checked, prefix: str) -> bool:
    return found.auto_tls(prefix) == MESH and not _has_files(found, prefix)


def _has_certificate(found: Checked, prefix: str) -> bool:
    return bool(_has_files(found, prefix) or found.auto_tls(prefix) or _has_plugin(found))


def _has_files(found: Checked, prefix: str) -> bool:
    """Half a pair is another problem, which whoever opens the files tells."""
    return bool(found.text(f"{prefix}cert-file") or found.text(f"{prefix}key-file"))


def _has_plugin(found: Checked) -> bool:
    return found.text("tls-provider") not in ("", "files")


def _differs(found: Checked, name: str) -> bool:
    flag = FLAGS[name]
    return found.values[name].value != flag.kind.parse(flag.default)


def notices(found: Checked) -> Iterator[Notice]:
    """What works, but perhaps not as the operator thinks."""
    for name, flag in FLAGS.items():
        if flag.feature is Feature.LATER and _differs(found, name):
            yield Notice(
                "flag is accepted but has no effect in this build yet",
                {"flag": name, "source": found.values[name].source},
            )
    for listen, advertise in (
        ("listen-client-urls", "advertise-client-urls"),
        ("listen-peer-urls", "initial-advertise-peer-urls"),
    ):
        local = [url for url in found.texts(advertise) if is_loopback(host_of(url))]
        if local and not all(is_loopback(host_of(url)) for url in found.texts(listen)):
            yield Notice(
                "advertised URL can only be reached from this machine",
                {"flag": advertise, "urls": ",".join(local)},
            )
    yield from _unused_tls(found)
    if found.number("max-request-bytes") > REQUEST_BYTES_WARNED:
        yield Notice(
            "exceeded recommended request limit",
            {"max-request-bytes": str(found.number("max-request-bytes"))},
        )
    if not found.text("data-dir"):
        yield Notice(
            "'data-dir' was empty; using default", {"data-dir": f"{found.text('name')}.etcd"}
        )


def _unused_tls(found: Checked) -> Iterator[Notice]:
    """Certificates that plain URLs leave unused, in etcd's words."""
    for side, prefix in (("peer", "peer-"), ("client", "")):
        given = _has_files(found, prefix)
        if given and found.auto_tls(prefix):
            yield Notice(f"ignoring {side} auto TLS since certs given", {})
        asked = f"{prefix}client-cert-auth"
        for url in found.texts(f"listen-{side}-urls"):
            if url.startswith(("https:", "unix")):
                continue
            if given:
                yield Notice(
                    "scheme is HTTP while key and cert files are present; "
                    "ignoring key and cert files",
                    {f"{side}-url": url},
                )
            if found.number(asked):
                yield Notice(
                    f"scheme is HTTP while --{asked} is enabled; "
                    "ignoring client cert auth for this URL",
                    {f"{side}-url": url},
                )
            if _uses_mesh(found, prefix):
                yield Notice(
                    f"scheme is HTTP while --{prefix}auto-tls=mesh is given; this URL is neither "
                    "encrypted nor authenticated",
                    {f"{side}-url": url},
                )


def compaction_retention(mode: str, text: str) -> float:
    """Seconds to keep in periodic mode, revisions to keep in revision mode.

    A duration in revision mode is taken as its nanoseconds, and no text as none, as etcd does.
    """
    if not text:
        return 0.0
    try:
        count = parse_integer(text, 0, (1 << 63) - 1)
    except ValueError:
        try:
            nanoseconds = parse_duration(text)
        except ValueError as problem:
            raise ValueError(f"error parsing CompactionRetention: {problem}") from None
        return nanoseconds if mode == "revision" else nanoseconds / 1e9
    return count if mode == "revision" else count * 3600.0


def initial_cluster_text(found: Checked) -> str:
    """The list of members after etcd's two rules about its default.

    The default names the member ``default``: another name takes its place, with the advertised
    URLs. Another way to bootstrap clears it.
    """
    text = found.text("initial-cluster")
    other_way = any(found.values[name].value for name in _OTHER_WAYS)
    if other_way and not found.is_set("initial-cluster"):
        return ""
    name = found.text("name")
    if text == DEFAULT_INITIAL_CLUSTER and name != "default":
        urls = found.texts("initial-advertise-peer-urls")
        return ",".join(f"{name or 'default'}={url}" for url in urls)
    return text
