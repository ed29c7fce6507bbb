"""Who belongs to the cluster: members, the rules for changing them, and what the log says."""

from etcdtw.membership.apply import (
    MEMBERSHIP_KINDS,
    apply_membership,
    apply_v2_request,
    fill_request,
    publish_request,
    version_request,
)
from etcdtw.membership.changes import (
    add_change,
    bootstrap_entries,
    conf_state_json,
    promote_change,
    remove_change,
    update_change,
)
from etcdtw.membership.errors import MembershipError
from etcdtw.membership.member import Member, added_member, founding_member, parse_member
from etcdtw.membership.members import LEARNERS_MAX, Members
from etcdtw.membership.quorum_checks import check_add, check_promote, check_remove

__all__ = [
    "LEARNERS_MAX",
    "MEMBERSHIP_KINDS",
    "Member",
    "Members",
    "MembershipError",
    "add_change",
    "added_member",
    "apply_membership",
    "apply_v2_request",
    "bootstrap_entries",
    "check_add",
    "check_promote",
    "check_remove",
    "conf_state_json",
    "fill_request",
    "founding_member",
    "parse_member",
    "promote_change",
    "publish_request",
    "remove_change",
    "update_change",
    "version_request",
]
