"""How a downgrade comes to its end."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.v3.submit import entry_data
from etcdtw.app.assemble import Core
from etcdtw.pb.membership_pb2 import DowngradeInfoSetRequest
from etcdtw.replica.proposal import Proposal

log = Logger(namespace="etcdtw.member")


async def end_downgrade(core: Core) -> None:
    """Once the cluster's version is what a downgrade was to make it, nothing is left to do. The
    EtcdError with which it cannot be noted."""
    target = core.members.downgrade_target
    if target is None or core.members.version != target:
        return
    log.info("the cluster has been downgraded", cluster_version=target)
    request = DowngradeInfoSetRequest(enabled=False)
    data = entry_data("downgrade_info_set", request.SerializeToString(), core.replica.ids.next())
    done: Deferred[object] = Deferred()
    core.replica.propose(Proposal(data, "downgrade_info_set", request, done.callback))
    result = await done
    if isinstance(result, Exception):
        raise result
