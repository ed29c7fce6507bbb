"""Every metric of a member, once: etcd 3.5's names and labels, and what only we have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from etcdtw.api.metrics.calls import call_families
from etcdtw.api.metrics.families import Family, Labelled, Value
from etcdtw.api.metrics.sources import HealthChecks, NamedChecks, Port, Sources
from etcdtw.apply.quota import DEFAULT_QUOTA_BYTES
from etcdtw.counting import PeerCounts, ReceivedCounts, TLSCounts
from etcdtw.ids import format_id
from etcdtw.v2store.stats import Stats
from etcdtw.version import ETCD_VERSION

APPLY_OPS = {
    "range": "Range",
    "put": "Put",
    "delete_range": "DeleteRange",
    "txn": "Txn",
    "compaction": "Compaction",
    "lease_grant": "LeaseGrant",
    "lease_revoke": "LeaseRevoke",
    "lease_checkpoint": "LeaseCheckpoint",
    "alarm": "Alarm",
    "authenticate": "Authenticate",
    "auth_enable": "AuthEnable",
    "auth_disable": "AuthDisable",
    "auth_user_add": "AuthUserAdd",
    "auth_user_delete": "AuthUserDelete",
    "auth_user_change_password": "AuthUserChangePassword",
    "auth_user_grant_role": "AuthUserGrantRole",
    "auth_user_revoke_role": "AuthUserRevokeRole",
    "auth_role_add": "AuthRoleAdd",
    "auth_role_delete": "AuthRoleDelete",
    "auth_role_grant_permission": "AuthRoleGrantPermission",
    "auth_role_revoke_permission": "AuthRoleRevokePermission",
}


def families(
    of: Sources,
    health: HealthChecks,
    port: Port,
    checks: Sequence[NamedChecks],
    tls: Mapping[str, TLSCounts],
    received: ReceivedCounts,
) -> list[Family]:
    """The table for one member; ``tls`` gives what there is to count, by side."""
    return [
        *_server(of, health),
        *_disk(of),
        *_keyspace(of),
        *_leases(of),
        *_v2store(of),
        *_received(received),
        *call_families(of.router),
        *_peers(of),
        *_ours(of, port, checks),
        *_tls(tls),
    ]


# fmt: off
def _server(of: Sources, health: HealthChecks) -> list[Family]:
    replica, node, counts = of.replica, of.replica.node, of.replica.counts
    return [
        Family("etcd_cluster_version", "gauge", "The cluster's version, as a label.",
               lambda: _cluster_version(of)),
        Family("etcd_server_version", "gauge", "The server's version, as a label.",
               lambda: [({"server_version": ETCD_VERSION}, 1)]),
        Family("etcd_server_id", "gauge", "This member's id, as a label.",
               lambda: [({"server_id": format_id(of.member_id)}, 1)]),
        Family("etcd_server_has_leader", "gauge", "1 while a leader is known.",
               lambda: int(replica.leader != 0)),
        Family("etcd_server_is_leader", "gauge", "1 while this member leads.",
               lambda: int(replica.is_leader)),
        Family("etcd_server_is_learner", "gauge", "1 while this member is a learner.",
               lambda: int(node.is_learner)),
        Family("etcd_server_leader_changes_seen_total", "counter",
               "How often a leader came to be known.", lambda: counts.leader_changes),
        Family("etcd_server_proposals_committed_total", "gauge",
               "Index of the last committed entry.", lambda: node.committed),
        Family("etcd_server_proposals_applied_total", "gauge",
               "Index of the last applied entry.", lambda: replica.applied_index),
        Family("etcd_server_proposals_pending", "gauge",
               "Requests on their way through the log.", lambda: replica.pending_proposals),
        Family("etcd_server_proposals_failed_total", "counter",
               "Requests that did not get through the log in time.",
               lambda: counts.failed_proposals),
        Family("etcd_server_read_indexes_failed_total", "counter",
               "Linearizable reads that could not run in time.", lambda: counts.failed_reads),
        Family("etcd_server_slow_read_indexes_total", "counter",
               "Rounds of linearizable reads that had to be asked again.",
               lambda: replica.slow_reads),
        Family("etcd_server_heartbeat_send_failures_total", "counter",
               "Heartbeats of this leader that came late.", lambda: counts.late_heartbeats),
        Family("etcd_server_learner_promote_successes", "counter",
               "Learners promoted while this member led.", lambda: of.cluster.promotions),
        Family("etcd_server_slow_apply_total", "counter",
               "Applies that took longer than --experimental-warning-apply-duration.",
               lambda: replica.slowness.slow_applies),
        Family("etcd_server_apply_duration_seconds", "histogram",
               "How long requests took to be applied.", lambda: _apply_times(of)),
        Family("etcd_server_quota_backend_bytes", "gauge", "The space quota.",
               lambda: of.quota_bytes or DEFAULT_QUOTA_BYTES),
        Family("etcd_server_health_success", "counter", "Health checks that found the member "
               "healthy.", lambda: health.successes),
        Family("etcd_server_health_failures", "counter", "Health checks that did not.",
               lambda: health.failures),
        Family("etcd_server_client_requests_total", "counter",
               "Requests by the version that clients say they have.",
               lambda: _client_requests(of)),
        Family("etcd_debugging_auth_revision", "gauge", "Revision of users and roles.",
               lambda: of.auth.revision),
    ]


def _disk(of: Sources) -> list[Family]:
    durable, backend = of.replica.durable, of.backend
    return [
        Family("etcd_disk_wal_fsync_duration_seconds", "histogram",
               "How long syncs of the log took.", lambda: durable.sync_seconds),
        Family("etcd_disk_wal_write_bytes_total", "gauge", "Bytes written to the log.",
               lambda: durable.wal.written_bytes),
        Family("etcd_disk_backend_commit_duration_seconds", "histogram",
               "How long commits of the keyspace took.", lambda: backend.commit_seconds),
        Family("etcd_disk_backend_defrag_duration_seconds", "histogram",
               "How long defragmentations took.", lambda: backend.defragment_seconds),
        Family("etcd_disk_defrag_inflight", "gauge", "1 during a defragmentation.",
               lambda: int(backend.is_defragmenting)),
        Family("etcd_disk_backend_snapshot_duration_seconds", "histogram",
               "How long it took to make databases for clients.", lambda: of.exports.seconds),
        Family("etcd_snap_fsync_duration_seconds", "histogram",
               "How long syncs of snapshot files took.", lambda: of.snap_files.sync_seconds),
        Family("etcd_debugging_snap_save_total_duration_seconds", "histogram",
               "How long it took to write snapshot files.", lambda: of.snap_files.save_seconds),
    ]


def _keyspace(of: Sources) -> list[Family]:
    store, backend, hub = of.store, of.backend, of.watches.hub
    return [
        Family("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the keyspace's file.",
               backend.size),
        Family("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "The part of it in use.",
               backend.size_in_use),
        Family("etcd_mvcc_db_open_read_transactions", "gauge", "Views of the keyspace held open.",
               lambda: backend.open_views),
        Family("etcd_mvcc_range_total", "counter", "Ranges.", lambda: store.ranges),
        Family("etcd_mvcc_put_total", "counter", "Puts.", lambda: store.puts),
        Family("etcd_mvcc_delete_total", "counter", "Deletions of a range.",
               lambda: store.deletes),
        Family("etcd_mvcc_txn_total", "counter", "Transactions.", lambda: store.txns),
        Family("etcd_mvcc_hash_duration_seconds", "histogram",
               "How long hashes of the whole database took.",
               lambda: of.maintenance.hash_seconds),
        Family("etcd_mvcc_hash_rev_duration_seconds", "histogram",
               "How long hashes of the keyspace at a revision took.",
               lambda: of.maintenance.hash_kv_seconds),
        Family("etcd_debugging_mvcc_range_total", "counter", "Ranges.", lambda: store.ranges),
        Family("etcd_debugging_mvcc_keys_total", "gauge", "Keys there are.",
               lambda: len(store.index)),
        Family("etcd_debugging_mvcc_total_put_size_in_bytes", "gauge",
               "Bytes of keys and values put.", lambda: store.put_bytes),
        Family("etcd_debugging_mvcc_current_revision", "gauge", "The current revision.",
               lambda: store.revision),
        Family("etcd_debugging_mvcc_compact_revision", "gauge",
               "The revision of the last compaction.", lambda: max(store.compacted, 0)),
        Family("etcd_debugging_mvcc_db_compaction_keys_total", "counter",
               "Records that compactions removed.", lambda: store.compacted_records),
        Family("etcd_debugging_mvcc_db_compaction_last", "gauge",
               "When the last compaction ended, in seconds since 1970.",
               lambda: of.compactions.last_at),
        Family("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "histogram",
               "How long compactions took.", lambda: of.compactions.milliseconds),
        Family("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "histogram",
               "How long single steps of compactions took.",
               lambda: of.compactions.step_milliseconds),
        Family("etcd_debugging_mvcc_events_total", "counter", "Events sent to watchers.",
               lambda: hub.events_sent),
        Family("etcd_debugging_mvcc_pending_events_total", "gauge",
               "Events that wait in queues of watchers (there are none: who is slow reads later).",
               lambda: 0),
        Family("etcd_debugging_mvcc_watch_stream_total", "gauge", "Streams of watches.",
               lambda: of.watches.stream_count),
        Family("etcd_debugging_mvcc_watcher_total", "gauge", "Watchers.", lambda: hub.watchers),
        Family("etcd_debugging_mvcc_slow_watcher_total", "gauge",
               "Watchers that have not been told everything yet.", lambda: hub.slow_watchers),
    ]


def _leases(of: Sources) -> list[Family]:
    lessor = of.lessor
    return [
        Family("etcd_debugging_lease_granted_total", "counter", "Leases granted.",
               lambda: lessor.granted),
        Family("etcd_debugging_lease_revoked_total", "counter", "Leases revoked.",
               lambda: lessor.revoked),
        Family("etcd_debugging_lease_renewed_total", "counter", "Renewals of leases.",
               lambda: lessor.renewed),
        Family("etcd_debugging_server_lease_expired_total", "counter", "Leases that ran out.",
               lambda: lessor.expiries),
        Family("etcd_debugging_lease_ttl_total", "histogram", "TTLs of leases granted, in "
               "seconds.", lambda: lessor.granted_ttls),
    ]


def _v2store(of: Sources) -> list[Family]:
    return [
        Family("etcd_debugging_store_reads_total", "counter", "Reads of the v2 tree.",
               lambda: _v2_reads(of.v2store.stats)),
        Family("etcd_debugging_store_writes_total", "counter", "Writes to the v2 tree.",
               lambda: _v2_writes(of.v2store.stats)),
        Family("etcd_debugging_store_expires_total", "counter", "Nodes of the v2 tree that ran "
               "out.", lambda: of.v2store.stats.expire_count),
        Family("etcd_debugging_store_watch_requests_total", "counter", "Watches of the v2 tree "
               "that were asked for.", lambda: of.v2store.hub.requests),
        Family("etcd_debugging_store_watchers", "gauge", "Watchers of the v2 tree.",
               lambda: of.v2store.hub.count),
        Family("etcd_http_received_total", "counter", "Requests for v2 keys.",
               lambda: [({"method": each}, n) for each, n in of.keys.counts.received.items()]),
        Family("etcd_http_failed_total", "counter", "Requests for v2 keys that were refused.",
               lambda: [({"method": each, "code": str(status)}, n)
                        for (each, status), n in of.keys.counts.failed.items()]),
        Family("etcd_http_successful_duration_seconds", "histogram",
               "How long requests for v2 keys took that were not refused, but for watches.",
               lambda: [({"method": each}, n) for each, n in of.keys.counts.seconds.items()]),
    ]


def _received(counts: ReceivedCounts) -> list[Family]:
    return [
        Family("etcd_server_snapshot_apply_in_progress_total", "gauge",
               "1 while a database from another member is being installed.",
               lambda: int(counts.installing)),
        Family("etcd_snap_db_fsync_duration_seconds", "histogram",
               "How long syncs of databases from other members took.",
               lambda: counts.sync_seconds),
        Family("etcd_snap_db_save_total_duration_seconds", "histogram",
               "How long it took to receive databases from other members.",
               lambda: counts.save_seconds),
    ]


def _peers(of: Sources) -> list[Family]:
    own, peers = format_id(of.member_id), of.peers

    def by_id(label: str, read: Callable[[PeerCounts], Value]) -> Callable[[], Labelled]:
        return lambda: [({label: format_id(each)}, read(n)) for each, n in peers.items()]

    def by_pair(read: Callable[[PeerCounts], Value]) -> Callable[[], Labelled]:
        return lambda: [
            ({"Local": own, "Remote": format_id(each)}, read(n)) for each, n in peers.items()
        ]

    return [
        Family("etcd_network_active_peers", "gauge", "Whether a peer is connected.",
               by_pair(lambda peer: int(peer.active))),
        Family("etcd_network_disconnected_peers_total", "counter",
               "How often a peer was lost.", by_pair(lambda peer: peer.disconnects)),
        Family("etcd_network_peer_sent_bytes_total", "counter", "Bytes to a peer.",
               by_id("To", lambda peer: peer.sent_bytes)),
        Family("etcd_network_peer_received_bytes_total", "counter", "Bytes from a peer.",
               by_id("From", lambda peer: peer.received_bytes)),
        Family("etcd_network_peer_sent_failures_total", "counter",
               "Messages that did not get to a peer.",
               by_id("To", lambda peer: peer.send_failures)),
        Family("etcd_network_peer_round_trip_time_seconds", "histogram",
               "How long a peer takes to answer a probe.",
               by_id("To", lambda peer: peer.round_trip_seconds)),
    ]


def _ours(of: Sources, port: Port, checks: Sequence[NamedChecks]) -> list[Family]:
    return [
        Family("etcd_server_healthchecks_total", "counter",
               "Checks of /livez and /readyz, by status.", lambda: _checks(checks)),
        Family("etcdtw_reactor_lag_seconds", "histogram",
               "How late the member's tick came.", lambda: of.replica.counts.lag_seconds),
        Family("etcdtw_backend_overlay_bytes", "gauge",
               "Changes on their way to the keyspace's disk.", of.backend.overlay_bytes),
        Family("etcdtw_backend_entries_behind", "gauge",
               "Applied entries whose changes are not on the keyspace's disk yet.",
               lambda: of.replica.applied_index - of.backend.durable_index()),
        Family("etcdtw_client_connections", "gauge",
               "Connections to the client port.", lambda: port.connection_count),
    ]


def _tls(counts: Mapping[str, TLSCounts]) -> list[Family]:
    return [
        Family("etcdtw_tls_reloads_total", "counter",
               "Changed certificates, authorities and revocation lists, by whether they are used.",
               lambda: _reloads(counts)),
        Family("etcdtw_tls_rejected_connections_total", "counter",
               "Callers who were not let in.",
               lambda: [({"side": side}, each.rejected) for side, each in counts.items()]),
        Family("etcdtw_tls_certificate_expiry_seconds", "gauge",
               "Unix time when the certificate shown to callers ends.",
               lambda: [({"side": side}, each.expires) for side, each in counts.items()
                        if each.expires]),
    ]
# fmt: on


def _reloads(counts: Mapping[str, TLSCounts]) -> Labelled:
    for side, each in counts.items():
        yield {"side": side, "success": "true"}, each.loads
        yield {"side": side, "success": "false"}, each.failed_loads


def _cluster_version(of: Sources) -> Labelled:
    version = of.members.version
    return [] if version is None else [({"cluster_version": version.rpartition(".")[0]}, 1)]


def _apply_times(of: Sources) -> Labelled:
    for (kind, succeeded), seconds in sorted(of.apply_times.seconds.items()):
        version = "v2" if kind.isupper() else "v3"  # v2 requests count by their methods
        word = "true" if succeeded else "false"
        yield {"version": version, "op": APPLY_OPS.get(kind, kind), "success": word}, seconds


def _client_requests(of: Sources) -> Labelled:
    for (kind, version), tally in sorted(of.router.requests.items()):
        yield {"type": kind, "client_api_version": version}, tally.count


def _checks(checks: Sequence[NamedChecks]) -> Labelled:
    for each in checks:
        for (name, status), count in each.results.items():
            yield {"type": each.name, "name": name, "status": status}, count


def _v2_reads(stats: Stats) -> Labelled:
    return [({"action": "get"}, stats.gets_success + stats.gets_fail)]


def _v2_writes(stats: Stats) -> Labelled:
    for action, count in (
        ("create", stats.create_success + stats.create_fail),
        ("set", stats.sets_success + stats.sets_fail),
        ("update", stats.update_success + stats.update_fail),
        ("delete", stats.delete_success + stats.delete_fail),
        ("compareAndSwap", stats.compare_and_swap_success + stats.compare_and_swap_fail),
        ("compareAndDelete", stats.compare_and_delete_success + stats.compare_and_delete_fail),
    ):
        if count:
            yield {"action": action}, count
