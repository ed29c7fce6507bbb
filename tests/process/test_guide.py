"""The clustering guide's static commands, letter for letter, on machines with its addresses."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import until
from tests.process.machines import Machines
from tests.process.member import etcdctl, server_under_test

INFRA = r"""
etcd --name infra{n} --initial-advertise-peer-urls http://10.0.1.1{n}:2380 \
  --listen-peer-urls http://10.0.1.1{n}:2380 \
  --listen-client-urls http://10.0.1.1{n}:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.1{n}:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state new
"""  # noqa: E501
BY_ENVIRONMENT = {
    "ETCD_INITIAL_CLUSTER": (
        "infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380"
    ),
    "ETCD_INITIAL_CLUSTER_STATE": "new",
}
NOT_LISTED = r"""
etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls https://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380 \
  --initial-cluster-state new
"""
OTHER_ADDRESS = r"""
etcd --name infra0 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state=new
"""  # noqa: E501
OTHER_CLUSTER = r"""
etcd --name infra3 --initial-advertise-peer-urls http://10.0.1.13:2380 \
  --listen-peer-urls http://10.0.1.13:2380 \
  --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.13:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra3=http://10.0.1.13:2380 \
  --initial-cluster-state=new
"""  # noqa: E501
IDS = {"infra0": "140fedbeeb74765d", "infra1": "d5dc5f8d75d04e29", "infra2": "8a0a11c6194fc77"}
CLUSTER = "acccc8912db0cd57"
DEFAULT_TOKEN_IDS = {
    "infra0": "794aea3ba77a1d64",
    "infra1": "e25938377bdd2340",
    "infra2": "9d480e1db4ddec45",
}


class GuideCase(SynchronousTestCase):
    """Each machine has a directory of its own, where its member runs."""

    timeout = 180

    def setUp(self) -> None:
        self.ctl = etcdctl()
        self.machines = Machines(4)
        self.addCleanup(self.machines.close)
        self.root = Path(tempfile.mkdtemp(prefix="guide-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.addCleanup(self.stop_all)

    def directory(self, place: int) -> Path:
        found = self.root / str(place)
        found.mkdir(exist_ok=True)
        return found

    def paste(
        self,
        place: int,
        text: str,
        variables: Mapping[str, str] | None = None,
        command: list[str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Run a command of the guide as a shell would; only the program is ours."""
        program, *flags = shlex.split(text.replace("\\\n", " "))
        self.assertEqual(program, "etcd")
        argv = [*(command or server_under_test()), *flags]
        directory = self.directory(place)
        process = self.machines.start(
            place, argv, str(directory), str(directory / "log"), variables
        )
        self.processes[place] = process
        return process

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


