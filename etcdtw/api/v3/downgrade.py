"""The Downgrade call of the Maintenance service: a cluster is announced to become older."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from etcdtw.api.v3.canonical import canonical
from etcdtw.apply.header import HeaderSource
from etcdtw.errors import (
    ClusterVersionUnavailable,
    DowngradeInProcess,
    EtcdError,
    InvalidDowngradeTargetVersion,
    NoInflightDowngrade,
    UnknownMethod,
    WrongDowngradeVersionFormat,
)
from etcdtw.membership import Members
from etcdtw.pb.membership_pb2 import DowngradeInfoSetRequest
from etcdtw.pb.rpc_pb2 import DowngradeRequest, DowngradeResponse
from etcdtw.rpc import Router, UnaryCall
from etcdtw.version import parsed_version

KIND = "downgrade_info_set"
FIRST_VERSION = (3, 5)
"""Whose members understand the entry; older ones would die of it."""

_NUMBER_MAX = (1 << 63) - 1
_NUMBER = "0*([0-9]{1,19})"
# A semantic version as etcd's library reads it, or one without its patch level.
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER}(?:[-+].*)?)?", re.DOTALL)


class Log(Protocol):
    """Where what has to be agreed upon goes."""

    def submit(
        self, kind: str, request: object, raw: bytes, done: Callable[[object], None], /
    ) -> None: ...


class DowngradeService:
    """Answers ``/etcdserverpb.Maintenance/Downgrade``."""

    def __init__(
        self, members: Members, log: Log, header: HeaderSource, revision: Callable[[], int]
    ) -> None:
        self._members = members
        self._log = log
        self._header = header
        self._revision = revision

    def register(self, router: Router) -> None:
        router.add_unary("/etcdserverpb.Maintenance/Downgrade", self.downgrade)

    def downgrade(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(DowngradeRequest, body)
        if request.action == DowngradeRequest.VALIDATE:
            self._validate(request.version)
            self._answer(call)
        elif request.action == DowngradeRequest.ENABLE:
            target = self._validate(request.version)
            self._set(call, DowngradeInfoSetRequest(enabled=True, ver=target))
        elif request.action == DowngradeRequest.CANCEL:
            if self._members.downgrade_target is None:
                raise NoInflightDowngrade
            self._set(call, DowngradeInfoSetRequest(enabled=False))
        else:
            raise UnknownMethod

    def _validate(self, text: str) -> str:
        """The version that the cluster may be announced to become; EtcdError, if it may not be
        this one, or not now."""
        parts = _VERSION.fullmatch(text)
        if parts is None or any(int(each or 0) > _NUMBER_MAX for each in parts.groups()):
            raise WrongDowngradeVersionFormat
        if self._members.version is None:
            raise ClusterVersionUnavailable
        major, minor = parsed_version(self._members.version)[:2]
        wanted = (int(parts[1]), int(parts[2]))
        if wanted != (major, minor - 1) or (major, minor) < FIRST_VERSION:
            raise InvalidDowngradeTargetVersion
        if self._members.downgrade_target is not None:
            raise DowngradeInProcess
        return f"{wanted[0]}.{wanted[1]}.0"

    def _set(self, call: UnaryCall, info: DowngradeInfoSetRequest) -> None:
        def done(result: object) -> None:
            if isinstance(result, EtcdError):
                call.fail(result)
            else:
                self._answer(call)

        self._log.submit(KIND, info, info.SerializeToString(), done)

    def _answer(self, call: UnaryCall) -> None:
        response = DowngradeResponse(version=self._members.version or "")
        call.reply(self._header.encode(self._revision()) + response.SerializeToString())
