"""Names: resolvers behind Twisted's ``IResolver``, SRV records, and a small name server."""
