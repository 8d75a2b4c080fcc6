"""The mail store: accounts' mailboxes as a deterministic state machine over the log."""
