"""Servers that the benchmarks run: spinrt itself and those it is compared with, each a process of its own."""
