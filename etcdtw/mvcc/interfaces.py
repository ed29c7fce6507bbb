"""What the multi-version store asks of the thing that keeps its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zope.interface import Attribute, Interface

KEY_BUCKET = b"key"
META_BUCKET = b"meta"


class IBackend(Interface):
    """Ordered buckets of bytes, written in batches that end at log entry boundaries.

    Every read sees every write made before it, committed or not. Bucket names are etcd's
    (``key``, ``meta``, ``lease``, ``alarm``, ``auth``, ``authUsers``, ``authRoles``, ``members``,
    ``members_removed``, ``cluster``). All calls come from the reactor thread.
    """

    def get(bucket: bytes, key: bytes) -> bytes | None:
        """The value, or None."""

    def put(bucket: bytes, key: bytes, value: bytes) -> None:
        """Set a value."""

    def put_all(bucket: bytes, keys: list[bytes], values: list[bytes]) -> None:
        """Set the value of each of the keys."""

    def delete(bucket: bytes, key: bytes) -> None:
        """Remove a key; an absent one is fine."""

    def scan(bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with ``start <= key < end`` (``end`` None: to the last) in key order, as of this
        moment: later writes to the bucket while the iterator is alive are not required to show
        and must not break it."""

    def end_entry(index: int, term: int) -> None:
        """All changes since the last call belong to log entry ``index``; they, the consistent
        index and the term become durable together (design: the backend's contract, 1), and never
        within this call: the entry's log record may still be on its way to the disk."""

    def consistent_index() -> tuple[int, int]:
        """Index and term of the last entry whose changes are visible; (0, 0) when new."""

    def durable_index() -> int:
        """Index up to which a restart finds everything; 0 for a backend that keeps nothing."""

    def commit() -> None:
        """Ask that everything up to the last ``end_entry`` becomes durable soon."""

    def size() -> int:
        """Bytes on disk, or what they would be."""

    def size_in_use() -> int:
        """``size`` minus what is free for reuse."""

    def buckets() -> list[bytes]:
        """Names of the buckets that exist, in order."""

    def close() -> None:
        """Release everything; nothing uncommitted is waited for."""


class IBackendView(Interface):
    """What was durable at one moment; later writes never show.

    It keeps the backend from reusing space, so its owner closes it soon.
    """

    index = Attribute("Index of the last log entry in it.")
    term = Attribute("Term of that entry.")

    def get(bucket: bytes, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """As the backend's, and of the view's moment. StorageError once the view is closed."""

    def buckets() -> list[bytes]:
        """Names of the buckets that exist, in order."""

    def close() -> None:
        """Let go; closing twice is harmless."""


class IDurableBackend(IBackend):
    """A backend that keeps its records on a disk and says how far it has got."""

    on_durable = Attribute("Callables that get the index whenever ``durable_index`` has moved.")
    on_no_space = Attribute(
        "Callables without arguments, called after every commit that failed for lack of space. "
        "Nothing is lost: it is tried again, and reads go on seeing everything."
    )
    no_space = Attribute("Whether the last commit failed for lack of space.")
    on_fatal = Attribute("Callables that get the StorageError after which nothing is written.")
    commit_seconds = Attribute("Histogram: how long commits took.")
    defragment_seconds = Attribute("Histogram: how long defragmentations took.")
    is_defragmenting = Attribute("Whether one is under way.")
    open_views = Attribute("How many views are open.")

    def overlay_bytes() -> int:
        """Memory that changes take which are not durable yet."""

    def abandon() -> None:
        """Let nothing more become durable, until the next start: the log has failed, and the
        keyspace must never be ahead of what it holds. Reads go on."""

    def wait_durable(index: int, done: Callable[[], None]) -> None:
        """Have committed what there is, and call ``done`` once a restart finds everything up to
        ``index``: before this returns if it does already."""

    def view(owner: str) -> IBackendView:
        """A view of what is durable. ``owner`` names who holds it when it is held too long."""

    def defragment(done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Give free space back to the filesystem, then call one of the two. Reads and writes go on
        meanwhile; nothing becomes durable."""
