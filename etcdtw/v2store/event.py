"""What happened to one node: the answer to a request and the news for watchers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from etcdtw.v2store.node import NodeView

GET: Final = "get"
CREATE: Final = "create"
SET: Final = "set"
UPDATE: Final = "update"
DELETE: Final = "delete"
COMPARE_AND_SWAP: Final = "compareAndSwap"
COMPARE_AND_DELETE: Final = "compareAndDelete"
EXPIRE: Final = "expire"


@dataclass(slots=True)
class Event:
    """An action on a node. Events are shared with the history: nobody changes one.

    ``store_index`` is the tree's index for the ``X-Etcd-Index`` header. A refresh is kept in the
    history but no watcher hears of it.
    """

    action: str
    node: NodeView
    previous: NodeView | None = None
    refresh: bool = False
    store_index: int = 0

    @property
    def index(self) -> int:
        """The tree's index at which it happened."""
        return self.node.modified

    @property
    def created(self) -> bool:
        """Whether the node did not exist before (HTTP answers 201)."""
        return self.action == CREATE or (self.action == SET and self.previous is None)

    def client_json(self, cut: int) -> str:
        """The same for clients, without a newline: the first ``cut`` characters of every key are
        cut off, and ``refresh``, which clients never see, is dropped."""
        text = f'{{"action":"{self.action}","node":{self.node.json(cut)}'
        if self.previous is not None:
            text += f',"prevNode":{self.previous.json(cut)}'
        return text + "}"

    def json(self) -> str:
        """One JSON object, without a newline."""
        text = f'{{"action":"{self.action}","node":{self.node.json()}'
        if self.previous is not None:
            text += f',"prevNode":{self.previous.json()}'
        return text + (',"refresh":true}' if self.refresh else "}")
