"""The mail system: SMTP and LMTP in, IMAP out, a durable store between, extensions in the middle."""
