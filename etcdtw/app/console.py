"""The console command ``etcdtw``: brings in what a member needs, without what it does not, and
runs it.

This process is the member's alone, so it may import Twisted lean (``etcdtw.lean``), but for the
parts of TLS where TLS may be asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from etcdtw.app.tuning import tune_process
from etcdtw.lean import import_also, import_lean
from etcdtw.undocumented import load_undocumented

# Any of these in a flag, a variable or a value may lead to TLS, or hide the flags that do.
TLS_WORDS = (
    *("https", "unixs", "tls", "cert", "ca-file", "key-file", "crl"),
    *("auth-token", "config-file", "discovery"),
)


def main() -> NoReturn:
    """Run as the program; ends with etcd's exit code, or by the signal that stopped it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for Ctrl-C during the start
    tune_process()  # early: walks of the collector are a sixth of what loading costs
    load_undocumented()
    import_lean(may_want_tls(sys.argv[1:], os.environ))
    import_also("etcdtw.app.main")
    from etcdtw.app.main import run

    sys.exit(run(sys.argv[1:], os.environ))


def may_want_tls(words: Sequence[str], variables: Mapping[str, str]) -> bool:
    """False if nothing in a command line and an environment can ask for TLS.

    A wrong True costs memory; after a wrong False what needs TLS imports it then.
    """
    said = [*words, *(f"{k}={v}" for k, v in variables.items() if k.startswith("ETCD_"))]
    text = "\n".join(said).lower().replace("_", "-")
    return any(word in text for word in TLS_WORDS)
