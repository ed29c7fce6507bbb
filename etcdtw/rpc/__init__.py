"""gRPC and HTTP/1.1 on Twisted: calls, streams, back-pressure and limits."""

from etcdtw.rpc.call import StreamCall, UnaryCall
from etcdtw.rpc.flusher import Flusher
from etcdtw.rpc.port import ClientPortFactory
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings

__all__ = [
    "ClientPortFactory",
    "Flusher",
    "Router",
    "ServerSettings",
    "StreamCall",
    "UnaryCall",
]
