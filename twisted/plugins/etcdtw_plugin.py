"""Names for ``twistd``; nothing heavy is imported here."""

from twisted.application.service import ServiceMaker

etcd = ServiceMaker(
    "etcdtw member",
    "etcdtw.app.taps.etcd",
    "etcd, the distributed key-value store (one member; takes etcd's flags).",
    "etcd",
)
