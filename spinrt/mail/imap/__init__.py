"""IMAP4rev1 (RFC 3501) over the mail store.

``reader`` cuts what a client sends into commands, ``parser`` gives them meaning (``command``), ``state`` holds what the
client was told, ``response`` writes; none of these does I/O. ``handlers`` and its siblings carry commands out,
``server`` drives them on asyncio.
"""
