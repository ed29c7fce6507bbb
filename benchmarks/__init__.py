"""Side-by-side measurements of a member and real etcd on the same machine."""