class StaticTests(GuideCase):
    """The commands under "Static"."""

    def test_letter_for_letter(self) -> None:
        """ST1, ST14, ST17, ST21, ST22, ST29, ST30, OV3: the three commands give the guide's
        cluster, with etcd's ids; every member shows what all advertise, which is of use from
        elsewhere, and answers on both its client URLs."""
        for n in range(3):
            self.paste(n, INFRA.format(n=n))
        self.founded()
        for n in range(3):
            members = self.members(n)
            self.assertEqual(self.ids(n), IDS)
            self.assertEqual(f"{members['header']['cluster_id']:x}", CLUSTER)
            for each in members["members"]:
                number = each["name"][-1]
                self.assertEqual(each["clientURLs"], [f"http://10.0.1.1{number}:2379"])
                self.assertEqual(each["peerURLs"], [f"http://10.0.1.1{number}:2380"])
            for host in (f"10.0.1.1{n}", "127.0.0.1"):
                said = self.machines.run(n, ["curl", "-s", f"http://{host}:2379/health"]).stdout
                self.assertIn('"health":"true"', said)
            self.assertEqual(self.etcdctl("put", f"k{n}", "v", at=n).strip(), "OK")
        for n in range(3):
            self.assertIn("k2", self.etcdctl("get", "k", "--prefix", at=n))
        # From another machine, by what the members say of themselves.
        asked = self.etcdctl("endpoint", "status", "--cluster")
        self.assertEqual(
            sorted(line.split(",")[0] for line in asked.splitlines()),
            [f"http://10.0.1.1{n}:2379" for n in range(3)],
        )

    def test_by_environment_in_any_order(self) -> None:
        """ST2, ST3, ST4, ST10, ST11, ST23: the same by variables, with one dash, with ``=``, begun
        one after the other; without a token the ids are those of ``etcd-cluster``."""
        for n in (2, 0, 1):
            flags = INFRA.format(n=n).split("--initial-cluster-token")[0].rstrip(" \\\n")
            if n == 1:
                flags = flags.replace(" --", " -").replace("-name ", "-name=")
            self.paste(n, flags, BY_ENVIRONMENT)
            if n == 2:
                until(lambda: "starting local member" in self.log(2), "the first is up")
            self.assertIsNone(self.processes[2].poll(), "one of three waits for the others")
        self.founded()
        self.assertEqual(self.ids(), DEFAULT_TOKEN_IDS)

    def test_restarted_without_flags(self) -> None:
        """ST25, ST26: after the first start the cluster's flags may go, or be wrong."""
        for n in range(3):
            self.paste(n, INFRA.format(n=n))
        self.founded()
        self.etcdctl("put", "k", "v")
        later = INFRA.format(n=1).split("--initial-cluster-token")[0].rstrip(" \\\n")
        for flags in (later, later + " --initial-cluster infra7=http://10.0.1.17:2380"):
            self.processes[1].terminate()
            self.processes[1].wait()
            self.paste(1, flags)
            until(lambda: "v" in self.etcdctl("get", "k", at=1), "it serves again")
            self.assertEqual(self.ids(1), IDS)

    def test_machine_unplugged(self) -> None:
        """FA1, FA2, RC1: the leader's machine drops off the network; the others elect another and
        go on, the lost one acknowledges nothing; back on the network all are equal."""
        for n in range(3):
            self.paste(n, INFRA.format(n=n))
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
        """RC21, ST6: a founding that was given up is begun again with empty directories and a new
        token; none of it needs anybody but the members."""
        self.paste(0, INFRA.format(n=0))
        until(lambda: "starting local member" in self.log(0), "it waits for the others")
        self.processes[0].terminate()
        self.processes[0].wait()
        shutil.rmtree(self.directory(0))
        again = INFRA.replace("etcd-cluster-1", "etcd-cluster-2")
        for n in range(3):
            self.paste(n, again.format(n=n))
        self.founded()
        self.assertEqual(set(self.ids()), {"infra0", "infra1", "infra2"})
        self.assertNotIn(IDS["infra0"], self.ids().values())

    def test_mixed_up(self) -> None:
        """ST12, ST13: a member of a destroyed cluster that is still running neither joins nor
        disturbs one that is made anew on the same addresses with another token."""
        for n in range(3):
            self.paste(n, INFRA.format(n=n))
        self.founded()
        self.etcdctl("put", "old", "1")
        for n in (0, 1):
            self.processes[n].kill()
            self.processes[n].wait()
            shutil.rmtree(self.directory(n))
        again = INFRA.replace("etcd-cluster-1", "etcd-cluster-2")
        for n in (0, 1):
            self.paste(n, again.format(n=n))
        until(lambda: self.etcdctl("put", "new", "1") != "", "the new cluster serves")
        self.assertEqual(self.etcdctl("get", "old"), "")
        self.assertNotEqual(f"{self.members()['header']['cluster_id']:x}", CLUSTER)
        self.assertEqual(self.etcdctl("get", "new", "--consistency=s", at=2), "")


class ErrorCaseTests(GuideCase):
    """The commands under "Error cases": the guide's sentence last, exit code 1, nothing behind."""

    def refused(self, place: int, text: str, sentence: str) -> None:
        """By ``etcdtw``, and by ``twistd`` in the foreground and as a daemon."""
        twistd = [str(Path(sys.executable).parent / "twistd")]
        for command in (server_under_test(), [*twistd, "-n", "etcd"], [*twistd, "etcd"]):
            process = self.paste(place, text, command=list(command))
            self.assertEqual(process.wait(30), 1, command)
            log = self.log(place)
            self.assertIn(sentence, log)
            if command == server_under_test():
                self.assertEqual(log.splitlines()[-1], sentence)
            left = [each.name for each in self.directory(place).rglob("*") if "member" in each.name]
            self.assertEqual(left, [])
            (self.directory(place) / "log").unlink()

    def test_not_listed(self) -> None:
        """ER1, ER5, ER6: the own name is not in the list."""
        self.refused(1, NOT_LISTED, "etcd: infra1 not listed in the initial cluster config")

    def test_other_address(self) -> None:
        """ER2, ER5, ER6: the own address is another than listed."""
        self.refused(
            0,
            OTHER_ADDRESS,
            "etcd: error setting up initial cluster: infra0 has different advertised URLs in the "
            "cluster and advertised peer URLs list",
        )

    def test_other_cluster(self) -> None:
        """ER4, ER5: another configuration that points at a running cluster, which goes on."""
        for n in range(3):
            self.paste(n, INFRA.format(n=n))
        self.founded()
        sentence = (
            f"etcd: conflicting cluster ID to the target cluster ({CLUSTER} != de83bfe8225735ab). "
            "Exiting."
        )
        process = self.paste(3, OTHER_CLUSTER)
        self.assertEqual(process.wait(30), 1)
        self.assertEqual(self.log(3).splitlines()[-1], sentence)
        self.assertEqual([each.name for each in self.directory(3).iterdir()], ["log"])
        self.assertEqual(self.ids(), IDS)
