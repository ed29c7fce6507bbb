"""grpc.health.v1: whether the server as a whole serves."""

from __future__ import annotations

from etcdtw.errors import NotFound
from etcdtw.pb import health_pb2

from .call import StreamCall, UnaryCall
from .router import Router

HEALTH_SERVICE = "grpc.health.v1.Health"

_Answer = health_pb2.HealthCheckResponse


class Health:
    """Answers Check and Watch for the service "", which stands for the whole server."""

    def __init__(self, router: Router) -> None:
        self._serving = True
        self._watchers: dict[StreamCall, None] = {}
        router.add_unary(f"/{HEALTH_SERVICE}/Check", self._check)
        router.add_stream(f"/{HEALTH_SERVICE}/Watch", self._watch, "server_stream")

    def set_serving(self, serving: bool) -> None:
        """Change the status and tell whoever watches it."""
        if serving != self._serving:
            self._serving = serving
            for call in self._watchers:
                call.send(self._status())

    def _status(self) -> bytes:
        status = _Answer.SERVING if self._serving else _Answer.NOT_SERVING
        return _Answer(status=status).SerializeToString()

    def _check(self, call: UnaryCall, body: bytes) -> None:
        if _service(body):
            raise NotFound("unknown service")
        call.reply(self._status())

    def _watch(self, call: StreamCall) -> None:
        def begin(body: bytes) -> None:
            if _service(body):
                call.send(_Answer(status=_Answer.SERVICE_UNKNOWN).SerializeToString())
                return
            call.on_cancel = lambda: self._watchers.pop(call, None)
            self._watchers[call] = None
            call.send(self._status())

        call.on_message = begin


def _service(body: bytes) -> str:
    return health_pb2.HealthCheckRequest.FromString(body).service
