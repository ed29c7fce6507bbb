"""Pages of the project's own documentation: their text, and whether their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")
_HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)
_EXPLICIT = re.compile(r'<a (?:id|name)="([^"]+)">')


def page(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def broken_links(name: str) -> list[str]:
    """Links of a page that lead to no file of the project, or to an anchor that is not there."""
    return [link for link in _LINK.findall(_without_code(page(name))) if not _leads(name, link)]


def _leads(name: str, link: str) -> bool:
    if re.match(r"https?://\S", link):
        return True
    path, _, anchor = link.partition("#")
    target = (PROJECT / name).parent / path if path else PROJECT / name
    if not link or not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """What a page can be linked to: its headings, as forges make anchors of them, and its own."""
    found = {anchor(each) for each in _HEADING.findall(_without_code(text))}
    return found | set(_EXPLICIT.findall(text))


def anchor(heading: str) -> str:
    """``--listen-client-urls`` as ``--listen-client-urls``, ``When machines fail`` as
    ``when-machines-fail``."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
