"""``python -m tests.fuzz port --seconds 600``: looks for inputs that a target takes wrongly.

With atheris installed (``pip install atheris``) it is led by coverage, else by chance alone; an
input that fails is printed and kept in the working directory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="by chance, with atheris or not")
    options = parser.parse_args()
    if not options.plain:
        try:
            import atheris
        except ImportError:
            print("atheris is not installed: inputs are made by chance alone")
        else:
            _by_coverage(atheris, options.target, options.seconds, options.seed)
            return
    _by_chance(options.target, options.seconds, options.seed)


def _by_coverage(atheris, target: str, seconds: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    for name in sorted(sys.modules):
        module = sys.modules[name]
        if name.startswith(("etcdtw.http2", "etcdtw.rpc", "etcdtw.api")) and "_pb2" not in name:
            for attribute in vars(module).values():
                if isinstance(attribute, type) and attribute.__module__ == name:
                    for key, value in list(vars(attribute).items()):
                        if callable(value) and hasattr(value, "__code__"):
                            setattr(attribute, key, atheris.instrument_func(value))
    with tempfile.TemporaryDirectory() as corpus:
        for number, each in enumerate(SEEDS[target]()):
            (Path(corpus) / str(number)).write_bytes(each)
        arguments = [sys.argv[0], corpus, f"-max_total_time={seconds}", f"-seed={seed}"]
        arguments += ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1500", "-print_final_stats=1"]
        atheris.Setup(arguments, TARGETS[target])
        atheris.Fuzz()


def _by_chance(target: str, seconds: int, seed: int) -> None:
    run = TARGETS[target]
    corpus = SEEDS[target]()
    dice = Random(f"{target}/{seed}")
    slowest = 0.0
    count = 0
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        data = mutated(dice, corpus)
        if len(corpus) < 2000 and dice.random() < 0.02:
            corpus.append(data)
        try:
            run(data)
        except BaseException:
            path = Path(f"fuzz-{target}-{count}")
            path.write_bytes(data)
            print(f"input {count} of seed {seed} fails, kept as {path}")
            raise
        slowest = max(slowest, time.monotonic() - now)
        count += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{target}: {count} inputs in {seconds} s, none fails; slowest {slowest * 1000:.0f} ms, "
          f"{memory} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
