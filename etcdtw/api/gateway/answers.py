"""Errors as etcd's gateway puts them into HTTP answers."""

from __future__ import annotations

from http import HTTPStatus

from etcdtw.api.http.requests import HttpRequest, answer
from etcdtw.errors import Code, EtcdError
from etcdtw.v2store.gojson import quote

JSON = b"application/json"

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELED: 408,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def error_answer(request: HttpRequest, error: EtcdError) -> bytes:
    """The whole answer to a call that failed before anything was sent."""
    text = quote(str(error))
    body = f'{{"error":{text},"code":{int(error.code)},"message":{text}}}'
    return answer(request, HTTP_STATUS[error.code], body.encode(), JSON)


def error_piece(error: EtcdError) -> str:
    """The end of a stream that failed."""
    status = HTTP_STATUS[error.code]
    return (
        f'{{"error":{{"grpc_code":{int(error.code)},"http_code":{status},'
        f'"message":{quote(str(error))},"http_status":"{HTTPStatus(status).phrase}"}}}}'
    )
