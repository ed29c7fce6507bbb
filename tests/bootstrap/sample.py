"""Packages with plugins as somebody else would write them: the one of the guide, and wheels."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "bootstrap-providers.md"
# A file's name begins a paragraph; what comes after the paragraph is what is in it.
_FILE = re.compile(r"^`([\w/]+\.py)`(?:(?!\n\n).)*\n\n```python\n(.*?)^```$", re.M | re.S)

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_package(directory: Path) -> None:
    """Write the files of the guide's package, as they stand there."""
    for name, text in _FILE.findall(PAGE.read_text(encoding="utf-8")):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pack_wheel(directory: Path, name: str, contents: Mapping[str, str]) -> Path:
    """A wheel with these files, in a directory."""
    info = f"{name}-1.0.dist-info"
    files = {
        **contents,
        f"{info}/METADATA": METADATA.format(name.replace("_", "-")),
        f"{info}/WHEEL": WHEEL,
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(each, text)
    return path
