"""Loading modules without the docstrings of their functions.

Those of everything that a member imports are 1.2 MiB, which nobody reads in a running process.
Docstrings of classes and modules stay, because some say something at run time: an error of
Twisted its message, a command its help.
"""

from __future__ import annotations

import opcode
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType

_CO_OPTIMIZED = 0x1
_CO_HAS_DOCSTRING = 0x4000000
"""As ``inspect`` has them, which is not imported for two numbers."""
_USES_OF_FIRST = tuple(
    bytes((opcode.opmap[name], 0))
    for name in ("LOAD_CONST", "RETURN_CONST")
    if name in opcode.opmap
)


def load_undocumented() -> None:
    """From now on, what this process imports from files of source has no such docstrings."""
    loaders = [
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_Undocumented, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    ]
    sys.path_hooks.insert(0, FileFinder.path_hook(*loaders))
    sys.path_importer_cache.clear()


class _Undocumented(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        return code and without_docstrings(code)


def without_docstrings(code: CodeType) -> CodeType:
    """The same code, whose functions have None for their docstrings."""
    constants = list(code.co_consts)
    changed = _has_docstring(code) and not any(use in code.co_code for use in _USES_OF_FIRST)
    if changed:
        constants[0] = None
    for place, each in enumerate(constants):
        if type(each) is CodeType:
            constants[place] = inner = without_docstrings(each)
            changed = changed or inner is not each
    return code.replace(co_consts=tuple(constants)) if changed else code


def _has_docstring(code: CodeType) -> bool:
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & _CO_HAS_DOCSTRING)
    # A function's first constant is its docstring or None. Lambdas and comprehensions, whose
    # names are in angle brackets, have none.
    return bool(
        code.co_flags & _CO_OPTIMIZED
        and code.co_consts
        and isinstance(code.co_consts[0], str)
        and code.co_name[0] != "<"
    )
