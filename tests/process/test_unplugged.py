"""A cluster on machines of its own: one drops off the network; a founding is begun again."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import until
from tests.process.machines import Machines
from tests.process.member import etcdctl, server_under_test

PEERS = ",".join(f"infra{n}=http://10.0.1.1{n}:2380" for n in range(3))
INFRA = r"""
etcd --name infra{n} --initial-advertise-peer-urls http://10.0.1.1{n}:2380 \
  --listen-peer-urls http://10.0.1.1{n}:2380 \
  --listen-client-urls http://10.0.1.1{n}:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.1{n}:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster {peers} \
  --initial-cluster-state new
"""
IDS = {"infra0": "140fedbeeb74765d", "infra1": "d5dc5f8d75d04e29", "infra2": "8a0a11c6194fc77"}


class MachinesTests(SynchronousTestCase):
    """Each machine has a directory of its own, where its member runs."""

    timeout = 180

    def setUp(self) -> None:
        self.ctl = etcdctl()
        self.machines = Machines(3)
        self.addCleanup(self.machines.close)
        self.root = Path(tempfile.mkdtemp(prefix="guide-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.addCleanup(self.stop_all)

    def directory(self, place: int) -> Path:
        found = self.root / str(place)
        found.mkdir(exist_ok=True)
        return found

    def paste(self, place: int, text: str) -> None:
        """Run a command of the guide as a shell would; only the program is ours."""
        program, *flags = shlex.split(text.replace("\\\n", " "))
        self.assertEqual(program, "etcd")
        directory = self.directory(place)
        self.processes[place] = self.machines.start(
            place, [*server_under_test(), *flags], str(directory), str(directory / "log")
        )

    def stop_all(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    def log(self, place: int) -> str:
        return (self.directory(place) / "log").read_text()

    def etcdctl(self, *words: str, at: int = 0, seconds: float = 20) -> str:
        """What etcdctl says, at the switch; ``--endpoints`` adds up if given twice."""
        if not any(each.startswith("--endpoints") for each in words):
            words = (f"--endpoints=http://10.0.1.1{at}:2379", *words)
        done = self.machines.run(None, [self.ctl, *words], seconds)
        return done.stdout if done.returncode == 0 else ""

    def members(self, at: int = 0) -> dict[str, Any]:
        said = self.etcdctl("member", "list", "-w", "json", at=at)
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    def founded(self, count: int = 3) -> None:
        """All have published themselves."""

        def all_there() -> bool:
            members = self.members().get("members", ())
            return sum("name" in each and "clientURLs" in each for each in members) == count

        until(all_there, "all members are started", 40)

    def ids(self, at: int = 0) -> dict[str, str]:
        return {each["name"]: f"{each['ID']:x}" for each in self.members(at)["members"]}

    def test_machine_unplugged(self) -> None:
        """FA1, FA2, RC1: the leader's machine drops off the network; the others elect another and
        go on, the lost one acknowledges nothing; back on the network all are equal."""
        for n in range(3):
            self.paste(n, INFRA.format(peers=PEERS, n=n))
        self.founded()
        endpoints = "--endpoints=" + ",".join(f"http://10.0.1.1{n}:2379" for n in range(3))

        def leader() -> int:
            said = self.etcdctl("endpoint", "status", "-w", "json", endpoints)
            for n, each in enumerate(json.loads(said) if said else ()):
                if each["Status"]["leader"] == each["Status"]["header"]["member_id"]:
                    return n
            return -1

        until(lambda: leader() >= 0, "somebody leads")
        lost = leader()
        self.machines.unplug(lost)
        others = [n for n in range(3) if n != lost]
        until(lambda: self.etcdctl("put", "after", "1", at=others[0]) != "", "writes go on")
        for words in (
            ("put", "lost", "1"),
            ("member", "add", "x", "--peer-urls=http://10.0.1.13:1"),
        ):
            alone = self.machines.run(
                lost, [self.ctl, "--command-timeout=3s", "--endpoints=127.0.0.1:2379", *words]
            )
            self.assertNotEqual(alone.returncode, 0)
        self.machines.plug(lost)
        until(
            lambda: "1" in self.etcdctl("get", "after", at=lost),
            lambda: f"it has caught up:\n{self.log(lost)[-6000:]}",
        )

        def hashes() -> set[tuple[int, int]]:
            said = self.etcdctl("endpoint", "hashkv", "-w", "json", endpoints)
            found = json.loads(said) if said else []
            return {
                (each["HashKV"]["hash"], each["HashKV"]["header"]["revision"]) for each in found
            }

        until(lambda: len(hashes()) == 1, "all have the same")
        self.assertEqual(self.ids(), IDS)

    def test_half_founded(self) -> None:
        """RC21: a founding that was given up is begun again with empty directories and a new
        token; none of it needs anybody but the members."""
        self.paste(0, INFRA.format(peers=PEERS, n=0))
        until(lambda: "starting local member" in self.log(0), "it waits for the others")
        self.processes[0].terminate()
        self.processes[0].wait()
        shutil.rmtree(self.directory(0))
        again = INFRA.replace("etcd-cluster-1", "etcd-cluster-2")
        for n in range(3):
            self.paste(n, again.format(peers=PEERS, n=n))
        self.founded()
        self.assertEqual(set(self.ids()), {"infra0", "infra1", "infra2"})
        self.assertNotIn(IDS["infra0"], self.ids().values())
