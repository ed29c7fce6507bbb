"""The discovery service: where members of new clusters meet."""
