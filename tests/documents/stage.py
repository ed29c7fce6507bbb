"""The machines of one scenario, with the documents' addresses, and what is done on them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.documents import servers
from tests.documents.case import Scenario, Step
from tests.documents.expectations import Unmet, check, check_page, last_line
from tests.process.cluster import growing_pauses
from tests.process.machines import Machines
from tests.process.member import DROPPED, etcdctl
from tests.process.secured import Secured

HUB = "hub"
"""The machine that is none of the cluster's, 10.0.1.2: names, services, and who calls. ``hub2`` and
so on are the same machine, for more programs on it."""
PATH_TO = "/path/to"
POLL_SECONDS = 0.1
STOP_SECONDS = 10.0
END_SECONDS = 40.0
SHELL = ["bash", "-c"]


class Stage:
    """The machines of one scenario, what runs on them, and their directories.

    On each machine the words ``etcd``, ``etcdctl``, ``stand-in`` and ``dig`` mean what they should;
    the documents' ``/path/to`` is a directory that all see, with the scenario's certificates: by
    authority ``name: kind host …``, beside the authority's own ``ca-<authority>.crt``.
    """

    def __init__(self, scenario: Scenario, server: str) -> None:
        self.scenario = scenario
        self.server = server

    def __enter__(self) -> Stage:
        for machine in ("infra0", "infra2"):
            servers.command(self.server, machine)
        self.machines = Machines(self.scenario.machines) if self.scenario.machines else None
        self.root = Path(tempfile.mkdtemp(prefix="documents-"))
        self.shared = self.root / "shared"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            if self.machines is not None:
                self.prepare(self.machines)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.machines is not None:
            self.machines.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def prepare(self, machines: Machines) -> None:
        self.shared.mkdir()
        resolv_conf = self.root / "resolv.conf"
        resolv_conf.write_text("nameserver 10.0.1.2\noptions timeout:1\n")
        machines.resolv_conf = str(resolv_conf)
        for authority, pairs in self.scenario.certificates.items():
            made = Secured(self.root / authority, f"{authority} authority")
            shutil.copy(made.path("ca.crt"), self.shared / f"ca-{authority}.crt")
            for name, said in pairs.items():
                kind, *hosts = said.split()
                made.issue(name, kind, hosts)
                for ending in ("crt", "key"):
                    shutil.copy(made.path(f"{name}.{ending}"), self.shared)

    def place(self, machine: str) -> int | None:
        return None if machine.startswith(HUB) else int(machine.removeprefix("infra"))

    def directory(self, machine: str) -> Path:
        """Where a machine's commands run."""
        found = self.root / machine
        if not found.exists():
            found.mkdir()
            dig = shutil.which("dig")
            python = [sys.executable, "-m"]
            for name, command in (
                ("etcd", servers.command(self.server, machine)),
                ("etcdctl", [etcdctl()]),
                ("stand-in", [*python, "tests.documents.stand_ins"]),
                ("dig", [dig] if dig else [*python, "tests.documents.dig"]),
            ):
                _script(self.words(machine) / name, command)
        return found

    def words(self, machine: str) -> Path:
        """The directory of a machine's programs; not below its working directory."""
        found = self.root / "words" / machine
        found.mkdir(parents=True, exist_ok=True)
        return found

    def environment(self, machine: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in DROPPED and k[:5] != "ETCD_"}
        project = str(Path(__file__).parent.parent.parent)
        words = (str(self.words(machine)), str(Path(sys.executable).parent), kept["PATH"])
        return {**kept, "PATH": ":".join(words), "PYTHONPATH": project}

    # --- actions ---------------------------------------------------------------------------------

    def act(self, step: Step) -> None:
        if step.action in ("read", "links"):
            check_page(step)
            return
        assert self.machines is not None, "only pages need no machines"
        text = step.text.replace(PATH_TO, str(self.shared))
        if step.action == "start":
            self.start(step.at, text)
        elif step.action in ("run", "until"):
            self.ask(step, text)
        elif step.action == "log":
            self.expect_in_log(step, text)
        elif step.action == "no_log":
            if text.strip() in self.log(step.at):
                raise Unmet(f"the log of {step.at} has {text.strip()!r}")
        elif step.action == "records":
            self.serve(text)
        elif step.action == "ends":
            self.expect_end(step.at, int(text))
        else:
            self.end(step.at, signal.SIGTERM if step.action == "stop" else signal.SIGKILL)

    def start(self, machine: str, text: str) -> None:
        assert self.machines is not None, "there are machines"
        directory = self.directory(machine)
        if machine in self.processes and self.processes[machine].poll() is None:
            raise AssertionError(f"on {machine} runs something already")
        (directory / "log").write_bytes(b"")
        self.processes[machine] = self.machines.start(
            self.place(machine), [*SHELL, text], str(directory), str(directory / "log"),
            self.environment(machine),
        )  # fmt: skip

    def ask(self, step: Step, text: str) -> None:
        end = time.monotonic() + (step.within if step.action == "until" else 0)
        pauses = growing_pauses(POLL_SECONDS, 0.5)
        while True:
            try:
                check(step, *self.run(step, text))
                return
            except Unmet:
                if step.action == "until":
                    self.expect_running()
                if time.monotonic() > end:
                    raise
            time.sleep(next(pauses))

    def expect_running(self) -> None:
        """Nothing more will come if somebody who should run does not."""
        for machine, process in self.processes.items():
            if process.poll() is not None:
                log = last_line(self.log(machine))
                raise Unmet(f"{machine} has ended with {process.returncode}: {log}")

    def run(self, step: Step, text: str) -> tuple[int | None, str]:
        """Exit code, None if it went on for too long, and all that was said."""
        assert self.machines is not None, "there are machines"
        directory = self.directory(step.at)
        output = directory / ".said"
        process = self.machines.start(
            self.place(step.at), [*SHELL, text], str(directory), str(output),
            self.environment(step.at),
        )  # fmt: skip
        try:
            code: int | None = process.wait(step.seconds)
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
            process.wait()
        said = self.read(output)
        output.unlink()
        return code, said

    def log(self, machine: str) -> str:
        return self.read(self.directory(machine) / "log")

    def read(self, path: Path) -> str:
        return path.read_text(errors="replace").replace(str(self.shared), PATH_TO)

    def expect_in_log(self, step: Step, text: str) -> None:
        end = time.monotonic() + step.within
        wanted = [*filter(None, text.splitlines()), *step.says]
        while True:
            log = self.log(step.at)
            missing = [each for each in wanted if each not in log]
            missing += [each for each in step.matches if not re.search(each, log)]
            if not missing:
                return
            ended = step.at in self.processes and self.processes[step.at].poll() is not None
            if ended or time.monotonic() > end:
                raise Unmet(
                    f"not in the log of {step.at}: {missing[0]!r}; it ends: {last_line(log)}"
                )
            time.sleep(POLL_SECONDS)

    def serve(self, zone: str) -> None:
        """The name server reads its zone again whenever it has changed."""
        assert self.machines is not None, "there are machines"
        directory = self.directory("names")
        (self.shared / "zone.new").write_text(zone)
        (self.shared / "zone.new").rename(self.shared / "zone")
        if "names" not in self.processes:
            command = [sys.executable, "-m", "tests.documents.stand_ins"]
            self.processes["names"] = self.machines.start(
                None, [*command, "names", str(self.shared / "zone"), "10.0.1.2"], str(directory),
                str(directory / "log"), self.environment(HUB),
            )  # fmt: skip
            end = time.monotonic() + END_SECONDS
            while "names are served" not in self.log("names"):
                if time.monotonic() > end:
                    raise Unmet(f"no name server: {last_line(self.log('names'))}")
                time.sleep(POLL_SECONDS)

    def expect_end(self, machine: str, code: int) -> None:
        try:
            found = self.processes[machine].wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unmet(f"{machine} still runs after {END_SECONDS:g} s") from None
        del self.processes[machine]
        if found != code:
            raise Unmet(f"{machine} ended with {found}: {last_line(self.log(machine))}")

    def end(self, machine: str, number: signal.Signals) -> None:
        process = self.processes.pop(machine)
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _script(path: Path, command: Sequence[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
