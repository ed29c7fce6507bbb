"""Records what real etcd 3.5.1 answers to the cases: ``python -m tests.gateway.record``."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.gateway.asking import ask, shown
from tests.gateway.cases import CASES
from tests.process.member import Member, real_etcd

RECORDED = Path(__file__).parent.parent / "vectors" / "gateway-3.5.1.json"


def main() -> None:
    member = Member(real_etcd())
    with contextlib.closing(member):
        member.start()
        answers = [{"case": shown(each), **ask(member.client_port, each)} for each in CASES]
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in answers)
    RECORDED.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
