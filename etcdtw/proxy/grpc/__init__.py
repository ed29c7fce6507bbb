"""The gRPC proxy: clients share watches, renewals of leases and answers of serializable reads."""
