"""Ways to a cluster through another process: the gateway, which passes bytes on."""
