"""What members say to each other: etcd's rafthttp, as its servers and its callers speak it."""
