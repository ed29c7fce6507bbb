"""The tree's own rules: order of expiry, watches, and agreement with a naive model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.v2store import (
    Event,
    UnknownMethod,
    V2Code,
    V2Error,
    V2Store,
    apply_request,
    clean_path,
    format_time,
    parse_time,
    recover,
    save,
)
from etcdtw.v2store.gojson import quote
from etcdtw.v2store.history import CAPACITY

SECOND = 10**9
NOON = 1_795_176_000 * SECOND
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def new_store() -> V2Store:
    return V2Store(lambda: NOON)


class ExpiryTests(SynchronousTestCase):
    """Nodes with a time to live."""

    def setUp(self) -> None:
        self.store = new_store()

    def put(self, name: str, seconds: int) -> None:
        self.store.set("/1/" + name, "v", expiration=NOON + seconds * SECOND)

    def expired(self, seconds: int) -> list[str]:
        return [each.node.key for each in self.store.expire_until(NOON + seconds * SECOND)]

    def test_earliest_first(self) -> None:
        """What is due expires, the earliest first, each with an index of its own."""
        self.put("late", 3)
        self.put("b", 1)
        self.put("a", 1)
        self.put("never", 100)
        before = self.store.index
        self.assertEqual(self.expired(5), ["/1/a", "/1/b", "/1/late"])
        self.assertEqual(self.store.index, before + 3)
        self.assertTrue(self.store.has_ttl_keys())

    def test_directory_expires_whole(self) -> None:
        """A directory takes along what is below it, which then does not expire again."""
        self.store.create("/1/dir", is_dir=True, expiration=NOON + SECOND)
        self.put("dir/x", 5)
        self.assertEqual(self.expired(10), ["/1/dir"])
        self.assertFalse(self.store.has_ttl_keys())

    def test_replaced_and_removed(self) -> None:
        """A node that was replaced, made permanent or deleted does not expire."""
        for name in "abc":
            self.put(name, 1)
        self.store.set("/1/a", "new")
        self.store.update("/1/b", "new")
        self.store.delete("/1/c")
        self.assertEqual(self.expired(10), [])
        self.assertFalse(self.store.has_ttl_keys())

    def test_many_refreshes(self) -> None:
        """Refreshing over and over leaves no pile of old deadlines."""
        self.put("a", 1)
        for second in range(2, 1000):
            self.store.update("/1/a", "", expiration=NOON + second * SECOND, refresh=True)
        self.assertLess(len(self.store.expiry._heap), 100)
        self.assertEqual(self.expired(998), [])
        self.assertEqual(self.expired(999), ["/1/a"])

    def test_before_2000_is_permanent(self) -> None:
        """A creation that should have expired long ago is permanent."""
        self.assertEqual(self.store.create("/1/a", expiration=5).node.expiration, 0)

    def test_same_after_recovery(self) -> None:
        """A recovered tree expires the same nodes in the same order."""
        for name, seconds in (("z", 1), ("a", 1), ("m", 2)):
            self.put(name, seconds)
        twin = new_store()
        recover(twin, save(self.store))
        twin_expired = [each.node.key for each in twin.expire_until(NOON + 9 * SECOND)]
        self.assertEqual(twin_expired, self.expired(9))
        self.assertEqual(save(twin), save(self.store))


class WatchTests(SynchronousTestCase):
    """Who hears of what."""

    def setUp(self) -> None:
        self.store = new_store()
        self.heard: list[Event] = []

    def watch(
        self, path: str, recursive: bool = False, stream: bool = False, since: int = 0
    ) -> None:
        self.store.watch(path, recursive, stream, since, self.heard.append)

    def keys(self) -> list[str]:
        return [f"{each.action} {each.node.key}" for each in self.heard]

    def test_once(self) -> None:
        """A watch without stream hears one event, and only of its own node."""
        self.watch("/1/a")
        for path in ("/1/b", "/1/a", "/1/a"):
            self.store.set(path, "v")
        self.assertEqual(self.keys(), ["set /1/a"])
        self.assertEqual(self.store.hub.count, 0)

    def test_recursive_stream(self) -> None:
        """A recursive stream hears everything below, but nothing hidden."""
        self.watch("/1/d", recursive=True, stream=True)
        for path in ("/1/d/x", "/1/d/_h", "/1/d/_h2/y", "/1/d2", "/1/d/x/../z"):
            self.store.set(path, "v")
        self.assertEqual(self.keys(), ["set /1/d/x", "set /1/d/z"])

    def test_hidden_directly(self) -> None:
        """A hidden node can be watched itself."""
        self.watch("/1/_h")
        self.store.set("/1/_h", "v")
        self.assertEqual(self.keys(), ["set /1/_h"])

    def test_removed_directory(self) -> None:
        """Who watches below a directory hears of its removal."""
        self.store.set("/1/d/x/y", "v")
        self.watch("/1/d/x/y")
        self.store.delete("/1/d", recursive=True)
        self.assertEqual(self.keys(), ["delete /1/d"])

    def test_history(self) -> None:
        """A watch from the past hears the first event from there on, at once."""
        for value in "abc":
            self.store.set("/1/a", value)
        self.watch("/1/a", since=2)
        self.assertEqual([each.node.value for each in self.heard], ["b"])

    def test_future(self) -> None:
        """A watch from a future index hears nothing before it."""
        self.watch("/1/a", since=3)
        for value in "abc":
            self.store.set("/1/a", value)
        self.assertEqual([each.node.value for each in self.heard], ["c"])

    def test_refresh_is_silent(self) -> None:
        """A refresh is kept in the history, and nobody hears of it."""
        self.store.set("/1/a", "v", expiration=NOON + SECOND)
        self.watch("/1/a")
        self.store.update("/1/a", "", expiration=NOON + 2 * SECOND, refresh=True)
        self.store.set("/1/a", "w")
        self.assertEqual([each.node.value for each in self.heard], ["w"])

    def test_cleared_history(self) -> None:
        """A watch from before the history is refused with both indexes."""
        for value in range(CAPACITY + 5):
            self.store.set("/1/a", str(value))
        error = self.assertRaises(V2Error, self.watch, "/1/a", since=5)
        self.assertEqual(error.code, V2Code.EVENT_INDEX_CLEARED)
        self.assertEqual(error.cause, "the requested history has been cleared [6/5]")
        self.assertEqual(error.index, CAPACITY + 5)
        self.watch("/1/a", since=6)
        self.assertEqual([each.node.value for each in self.heard], ["5"])

    def test_cancel(self) -> None:
        """A cancelled watch hears nothing more; cancelling twice is fine."""
        watcher = self.store.watch("/1/a", False, True, 0, self.heard.append)
        watcher.cancel()
        watcher.cancel()
        self.store.set("/1/a", "v")
        self.assertEqual(self.heard, [])
        self.assertEqual(self.store.hub.count, 0)


class TextTests(SynchronousTestCase):
    """Paths, times and JSON text."""

    def test_clean_path(self) -> None:
        """Paths are cleaned as Go's path package does under a root."""
        cases = {"": "/", "/": "/", "a": "/a", "/a/": "/a", "//a//b/": "/a/b", "/a/./b": "/a/b"}
        cases |= {"/a/../b": "/b", "/../..": "/", "/a/b/../../c": "/c", "/...": "/..."}
        for path, clean in cases.items():
            self.assertEqual(clean_path(path), clean)

    def test_quote_as_go(self) -> None:
        """Characters that are special in HTML or in Go's encoder are escaped as Go does."""
        self.assertEqual(quote('a"\\\n\t\r'), '"a\\"\\\\\\n\\t\\r"')
        self.assertEqual(
            quote("<&>\u2028\b\f\x01é"), '"\\u003c\\u0026\\u003e\\u2028\\u0008\\u000c\\u0001é"'
        )
        self.assertEqual(quote("\ud800\n"), '"\\ufffd\\n"')

    def test_times(self) -> None:
        """Times are written in UTC without trailing zeros, and read with any offset."""
        self.assertEqual(format_time(0), "0001-01-01T00:00:00Z")
        self.assertEqual(format_time(1_500_000_000), "1970-01-01T00:00:01.5Z")
        for text in ("2026-11-21T02:00:00.25+01:00", "2026-11-21T01:00:00.250Z"):
            self.assertEqual(format_time(parse_time(text)), "2026-11-21T01:00:00.25Z")
        for text in ("", "2026-11-21", "2026-13-01T00:00:00Z"):
            self.assertRaises(ValueError, parse_time, text)

    @PROPERTY
    @given(st.integers(min_value=1, max_value=2**63 - 1))
    def test_times_return(self, nanoseconds: int) -> None:
        """Every time comes back from its text."""
        self.assertEqual(parse_time(format_time(nanoseconds)), nanoseconds)

    def test_error_json(self) -> None:
        """A cause that says nothing is left out."""
        self.assertEqual(
            V2Error(V2Code.NOT_FILE, "/a", 3).json(),
            '{"errorCode":102,"message":"Not a file","cause":"/a","index":3}',
        )
        self.assertEqual(
            V2Error(V2Code.NOT_FILE, "", 3).json(),
            '{"errorCode":102,"message":"Not a file","index":3}',
        )

    def test_unknown_method(self) -> None:
        """A method that no release knows is refused, with etcd's words."""
        error = self.assertRaises(UnknownMethod, apply_request, new_store(), Request(Method="MOVE"))
        self.assertEqual(str(error), "etcdserver: unknown method")

    def test_roots_stay(self) -> None:
        """The root and the two fixed directories can be neither written nor removed."""
        for path in ("/", "/0", "/1/", "/1/x/.."):
            store = new_store()
            for write in (store.set, store.create):
                self.assertEqual(self.assertRaises(V2Error, write, path).code, 107)
            for remove in (store.delete,):
                error = self.assertRaises(V2Error, remove, path, recursive=True)
                self.assertEqual(error.code, V2Code.ROOT_READ_ONLY)
            self.assertEqual(store.index, 0)


NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/k", "_h", "b/_h"])
VALUES = st.sampled_from(["", "1", "2"])
REQUESTS = st.builds(
    lambda method, name, value, is_dir, recursive, exist, prev_value, prev_index: Request(
        Method=method,
        Path="/1/" + name,
        Val=value,
        Dir=is_dir,
        Recursive=recursive,
        PrevValue=prev_value,
        PrevIndex=prev_index,
        **({} if exist is None else {"PrevExist": exist}),
    ),
    st.sampled_from(["PUT", "PUT", "PUT", "DELETE", "POST"]),
    NAMES,
    VALUES,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, True, False]),
    st.sampled_from(["", "", "1"]),
    st.sampled_from([0, 0, 1, 2, 3]),
)


@dataclass
class NaiveTree:
    """The same requests on a flat dictionary: path to value, None for a directory."""

    nodes: dict[str, str | None] = field(default_factory=lambda: {"/1": None})
    modified: dict[str, int] = field(default_factory=dict)
    index: int = 0

    def parents(self, path: str) -> list[str]:
        names = path.split("/")
        return ["/".join(names[:count]) for count in range(2, len(names))]

    def below(self, path: str) -> list[str]:
        return [each for each in self.nodes if each.startswith(path + "/")]

    def apply(self, request: Request) -> bool:
        """Whether the request takes effect."""
        path, value = request.Path, None if request.Dir else request.Val
        compares = bool(request.PrevValue or request.PrevIndex)
        exists = request.PrevExist if request.HasField("PrevExist") else None
        if request.Method == "POST":
            return self.put(f"{path}/{self.index + 1:020}", value, replaces=False)
        if request.Method == "PUT" and (exists is False or (exists is None and not compares)):
            return self.put(path, value, replaces=exists is None)
        if path not in self.nodes or any(self.nodes.get(p) is not None for p in self.parents(path)):
            return False
        is_dir = self.nodes[path] is None
        if compares:
            same = request.PrevValue in ("", self.nodes[path])
            if is_dir or not same or request.PrevIndex not in (0, self.modified[path]):
                return False
        if request.Method == "PUT":
            if is_dir and request.Val:
                return False
            self.index += 1
            if not is_dir:
                self.nodes[path] = request.Val
                self.modified[path] = self.index
            return True
        needs_empty = not compares and is_dir and not request.Recursive
        if needs_empty and (not request.Dir or self.below(path)):
            return False
        for each in [*self.below(path), path]:
            del self.nodes[each]
        self.index += 1
        return True

    def put(self, path: str, value: str | None, replaces: bool) -> bool:
        if any(self.nodes.get(p) is not None for p in self.parents(path)):
            return False
        if path in self.nodes and (not replaces or self.nodes[path] is None):
            return False
        self.index += 1
        for each in [p for p in self.parents(path) if p not in self.nodes] + [path]:
            self.nodes[each] = None
            self.modified[each] = self.index
        self.nodes[path] = value
        return True


class ModelTests(SynchronousTestCase):
    """Random requests, on the tree and on the model."""

    @PROPERTY
    @given(st.lists(REQUESTS, max_size=30))
    def test_like_the_model(self, requests: list[Request]) -> None:
        """Both take the same requests, hold the same nodes, and survive saving."""
        store, model = new_store(), NaiveTree()
        for request in requests:
            expected = model.apply(request)
            try:
                apply_request(store, request)
            except V2Error as error:
                self.assertFalse(expected, f"{request} {error}")
                self.assertEqual(error.index, store.index)
            else:
                self.assertTrue(expected, str(request))
            self.assertEqual(store.index, model.index)
        held = {each.path: None if each.is_dir else each.value for each in store.root.below()}
        del held["/0"]
        self.assertEqual(held, model.nodes)
        twin = new_store()
        recover(twin, save(store))
        self.assertEqual(save(twin), save(store))
