"""What can be set about serving gRPC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """Bounds and timers of the client port; times in seconds. The defaults are etcd 3.5's."""

    max_receive_bytes: int = 1_572_864 + 524_288  # of one message: a request and its envelope
    max_concurrent_streams: int = (1 << 32) - 1  # per connection; memory sets a lower bound
    keepalive_min_time: float = 5.0  # clients that ping more often are sent away
    keepalive_interval: float = 7200.0  # an idle client is pinged after this time
    keepalive_timeout: float = 20.0  # and dropped when it stays silent for this time
    handshake_timeout: float = 10.0  # from connect to the end of HTTP/2's preface
    drain_timeout: float = 7.0  # what calls under way may take when the server stops
    queued_answer_bytes: int = 16 * 1024 * 1024  # per connection; above, no more is read
    partial_request_bytes: int = 64 * 1024 * 1024  # per connection, of incomplete messages
