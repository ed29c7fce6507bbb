"""The directives of scripts about majorities and configuration changes."""

from __future__ import annotations

from etcdtw.raft import ConfChangeRefused
from etcdtw.raft.confchange import Tracker
from etcdtw.raft.quorum import EVERYTHING, committed_index, vote_result
from tests.raft.datadriven import Directive
from tests.raft.script_cluster import parse_changes


def execute_quorum(directive: Directive) -> str:
    """``committed cfg=(..) idx=(_,n,..)`` and ``vote cfg=(..) votes=(y,n,_)``."""
    voters = list(map(int, directive.values("cfg")))
    if directive.name == "vote":
        pairs = zip(voters, directive.values("votes"), strict=True)
        return vote_result(voters, {who: vote == "y" for who, vote in pairs if vote != "_"}).value
    known = {
        who: int(index)
        for who, index in zip(voters, directive.values("idx"), strict=True)
        if index != "_"
    }
    index = committed_index([known.get(each, 0) for each in voters])
    text = "∞" if index == EVERYTHING else str(index)
    return _bars(voters, known) + text


def _bars(voters: list[int], known: dict[int, int]) -> str:
    """A table with one bar per voter: as long as the number of voters behind it."""
    if not voters:
        return "<empty majority quorum>"
    count = len(voters)
    lines = [" " * count + "    idx"]
    for voter in voters:
        index = known.get(voter)
        if index is None:
            bar = "?" + " " * count
        else:
            behind = sum(known.get(each, 0) < index for each in voters)
            bar = "x" * behind + ">" + " " * (count - behind)
        lines.append(f"{bar} {index or 0:>5}    (id={voter})")
    return "\n".join(lines) + "\n"


class ChangeScript:
    """``simple`` and input like ``v1 l2``; the last index grows by one with each."""

    def __init__(self) -> None:
        self._tracker = Tracker(inflight_limit=10)
        self._last_index = 0

    def execute(self, directive: Directive) -> str:
        tokens = " ".join(directive.input_lines)
        try:
            self._tracker.change(parse_changes(tokens), self._last_index)
        except ConfChangeRefused as error:
            return str(error)
        finally:
            self._last_index += 1
        lines = [str(self._tracker.configuration)]
        lines += [f"{who}: {each}" for who, each in self._tracker.progress.items()]
        return "\n".join(lines)
