"""Which channels go together: `channels` follows them through a network's graph."""
