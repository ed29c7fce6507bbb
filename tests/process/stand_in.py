"""Runs ``etcdtw`` or ``twistd`` with a stand-in for the member: ``stand_in.py etcdtw --name x``.

The stand-in listens on the first client URL. Called ``dies``, it ends soon of a full disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from etcdtw.app import main, starting
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.config.urls import parse_url, split_host_port

log = Logger(namespace="etcdtw.stand_in")


class StandIn(Service):
    def __init__(self, settings: MemberSettings, reactor: Any, plan: ClusterPlan | None) -> None:
        self.settings = settings
        self.reactor = reactor
        self.on_ready: list[Callable[[], object]] = []
        self.on_fatal: list[Callable[[BaseException], object]] = []
        self.on_removed: list[Callable[[], object]] = []

    def startService(self) -> None:
        super().startService()
        host, port = split_host_port(parse_url(self.settings.listen_client_urls[0]).host)
        self.port = self.reactor.listenTCP(int(port), Factory(), interface=host)
        self.reactor.callWhenRunning(self.ready)

    def ready(self) -> None:
        log.info("ready to serve client requests", data_dir=self.settings.data_dir)
        for each in self.on_ready:
            each()
        if self.settings.name == "dies":
            error = OSError(28, "No space left on device", "/wal")
            self.reactor.callLater(0.05, lambda: [each(error) for each in self.on_fatal])

    def stopService(self) -> Any:
        log.info("stand-in stopped, data in {data_dir}", data_dir=self.settings.data_dir)
        return self.port.stopListening()


def run() -> None:
    program = sys.argv.pop(1)
    if program == "etcdtw":
        sys.exit(main.run(sys.argv[1:], os.environ, lambda: StandIn))
    starting.find_assemble = lambda: StandIn
    from twisted.scripts.twistd import run as run_twistd

    run_twistd()


if __name__ == "__main__":
    run()
