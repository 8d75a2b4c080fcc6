"""The safety suite: what an extension is made of, and what it leaves behind when it fails (docs/design/check.md)."""
