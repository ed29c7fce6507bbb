"""Every error that a client, a peer or an operator can meet, once, with etcd's exact text.

``EtcdError`` subclasses are data: an apply error is the same on all members. Clients match on the
text, so it is a fact of etcd's API (``api/v3rpc/rpctypes`` of etcd 3.5), code included.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from typing import ClassVar


class Code(IntEnum):
    """gRPC status codes."""

    OK = 0
    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class EtcdError(Exception):
    """A request's refusal: the client's fault or the cluster's state.

    ``str()`` of it is what the client reads. A subclass without its own text takes one per raise.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    text: ClassVar[str] = ""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(self.text if text is None else text)


class StatusError(EtcdError):
    """An error whose code is only known when it is raised (transport answers, forwarded ones)."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code  # type: ignore[misc]


# --- InvalidArgument ---------------------------------------------------------------------------


class InvalidArgument(EtcdError):
    code = Code.INVALID_ARGUMENT


class EmptyKey(InvalidArgument):
    text = "etcdserver: key is not provided"


class KeyNotFound(InvalidArgument):
    text = "etcdserver: key not found"


class ValueProvided(InvalidArgument):
    text = "etcdserver: value is provided"


class LeaseProvided(InvalidArgument):
    text = "etcdserver: lease is provided"


class TooManyOps(InvalidArgument):
    text = "etcdserver: too many operations in txn request"


class DuplicateKey(InvalidArgument):
    text = "etcdserver: duplicate key given in txn request"


class MemberBadURLs(InvalidArgument):
    text = "etcdserver: given member URLs are invalid"


class RequestTooLarge(InvalidArgument):
    text = "etcdserver: request is too large"


class UserEmpty(InvalidArgument):
    text = "etcdserver: user name is empty"


class RoleEmpty(InvalidArgument):
    text = "etcdserver: role name is empty"


class AuthFailed(InvalidArgument):
    text = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGiven(InvalidArgument):
    text = "etcdserver: permission not given"


class InvalidAuthManagement(InvalidArgument):
    text = "etcdserver: invalid auth management"


class AuthOldRevision(InvalidArgument):
    text = "etcdserver: revision of auth store is old"


class WrongDowngradeVersionFormat(InvalidArgument):
    text = "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTargetVersion(InvalidArgument):
    text = "etcdserver: invalid downgrade target version"


# --- OutOfRange --------------------------------------------------------------------------------


class OutOfRange(EtcdError):
    code = Code.OUT_OF_RANGE


class Compacted(OutOfRange):
    text = "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(OutOfRange):
    text = "etcdserver: mvcc: required revision is a future revision"


class LeaseTTLTooLarge(OutOfRange):
    text = "etcdserver: too large lease TTL"


# --- ResourceExhausted -------------------------------------------------------------------------


class NoSpace(EtcdError):
    code = Code.RESOURCE_EXHAUSTED
    text = "etcdserver: mvcc: database space exceeded"


class TooManyRequests(EtcdError):
    """etcd 3.5 sends this one with code Unknown."""

    text = "etcdserver: too many requests"


# --- NotFound ----------------------------------------------------------------------------------


class NotFound(EtcdError):
    code = Code.NOT_FOUND


class LeaseNotFound(NotFound):
    text = "etcdserver: requested lease not found"


class MemberNotFound(NotFound):
    text = "etcdserver: member not found"


# --- FailedPrecondition ------------------------------------------------------------------------


class FailedPrecondition(EtcdError):
    code = Code.FAILED_PRECONDITION


class LeaseExists(FailedPrecondition):
    text = "etcdserver: lease already exists"


class MemberExists(FailedPrecondition):
    text = "etcdserver: member ID already exist"


class PeerURLExists(FailedPrecondition):
    text = "etcdserver: Peer URLs already exists"


class MemberNotEnoughStarted(EtcdError):
    """etcd 3.4 and 3.5 put code Unknown on the wire here."""

    text = "etcdserver: re-configuration failed due to not enough started members"


class MemberNotLearner(FailedPrecondition):
    text = "etcdserver: can only promote a learner member"


class LearnerNotReady(FailedPrecondition):
    text = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(FailedPrecondition):
    text = "etcdserver: too many learner members in cluster"


class NotLeader(FailedPrecondition):
    text = "etcdserver: not leader"


class BadLeaderTransferee(FailedPrecondition):
    text = "etcdserver: bad leader transferee"


class DowngradeInProcess(FailedPrecondition):
    text = "etcdserver: cluster has a downgrade job in progress"


class NoInflightDowngrade(FailedPrecondition):
    text = "etcdserver: no inflight downgrade job"


class ClusterIDMismatch(FailedPrecondition):
    text = "etcdserver: cluster ID mismatch"


class AuthNotEnabled(FailedPrecondition):
    text = "etcdserver: authentication is not enabled"


class RootUserMissing(FailedPrecondition):
    text = "etcdserver: root user does not exist"


class RootRoleMissing(FailedPrecondition):
    text = "etcdserver: root user does not have root role"


class UserExists(FailedPrecondition):
    text = "etcdserver: user name already exists"


class UserNotFound(FailedPrecondition):
    text = "etcdserver: user name not found"


class RoleExists(FailedPrecondition):
    text = "etcdserver: role name already exists"


class RoleNotFound(FailedPrecondition):
    text = "etcdserver: role name not found"


class RoleNotGranted(FailedPrecondition):
    text = "etcdserver: role is not granted to the user"


class PermissionNotGranted(FailedPrecondition):
    text = "etcdserver: permission is not granted to the role"


# --- Unavailable -------------------------------------------------------------------------------


class Unavailable(EtcdError):
    code = Code.UNAVAILABLE


class NoLeader(Unavailable):
    text = "etcdserver: no leader"


class LeaderChanged(Unavailable):
    text = "etcdserver: leader changed"


class NotCapable(Unavailable):
    text = "etcdserver: not capable"


class Stopped(Unavailable):
    text = "etcdserver: server stopped"


class TimedOut(Unavailable):
    text = "etcdserver: request timed out"


class TimedOutLeaderFailure(Unavailable):
    text = "etcdserver: request timed out, possibly due to previous leader failure"


class TimedOutConnectionLost(Unavailable):
    text = "etcdserver: request timed out, possibly due to connection lost"


class TimedOutWaitingApplied(Unavailable):
    text = "etcdserver: request timed out, waiting for the applied index took too long"


class Unhealthy(Unavailable):
    text = "etcdserver: unhealthy cluster"


class NotSupportedForLearner(Unavailable):
    text = "etcdserver: rpc not supported for learner"


class ClusterVersionUnavailable(Unavailable):
    text = "etcdserver: cluster version not found during downgrade"


# --- the rest ----------------------------------------------------------------------------------


class UnknownMethod(EtcdError):
    text = "etcdserver: unknown method"


class Corrupt(EtcdError):
    code = Code.DATA_LOSS
    text = "etcdserver: corrupt cluster"


class PermissionDenied(EtcdError):
    code = Code.PERMISSION_DENIED
    text = "etcdserver: permission denied"


class InvalidAuthToken(EtcdError):
    code = Code.UNAUTHENTICATED
    text = "etcdserver: invalid auth token"


class WatchCanceled(EtcdError):
    code = Code.CANCELED
    text = "etcdserver: watch canceled"


class RequestCanceled(EtcdError):
    code = Code.CANCELED
    text = "etcdserver: request canceled"


class DeadlineExceeded(EtcdError):
    """etcd 3.5.1 sends Unknown when a proposal finds no leader until the timeout."""

    text = "context deadline exceeded"


class Unimplemented(EtcdError):
    """A call that this build does not serve; the text names it."""

    code = Code.UNIMPLEMENTED


class ProtocolError(Exception):
    """A peer or client broke a protocol; ``wire_code`` is what the protocol calls it."""

    def __init__(self, wire_code: int, text: str) -> None:
        super().__init__(text)
        self.wire_code = wire_code


class ConfigError(Exception):
    """One setting that cannot work: which flag, where its value came from, and why.

    ``exit_code`` is etcd's for this kind of refusal; ``hint`` may say what to change.
    """

    def __init__(self, flag: str, source: str, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.hint = ""
        self.flag = flag
        self.source = source
        self.reason = reason
        self.exit_code = exit_code


class StorageError(Exception):
    """The data directory cannot be used as it is; the text says what and where."""


class CorruptError(StorageError):
    """Bytes on disk are not what was written, beyond what a torn last write explains."""


def known_error(code: int, text: str) -> EtcdError:
    """The error that a server's status stands for: one of the classes above where the text is
    theirs, so that callers can catch it by name."""
    found = _by_text().get((int(code), text))
    return StatusError(Code(code), text) if found is None else found()


@cache
def _by_text() -> dict[tuple[int, str], type[EtcdError]]:
    def all_below(kind: type[EtcdError]) -> Iterator[type[EtcdError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from all_below(each)

    return {
        (int(each.code), each.text): each
        for each in all_below(EtcdError)
        if each.text and each.__module__ == __name__
    }
