"""TLS of a member: certificates and whom they let in, on the client port and among peers."""
