"""Which function carries out which command.

A handler returns the tagged answer behind the tag, or a coroutine that does; `state.COMMAND_PHASES` says when it may be
called, the type of the arguments is what the parser makes for that name.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from spinrt.mail.imap import commands_login, commands_mailbox, commands_message
from spinrt.mail.imap.fetch import fetch
from spinrt.mail.imap.search import search

Handler = Callable[[Any, Any], bytes | Coroutine[Any, Any, bytes]]

HANDLERS: dict[str, Handler] = {
    "CAPABILITY": commands_login.capability,
    "NOOP": commands_login.noop,
    "LOGOUT": commands_login.logout,
    "ID": commands_login.identify,
    "ENABLE": commands_login.enable,
    "STARTTLS": commands_login.start_tls,
    "LOGIN": commands_login.login,
    "AUTHENTICATE": commands_login.authenticate,
    "IDLE": commands_login.idle,
    "NAMESPACE": commands_mailbox.namespace,
    "LIST": commands_mailbox.list_mailboxes,
    "LSUB": commands_mailbox.lsub,
    "SELECT": commands_mailbox.select,
    "EXAMINE": commands_mailbox.examine,
    "STATUS": commands_mailbox.status,
    "CREATE": commands_mailbox.create,
    "DELETE": commands_mailbox.delete,
    "RENAME": commands_mailbox.rename,
    "SUBSCRIBE": commands_mailbox.subscribe,
    "UNSUBSCRIBE": commands_mailbox.unsubscribe,
    "CHECK": commands_mailbox.check,
    "CLOSE": commands_mailbox.close,
    "UNSELECT": commands_mailbox.unselect,
    "FETCH": fetch,
    "UID FETCH": fetch,
    "SEARCH": search,
    "UID SEARCH": search,
    "STORE": commands_message.store,
    "UID STORE": commands_message.store,
    "COPY": commands_message.copy,
    "UID COPY": commands_message.copy,
    "MOVE": commands_message.copy,
    "UID MOVE": commands_message.copy,
    "EXPUNGE": commands_message.expunge,
    "UID EXPUNGE": commands_message.uid_expunge,
}
