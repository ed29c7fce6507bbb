"""What a dry run says, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.error import DNSLookupError

from etcdtw.app.earlier import has_log
from etcdtw.app.listening import address_of
from etcdtw.app.proxy_mode import CLUSTER_FILE, proxy_dir, way_to_members
from etcdtw.app.secure import client_tls, peer_tls
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.interfaces import ClusterPlan, PlannedMember
from etcdtw.bootstrap.static import members_text
from etcdtw.config.problems import Notice
from etcdtw.config.urls import host_of, is_ip_address, is_loopback, is_secure
from etcdtw.errors import ConfigError, StorageError
from etcdtw.ids import format_id
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.wal import WalSnapshot, decode_metadata, read_wal, valid_snapshots
from etcdtw.tls.interfaces import MeshSettings, TLSSettings

LOOKUP_SECONDS = (1, 2)
EXPIRES_SOON = timedelta(days=30)


def data_dir_line(settings: MemberSettings) -> str:
    """What the data directory belongs to."""
    path = settings.data_dir
    if has_log(settings):
        return f"data directory: {path}, of {_own_log(settings)}; it goes on with that"
    if os.path.isdir(proxy_dir(settings)):
        return f"data directory: {path}, of a proxy"
    return f"data directory: {path}, {'without a log' if os.path.isdir(path) else 'new'}"


def _own_log(settings: MemberSettings) -> str:
    fs, path = OsFilesystem(), settings.wal_path
    try:
        known = valid_snapshots(fs, path)
        contents = read_wal(fs, path, known[-1] if known else WalSnapshot())
        member, cluster = decode_metadata(contents.metadata or b"")
    except (OSError, StorageError, ValueError) as error:
        return f"a member whose log cannot be read ({error})"
    return f"member {format_id(member)} in cluster {format_id(cluster)}"


def proxy_lines(settings: MemberSettings) -> Iterator[str]:
    """What a v2 proxy goes by."""
    known = os.path.join(proxy_dir(settings), CLUSTER_FILE)
    way = way_to_members(settings)
    value = getattr(settings, way.replace("-", "_"))
    given = {
        "initial-cluster": members_text(settings.initial_cluster),
        "discovery-endpoints": ",".join(settings.discovery_endpoints),
    }.get(way, value)
    source = known if os.path.exists(known) else f"--{way} {given}"
    mode = "readonly" if settings.proxy == "readonly" else "on"
    yield f"runs as: v2 proxy, {mode}; the members are those of {source}"


def listening_lines(settings: MemberSettings) -> Iterator[str]:
    """Where it listens, with addresses where names stand, and what it tells others."""
    for what, flag, urls in (
        ("listens for peers", "listen-peer-urls", settings.listen_peer_urls),
        ("listens for clients", "listen-client-urls", settings.listen_client_urls),
        ("listens for metrics", "listen-metrics-urls", settings.listen_metrics_urls),
    ):
        for url in urls:
            yield f"{what}: {url}{_bound(flag, url)}"
    yield f"tells peers: {','.join(settings.initial_advertise_peer_urls)}"
    yield f"tells clients: {','.join(settings.advertise_client_urls)}"


def _bound(flag: str, url: str) -> str:
    if url.startswith("unix") or is_ip_address(host_of(url)):
        return ""
    try:
        return f" ({address_of(flag, host_of(url)) or 'all addresses'})"
    except ConfigError as error:
        return f" ({error.reason})"


def tls_lines(settings: MemberSettings) -> Iterator[str]:
    """The material of both sides, and what is wrong with it that would not be refused."""
    peers = (*settings.listen_peer_urls, *settings.initial_advertise_peer_urls)
    for side, tls, urls in (
        ("clients", client_tls(settings), settings.listen_client_urls),
        ("peers", peer_tls(settings), peers),
    ):
        if not any(map(is_secure, urls)):
            yield f"TLS for {side}: none"
        elif settings.tls_provider not in ("", "files"):
            yield f"TLS for {side}: by the provider {settings.tls_provider}"
        else:
            yield from _material(side, tls)


def _material(side: str, tls: TLSSettings) -> Iterator[str]:
    if tls.automatic is not None and tls.automatic.mesh is not None:
        yield from _mesh(side, tls.automatic.directory, tls.automatic.mesh)
        return
    if tls.automatic is not None:
        yield f"TLS for {side}: a certificate of its own, made in {tls.automatic.directory}"
        return
    from cryptography import x509

    from etcdtw.tls.verdict import names

    try:
        with open(tls.cert_file, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
    except (OSError, ValueError) as error:
        yield f"TLS for {side}: {tls.cert_file}: {error}"
        return
    until = certificate.not_valid_after_utc
    hosts = names(certificate) or "no host at all"
    yield f"TLS for {side}: {tls.cert_file}, for {hosts}, until {until:%Y-%m-%d %H:%M} UTC"
    if until < datetime.now(UTC) + EXPIRES_SOON:
        yield f"warning: {tls.cert_file} ends on {until:%Y-%m-%d}"
    authority = tls.trusted_ca_file or "this system's authorities"
    wanted = "must show" if tls.client_cert_auth or tls.trusted_ca_file else "need not show"
    yield f"  {side} {wanted} a certificate; checked against {authority}"


def _mesh(side: str, directory: str, mesh: MeshSettings) -> Iterator[str]:
    """The name of the authority, by which one can see whether members have the same."""
    from etcdtw.tls.mesh import find_authority, read_kept

    yield f"TLS for {side}: a certificate of the cluster's own authority, made in {directory}"
    try:
        kept = read_kept(mesh)
        found = kept or find_authority(mesh, datetime.now(UTC))
    except ConfigError:
        return  # it is refused for that
    where = mesh.ca_file if kept else f"made from the token of --{mesh.flag}"
    name = found.certificate.subject.rfc4514_string()
    yield f"  {side} must show a certificate; checked against {name}, {where}"


def notice_text(notice: Notice) -> str:
    """A notice with its fields, for people."""
    fields = ", ".join(f"{name} {value}" for name, value in notice.fields.items())
    return f"{notice.message} ({fields})" if fields else notice.message


def plan_warnings(plan: ClusterPlan) -> Iterator[str]:
    """What would be taken, and would not work."""
    local = {each.id for each in plan.members if _is_local(each)}
    if plan.member_id in local and len(local) < len(plan.members):
        yield "warning: the other members cannot reach this one: its peer URLs are local"


def _is_local(member: PlannedMember) -> bool:
    return all(is_loopback(host_of(url)) for url in member.peer_urls if url.startswith("http"))


async def member_lines(plan: ClusterPlan, reactor: Any) -> list[str]:
    """The cluster, and its members with the addresses of their names."""
    doing, count = "founds" if plan.new else "joins", len(plan.members)
    lines = [
        f"member: {format_id(plan.member_id)}",
        f"provider: {plan.found_by}",
        f"cluster: {doing} {format_id(plan.cluster_id)} of {count} member{'s' * (count != 1)}, "
        f"token {plan.token}",
    ]
    for each in plan.members:
        shown = [url + await _address(url, reactor) for url in each.peer_urls]
        mark = " (this member)" if each.id == plan.member_id else ""
        lines.append(f"  {format_id(each.id)} {each.name or '-'} {' '.join(shown)}{mark}")
    return lines


async def _address(url: str, reactor: Any) -> str:
    host = "" if url.startswith("unix") else host_of(url)
    if not host or is_ip_address(host) or host == "localhost":
        return ""
    try:
        return f" ({await reactor.resolve(host, LOOKUP_SECONDS)})"
    except DNSLookupError:
        return " (no address is known)"


def etcd_flags(settings: MemberSettings, plan: ClusterPlan | None) -> list[str]:
    """Flags with which an etcd would be this member; without a plan, one that has its data."""
    flags = [
        f"--name={settings.name}",
        f"--initial-advertise-peer-urls={','.join(settings.initial_advertise_peer_urls)}",
    ]
    if plan is None:
        return flags
    own = plan.member_id
    members = [
        (settings.name if each.id == own else each.name or format_id(each.id), each.peer_urls)
        for each in plan.members
    ]
    return [
        *flags,
        f"--initial-cluster={members_text(members)}",
        f"--initial-cluster-state={'new' if plan.new else 'existing'}",
        f"--initial-cluster-token={plan.token}",
    ]
