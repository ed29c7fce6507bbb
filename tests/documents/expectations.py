"""What was said, against what a step expects."""

from __future__ import annotations

import re

from tests.documents.case import Step
from tests.documents.pages import broken_links, page


class Unmet(Exception):
    """Something is not as expected; the text says what, and what was there instead."""


def check(step: Step, code: int | None, said: str) -> None:
    """An answer against what a step expects."""
    if code is None and step.exit is not None:
        raise Unmet(f"it did not end within {step.seconds:g} s: {last_line(said)}")
    for each in step.says:
        if each not in said:
            raise Unmet(f"{each!r} is not in the answer, which ends: {last_line(said)}")
    for each in step.says_not:
        if each in said:
            raise Unmet(f"the answer has {each!r}: {last_line(said)}")
    for each in step.matches:
        if not re.search(each, said, re.MULTILINE):
            raise Unmet(f"nothing in the answer is like {each!r}; it ends: {last_line(said)}")
    if step.last and last_line(said) != step.last:
        raise Unmet(f"the last line is not {step.last!r} but {last_line(said)!r}")
    if step.exit is not None and code != step.exit:
        raise Unmet(f"exit code {code}, not {step.exit}: {last_line(said)}")


def check_page(step: Step) -> None:
    """A page of ours: what it says, and that its links lead somewhere."""
    if step.action == "links":
        if broken := broken_links(step.text.strip()):
            raise Unmet(f"broken links: {broken}")
        return
    check(step, 0, page(step.text.strip()))


def last_line(text: str) -> str:
    """The last line that says something, not too long for a table."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(nothing)"
