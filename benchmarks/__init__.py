"""Benchmarks: ``spinrt bench NAME``. One format for all, see ``harness``."""
