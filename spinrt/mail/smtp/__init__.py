"""SMTP and LMTP: an engine without I/O, and a server around it."""
