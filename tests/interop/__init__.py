"""Tests that hold a member against real etcd and against foreign clients."""
