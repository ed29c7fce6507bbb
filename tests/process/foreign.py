"""A gRPC client that shares nothing with the server but the message types: grpcio.

Method paths are etcd's; our descriptors carry an extra ``etcdtw.`` in their package names.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import Any

import grpc
from google.protobuf import descriptor, json_format, message_factory
from google.protobuf.message import Message

from etcdtw.pb import health_pb2, rpc_pb2
from tests.process.member import Member

START_SECONDS = 10.0

TIMEOUT_SECONDS = 10.0
_WIRE_PACKAGES = {"etcdtw.etcdserverpb": "etcdserverpb", "etcdtw.healthpb": "grpc.health.v1"}
_SERVICES = {
    service.name: service
    for file in (rpc_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
}
_KIND = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, True): "stream_stream",
}


def method_of(rpc: str) -> descriptor.MethodDescriptor:
    """The descriptor of ``Service.Method``."""
    service, _, name = rpc.partition(".")
    return _SERVICES[service].methods_by_name[name]


def path_of(rpc: str) -> str:
    """The HTTP/2 path of ``Service.Method`` as etcd's clients send it."""
    method = method_of(rpc)
    package = _WIRE_PACKAGES[method.containing_service.file.package]
    return f"/{package}.{method.containing_service.name}/{method.name}"


def request_class(rpc: str) -> Any:
    return message_factory.GetMessageClass(method_of(rpc).input_type)


def as_json(message: Message) -> dict[str, Any]:
    """Proto3 JSON with the names of the .proto file: base64 bytes, 64-bit integers as strings."""
    result: dict[str, Any] = json.loads(
        json_format.MessageToJson(message, preserving_proto_field_name=True)
    )
    return result


class Stream:
    """One open bidirectional call: ``send`` requests, ``receive`` answers in order."""

    def __init__(self, multi_callable: Any, metadata: Any) -> None:
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Message | grpc.RpcError | None] = queue.SimpleQueue()
        self._call = multi_callable(iter(self._requests.get, None), metadata=metadata)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)
        else:
            self._answers.put(None)

    def send(self, request: Message) -> None:
        self._requests.put(request)

    def receive(self, seconds: float = TIMEOUT_SECONDS) -> Any:
        """The next answer; ``None`` after the last, ``queue.Empty`` if nothing comes in time."""
        answer = self._answers.get(timeout=seconds)
        if isinstance(answer, grpc.RpcError):
            raise answer
        return answer

    def half_close(self) -> None:
        self._requests.put(None)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(TIMEOUT_SECONDS)


class ForeignClient:
    """grpcio against one endpoint, ``host:port``, in clear text unless there are credentials."""

    def __init__(
        self,
        endpoint: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = (
            grpc.insecure_channel(endpoint, options)
            if credentials is None
            else grpc.secure_channel(endpoint, credentials, options)
        )

    def _callable(self, rpc: str) -> Any:
        method = method_of(rpc)
        kind = _KIND[method.client_streaming, method.server_streaming]
        return getattr(self._channel, kind)(
            path_of(rpc),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def call(self, rpc: str, *, metadata: Any = None, **fields: Any) -> Any:
        """A unary call with the request's fields by name; raises ``grpc.RpcError``."""
        return self.send(rpc, request_class(rpc)(**fields), metadata=metadata)

    def members(self) -> Any:
        """The members as the leader knows them: without ``linearizable`` a member tells what it has
        applied, which may be a change behind."""
        return self.call("Cluster.MemberList", linearizable=True).members

    def send(
        self,
        rpc: str,
        request: Message,
        *,
        metadata: Any = None,
        seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        """A unary call with a finished request; raises ``grpc.RpcError``."""
        return self._callable(rpc)(request, timeout=seconds, metadata=metadata)

    def send_raw(self, path: str, body: bytes, seconds: float) -> bytes:
        """A unary call with these bytes as its message; the answer's."""
        call = self._channel.unary_unary(path)  # without serialisers bytes are taken as they are
        answer: bytes = call(body, timeout=seconds)
        return answer

    def put_many(self, count: int, at_once: int = 200) -> None:
        """So many puts on 500 keys, each acknowledged."""
        put = self._callable("KV.Put")
        request = request_class("KV.Put")
        for first in range(0, count, at_once):
            numbers = range(first, min(first + at_once, count))
            waiting = [
                put.future(
                    request(key=b"%d" % (number % 500), value=b"%d" % number),
                    timeout=TIMEOUT_SECONDS,
                )
                for number in numbers
            ]
            for each in waiting:
                each.result()

    def open(self, rpc: str, *, metadata: Any = None) -> Stream:
        """A bidirectional call."""
        return Stream(self._callable(rpc), metadata)

    def open_unread(self, rpc: str, request: Message, seconds: float | None = None) -> Any:
        """A call with one request whose answers are only taken off the connection as the returned
        iterator is asked for them; it has ``cancel()``."""
        return self._callable(rpc)(iter([request]), timeout=seconds)

    def download(self, rpc: str, **fields: Any) -> Any:
        """A call with one request and many answers: an iterator, which has ``cancel()``."""
        return self._callable(rpc)(request_class(rpc)(**fields), timeout=self._timeout_seconds)

    def close(self) -> None:
        self._channel.close()


def start_unhealthy(member: Member, client: ForeignClient) -> None:
    """Start a member whose health is false because of an alarm."""
    member.launch()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            client.call("Maintenance.Status")
            return
        except grpc.RpcError:
            time.sleep(0.05)
    raise AssertionError(member.output())
