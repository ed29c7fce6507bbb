"""Who may import whom: the layers of the house, without exceptions."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.house.source import dotted, imports, is_within, modules, parsed, relative

LAYERS: list[set[str]] = [
    {"errors", "ids", "counting", "lean", "undocumented", "turns", "varint", "version", "pb"},
    {"raft", "http2", "mvcc", "v2store", "lease", "auth", "membership", "apply"},
    {"storage", "tls", "dns", "observe"},
    {"rpc", "peer", "replica"},
    {"api", "client", "bootstrap", "proxy", "discovery"},
    {"config", "app", "__main__"},
]
TESTING = "testing"
LAYER_OF = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Modules that a neighbour of the same layer, or storage from above, may see: the shapes of
# collaborators and of data, and the bytes of the latter.
SEAMS = {"interfaces", "messages", "codec"}
# Rooms whose work is to join other rooms of their own layer; the members live in the v2 tree, and
# certificates are for names.
JOINS = {"apply": LAYERS[1], "membership": {"v2store"}, "tls": {"dns"}}

BANNED_IN_PURE_LAYERS = (
    "twisted",
    "time",
    "os",
    "socket",
    "threading",
    "asyncio",
    "select",
    "subprocess",
    "logging",
    "ssl",
    "secrets",
    "pathlib",
    "shutil",
    "tempfile",
    "io.open",
)
CALLS_OUTSIDE = {"open", "input", "print", "random.Random", "Random"}
CLOCK_CALLS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
GLOBAL_REACTOR = "twisted.internet.reactor"
REACTOR_ALLOWED = ("etcdtw.app.taps", "etcdtw.app.main")
STORAGE_LAYER_TWISTED = (
    "twisted.internet.defer",
    "twisted.internet.interfaces",
    "twisted.logger",
    "twisted.python",
)
MORE_TWISTED = {
    "tls": (
        "twisted.internet.error",
        "twisted.internet.protocol",
        "twisted.internet.tcp",
        "twisted.protocols.tls",
        "twisted.plugin",
    ),
    "dns": ("twisted.internet.address", "twisted.names"),
}
"""TLS and DNS are Twisted's; these rooms add to them, and find plugins."""


