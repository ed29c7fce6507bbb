"""The v2 API: the key tree over plain HTTP, as etcd had it until 3.5."""
