"""A few plain lines for somebody who has just started their first member."""

from __future__ import annotations

from etcdtw.app.settings import MemberSettings


def greeting(settings: MemberSettings) -> str:
    """Where the member is and what to try."""
    url = settings.advertise_client_urls[0] if settings.advertise_client_urls else ""
    return (
        f"\n{settings.name} serves clients on {', '.join(settings.listen_client_urls)}"
        f" and keeps its data in {settings.data_dir}.\n"
        "Try:\n"
        f"  etcdctl --endpoints {url} put foo bar\n"
        f"  etcdctl --endpoints {url} get foo\n"
        f"  curl {url}/health\n"
        "Ctrl-C stops it. All flags: etcdtw --help\n\n"
    )
