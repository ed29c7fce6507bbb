"""The errors of the v2 API that the tree and its callers raise: one table, etcd's texts."""

from __future__ import annotations

from enum import IntEnum

from etcdtw.v2store.gojson import quote


class V2Code(IntEnum):
    """``errorCode`` in a v2 answer."""

    KEY_NOT_FOUND = 100
    TEST_FAILED = 101
    NOT_FILE = 102
    NO_MORE_PEER = 103
    NOT_DIR = 104
    NODE_EXIST = 105
    KEY_IS_PRESERVED = 106
    ROOT_READ_ONLY = 107
    DIR_NOT_EMPTY = 108
    EXISTING_PEER_ADDRESS = 109
    UNAUTHORIZED = 110
    VALUE_REQUIRED = 200
    PREV_VALUE_REQUIRED = 201
    TTL_NOT_A_NUMBER = 202
    INDEX_NOT_A_NUMBER = 203
    VALUE_OR_TTL_REQUIRED = 204
    TIMEOUT_NOT_A_NUMBER = 205
    NAME_REQUIRED = 206
    INDEX_OR_VALUE_REQUIRED = 207
    INDEX_VALUE_MUTEX = 208
    INVALID_FIELD = 209
    INVALID_FORM = 210
    REFRESH_VALUE = 211
    REFRESH_TTL_REQUIRED = 212
    RAFT_INTERNAL = 300
    LEADER_ELECT = 301
    WATCHER_CLEARED = 400
    EVENT_INDEX_CLEARED = 401
    STANDBY_INTERNAL = 402
    INVALID_ACTIVE_SIZE = 403
    INVALID_REMOVE_DELAY = 404
    CLIENT_INTERNAL = 500


# code -> message, HTTP status
_TABLE: dict[V2Code, tuple[str, int]] = {
    V2Code.KEY_NOT_FOUND: ("Key not found", 404),
    V2Code.TEST_FAILED: ("Compare failed", 412),
    V2Code.NOT_FILE: ("Not a file", 403),
    V2Code.NO_MORE_PEER: ("Reached the max number of peers in the cluster", 400),
    V2Code.NOT_DIR: ("Not a directory", 400),
    V2Code.NODE_EXIST: ("Key already exists", 412),
    V2Code.KEY_IS_PRESERVED: ("The prefix of given key is a keyword in etcd", 400),
    V2Code.ROOT_READ_ONLY: ("Root is read only", 400),
    V2Code.DIR_NOT_EMPTY: ("Directory not empty", 403),
    V2Code.EXISTING_PEER_ADDRESS: ("Peer address has existed", 400),
    V2Code.UNAUTHORIZED: ("The request requires user authentication", 401),
    V2Code.VALUE_REQUIRED: ("Value is Required in POST form", 400),
    V2Code.PREV_VALUE_REQUIRED: ("PrevValue is Required in POST form", 400),
    V2Code.TTL_NOT_A_NUMBER: ("The given TTL in POST form is not a number", 400),
    V2Code.INDEX_NOT_A_NUMBER: ("The given index in POST form is not a number", 400),
    V2Code.VALUE_OR_TTL_REQUIRED: ("Value or TTL is required in POST form", 400),
    V2Code.TIMEOUT_NOT_A_NUMBER: ("The given timeout in POST form is not a number", 400),
    V2Code.NAME_REQUIRED: ("Name is required in POST form", 400),
    V2Code.INDEX_OR_VALUE_REQUIRED: ("Index or value is required", 400),
    V2Code.INDEX_VALUE_MUTEX: ("Index and value cannot both be specified", 400),
    V2Code.INVALID_FIELD: ("Invalid field", 400),
    V2Code.INVALID_FORM: ("Invalid POST form", 400),
    V2Code.REFRESH_VALUE: ("Value provided on refresh", 400),
    V2Code.REFRESH_TTL_REQUIRED: ("A TTL must be provided on refresh", 400),
    V2Code.RAFT_INTERNAL: ("Raft Internal Error", 500),
    V2Code.LEADER_ELECT: ("During Leader Election", 500),
    V2Code.WATCHER_CLEARED: ("watcher is cleared due to etcd recovery", 400),
    V2Code.EVENT_INDEX_CLEARED: ("The event in requested index is outdated and cleared", 400),
    V2Code.STANDBY_INTERNAL: ("Standby Internal Error", 400),
    V2Code.INVALID_ACTIVE_SIZE: ("Invalid active size", 400),
    V2Code.INVALID_REMOVE_DELAY: ("Standby remove delay", 400),
    V2Code.CLIENT_INTERNAL: ("Client Internal Error", 500),
}


class V2Error(Exception):
    """A refused v2 request.

    ``cause`` names the path or the values compared, in the tree's own paths (``/1/...``);
    ``index`` is the tree's index at the time, 0 for errors of the request itself.
    """

    def __init__(self, code: V2Code, cause: str, index: int = 0) -> None:
        self.message, self.status = _TABLE[code]
        super().__init__(f"{code.value}: {self.message} ({cause}) [{index}]")
        self.code = code
        self.cause = cause
        self.index = index

    def json(self) -> str:
        """The body of the answer, without a newline."""
        cause = f'"cause":{quote(self.cause)},' if self.cause else ""
        return (
            f'{{"errorCode":{self.code.value},"message":{quote(self.message)},'
            f'{cause}"index":{self.index}}}'
        )