def room_of(module: str) -> str:
    """``raft`` of ``etcdtw.raft.log``; empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def is_seam(imported: str) -> bool:
    """True for ``etcdtw.<room>.interfaces`` and what lies in it."""
    parts = imported.split(".")
    return len(parts) > 2 and parts[2] in SEAMS


def forbidden(importer: str, imported: str) -> str | None:
    """Why a module of the package may not import another one, or None."""
    here, there = room_of(importer), room_of(imported)
    if here in ("", there) or there == "":
        return None
    if TESTING in (here, there):
        return None if here == TESTING else "only tests use the testing room"
    for room in (here, there):
        if room not in LAYER_OF:
            return f"the room {room!r} has no layer"
    low, high = LAYER_OF[there], LAYER_OF[here]
    if low > high:
        return f"layer {high} must not know layer {low}"
    if there in JOINS.get(here, ()):
        return None
    if high == low and high in (1, 2, 3) and not is_seam(imported):
        return "rooms of one layer meet only in interfaces"
    if high == low == 4 and there != "client":
        return "rooms of layer 4 share only the client"
    if high == 2 and low == 1 and not is_seam(imported):
        return "layer 2 sees only the interfaces of layer 1"
    if high == 4 and there == "storage" and not is_seam(imported):
        return "layer 4 does not name storage files"
    return None


def pure_modules() -> list[Path]:
    return [p for p in modules("etcdtw") if LAYER_OF.get(room_of(dotted(p))) in (0, 1)]


class LayerTests(SynchronousTestCase):
    def assert_none(self, wrong: list[str]) -> None:
        if wrong:
            self.fail("\n".join([f"{len(wrong)} lines break the rule", *wrong]))

    def test_imports_follow_the_layers(self) -> None:
        """No module imports upward, sideways past an interface, or around a seam."""
        wrong = [
            f"{relative(path)}:{line} imports {name}: {reason}"
            for path in modules("etcdtw")
            for line, name in imports(path)
            if is_within(name, "etcdtw") and (reason := forbidden(dotted(path), name))
        ]
        self.assert_none(wrong)

    def test_pure_layers_name_no_outside_world(self) -> None:
        """Layers 0 and 1 get time, dice, disk and network as arguments or not at all."""
        wrong = []
        for path in pure_modules():
            dice = () if names_only_the_type_of_dice(path) else ("random",)
            wrong += [
                f"{relative(path)}:{line} imports {name}"
                for line, name in imports(path)
                if is_within(name, *BANNED_IN_PURE_LAYERS, *dice)
            ]
            wrong += [f"{relative(path)}:{line} calls {call}" for line, call in outside_calls(path)]
        self.assert_none(wrong)

    def test_storage_layer_uses_little_of_twisted(self) -> None:
        """Layer 2 knows Deferreds, interfaces and the logger of Twisted, nothing that runs; only
        TLS and DNS stand on Twisted's own."""
        wrong = [
            f"{relative(path)}:{line} imports {name}"
            for path in modules("etcdtw")
            if LAYER_OF.get(room_of(dotted(path))) == 2
            for line, name in imports(path)
            if is_within(name, "twisted") and not is_within(name, *STORAGE_LAYER_TWISTED)
            if not is_within(name, *MORE_TWISTED.get(room_of(dotted(path)), ()))
        ]
        self.assert_none(wrong)

    def test_only_the_taps_import_the_reactor(self) -> None:
        """The global reactor is named by the commands alone."""
        wrong = [
            f"{relative(path)}:{line}"
            for path in modules("etcdtw", "twisted")
            if not is_within(dotted(path), *REACTOR_ALLOWED)
            for line, name in imports(path)
            if is_within(name, GLOBAL_REACTOR)
        ]
        self.assert_none(wrong)

    def test_rules_refuse_what_they_should(self) -> None:
        """The rule itself tells allowed imports from forbidden ones."""
        for importer, imported in (
            ("etcdtw.raft.log", "etcdtw.errors.EtcdError"),
            ("etcdtw.apply.kv", "etcdtw.mvcc.store"),
            ("etcdtw.storage.wal.reader", "etcdtw.raft.messages.Entry"),
            ("etcdtw.peer.stream", "etcdtw.replica.interfaces"),
            ("etcdtw.bootstrap.srv", "etcdtw.client.v3"),
            ("etcdtw.app.assemble", "etcdtw.api.v3.kv"),
            ("etcdtw.testing.cluster", "etcdtw.app.assemble"),
        ):
            self.assertIsNone(forbidden(importer, imported), (importer, imported))
        for importer, imported in (
            ("etcdtw.raft.log", "etcdtw.storage.wal"),
            ("etcdtw.mvcc.store", "etcdtw.lease.lessor"),
            ("etcdtw.storage.bolt", "etcdtw.mvcc.store"),
            ("etcdtw.peer.stream", "etcdtw.replica.driver"),
            ("etcdtw.api.v3.kv", "etcdtw.config.flags"),
            ("etcdtw.api.v3.kv", "etcdtw.storage.datadir"),
            ("etcdtw.app.member", "etcdtw.testing.disk"),
            ("etcdtw.attic.old", "etcdtw.errors"),
        ):
            self.assertIsNotNone(forbidden(importer, imported), (importer, imported))


def names_only_the_type_of_dice(path: Path) -> bool:
    """True if the only thing a file takes from ``random`` is the type of the dice it is given."""
    taken = {name for _, name in imports(path) if is_within(name, "random")}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random":
            taken.add(f"random.{node.attr}")
    return taken <= {"random", "random.Random"}


def outside_calls(path: Path) -> list[tuple[int, str]]:
    """Calls that read the clock, open a file or make dice without an import that shows it."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS_OUTSIDE or name.endswith(CLOCK_CALLS):
                found.append((node.lineno, name))
    return found
