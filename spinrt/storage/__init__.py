"""Durable storage: devices, the append-only log, group commit, and the data directory. Knows nothing of mail."""
