"""Ways to a cluster through another process: the gateway, which passes bytes on, and the v2 proxy,
which passes requests on."""
