"""Mail as extensions see it: the host interfaces of ``spinrt:mail`` and ``spinrt:undo/tags``.

Each turns what a guest asks into a read of the message, or into an effect in the call's journal. Nothing here stores or
sends anything; ``spinrt.mail.delivery`` turns the effects of a transaction that succeeded into one log record.
"""
