"""Who leads, who belongs to the cluster, which alarms are raised: told in the log in etcd's words,
because alerts look for them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from etcdtw.app.settings import MemberSettings
from etcdtw.apply.alarms import Alarms, alarm_name
from etcdtw.apply.quota import DEFAULT_QUOTA_BYTES
from etcdtw.ids import format_id
from etcdtw.membership import Members
from etcdtw.pb.rpc_pb2 import AlarmMember
from etcdtw.raft.messages import NO_NODE, ConfChange, ConfChangeType
from etcdtw.replica.replica import Replica
from etcdtw.version import ETCD_VERSION

log = Logger(namespace="etcdtw.member")
raft_log = Logger(namespace="etcdtw.raft")


def tell_start(settings: MemberSettings, is_new: bool) -> None:
    """What a start goes by, after flags, variables, file and defaults."""
    unit = "" if settings.auto_compaction_mode == "revision" else "s"
    log.info(
        "starting an etcd server",
        etcd_version=ETCD_VERSION,
        member_initialized=not is_new,
        name=settings.name,
        data_dir=settings.data_dir,
        wal_dir=settings.wal_dir,
        force_new_cluster=settings.force_new_cluster,
        heartbeat_interval=f"{settings.heartbeat_interval}ms",
        election_timeout=f"{settings.election_timeout}ms",
        initial_election_tick_advance=settings.initial_election_tick_advance,
        snapshot_count=settings.snapshot_count,
        snapshot_catchup_entries=settings.experimental_snapshot_catchup_entries,
        initial_advertise_peer_urls=settings.initial_advertise_peer_urls,
        listen_peer_urls=settings.listen_peer_urls,
        advertise_client_urls=settings.advertise_client_urls,
        listen_client_urls=settings.listen_client_urls,
        listen_metrics_urls=settings.listen_metrics_urls,
        cors=settings.cors,
        host_whitelist=settings.host_whitelist,
        quota_size_bytes=settings.quota_backend_bytes or DEFAULT_QUOTA_BYTES,
        pre_vote=settings.pre_vote,
        initial_corrupt_check=settings.experimental_initial_corrupt_check,
        corrupt_check_time_interval=f"{settings.experimental_corrupt_check_time:g}s",
        auto_compaction_mode=settings.auto_compaction_mode,
        auto_compaction_retention=f"{settings.auto_compaction_retention:g}{unit}",
    )


def tell_stop(settings: MemberSettings, message: str) -> None:
    """That a member stops, or has stopped."""
    log.info(
        message,
        name=settings.name,
        data_dir=settings.data_dir,
        advertise_peer_urls=settings.initial_advertise_peer_urls,
        advertise_client_urls=settings.advertise_client_urls,
    )


def tell_leaders(replica: Replica) -> None:
    """Log who leads whenever that changes."""
    own = replica.node.id
    before = NO_NODE

    def changed(leader: int) -> None:
        nonlocal before
        if leader == own:
            raft_log.info(f"{own:x} became leader at term {replica.node.term}")
        if before == NO_NODE:
            what = f"elected leader {leader:x}"
        elif leader == NO_NODE:
            what = f"lost leader {before:x}"
        else:
            what = f"changed leader from {before:x} to {leader:x}"
        before = leader
        raft_log.info(f"raft.node: {own:x} {what} at term {replica.node.term}")

    replica.on_leader_change.append(changed)


def membership_teller(
    members: Members, cluster_id: int, member_id: int
) -> Callable[[ConfChange], None]:
    """To be called with each change of ``members`` once it is made."""
    own = {"cluster_id": format_id(cluster_id), "local_member_id": format_id(member_id)}
    known = {each.id: each.peer_urls for each in members.all()}

    def changed(change: ConfChange) -> None:
        identity = format_id(change.node_id)
        former = known.pop(change.node_id, None)
        member = members.get(change.node_id)
        if member is None:
            fields = {"removed_remote_peer_id": identity, "removed_remote_peer_urls": former or ()}
            log.info("removed member", **own, **fields)
            return
        known[member.id] = urls = member.peer_urls
        if change.type == ConfChangeType.UPDATE_NODE:
            fields = {"updated_remote_peer_id": identity, "updated_remote_peer_urls": urls}
            log.info("updated member", **own, **fields)
        elif former is not None:
            log.info("promote member", **own, promoted_member_id=identity)
        else:
            fields = {"added_peer_id": identity, "added_peer_peer_urls": urls}
            log.info("added member", **own, **fields, is_learner=member.is_learner)

    return changed


def tell_alarms(alarms: Alarms) -> None:
    """Log alarms as they come and go."""

    def changed(member: AlarmMember, is_raised: bool) -> None:
        log.warn(
            "alarm raised" if is_raised else "alarm disarmed",
            alarm=alarm_name(member.alarm),
            **{"from": format_id(member.memberID)},
        )

    alarms.on_change.append(changed)
