"""``etcdtw ctl``: what is done to data while no member runs on it."""
