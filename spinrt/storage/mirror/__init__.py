"""A second place that follows: what the newest snapshot holds and the mirror does not, sent as a whole or not at all.

Engines without I/O (``sender``, ``receiver``) speak the frames of ``frames``; ``update`` makes durable what arrives;
``source`` reads what is sent; ``link`` carries frames over TLS. Design and bytes: docs/design/mirror.md.
"""
