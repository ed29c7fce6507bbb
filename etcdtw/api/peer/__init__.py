"""The pages that other members ask for on the peer port."""
