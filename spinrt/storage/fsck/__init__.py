"""Checking what is stored, without changing it: the log, the pages; reading it again and again beside the server."""
