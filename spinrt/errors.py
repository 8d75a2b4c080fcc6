"""Every error that spinrt raises, in one tree.

An error names the object, the operation, what was found and what was expected; ``hint`` says what to do next. ``code``
is unique and stable: programs and logs may match on it. ``retry`` tells whether the same call may succeed later without
anything being changed. Errors carry no protocol text: SMTP replies are chosen in ``spinrt.mail.smtp.reply`` and IMAP
responses in ``spinrt.mail.imap.response``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SpinError(Exception):
    """Base of every error that spinrt raises.

    Args:
        message: One line: object, operation, found, expected.
        hint: What the reader can do about it, or an empty string.
    """

    code: ClassVar[str] = "spin"
    retry: ClassVar[bool] = False
    attempt: tuple[Any, Any, tuple[Any, ...]] | None = None
    """What was tried when it came up: entry, call and arguments of a handler. Only while the fault is being noted."""
    trace: Any = None
    """Where an extension failed, as the engine kept it (`spinrt._core.Trace`)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def line(self) -> str:
        """Return the error as the one line that a user is shown."""
        text = f"{self.code}: {self}"
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(SpinError):
    """The caller broke the contract of a function. Nothing was changed."""

    code = "usage"


class ClosedError(UsageError):
    """The object was closed before the call."""

    code = "closed"


class StateError(UsageError):
    """The object is in a state in which the call has no meaning."""

    code = "state"


class ConfigError(UsageError):
    """The configuration or the operator's policy does not say something that spinrt can do."""

    code = "config"


class ManifestError(UsageError):
    """An extension's manifest is malformed."""

    code = "manifest"


class WitError(UsageError):
    """A WIT file is malformed, or uses something outside the supported subset."""

    code = "wit"


class ModuleError(UsageError):
    """A WebAssembly module is malformed, or needs something that spinrt refuses."""

    code = "module"


class BuildError(UsageError):
    """An extension's sources could not be compiled, or no compiler is there."""

    code = "build"


class LinkError(SpinError):
    """An extension could not be linked. Nothing of it runs."""

    code = "link"


class UnresolvedImport(LinkError):
    """No interface of that name and version is exported to this domain."""

    code = "link.unresolved"


class SignatureMismatch(LinkError):
    """A module's function does not have the type that its interface declares."""

    code = "link.signature"


class LinkDenied(LinkError):
    """The policy does not grant what the extension asks."""

    code = "link.denied"


class CapabilityError(SpinError):
    """A capability was used in a way that it does not allow."""

    code = "capability"


class CapabilityRevoked(CapabilityError):
    """The capability was taken back, or its handle was dropped."""

    code = "capability.revoked"


class RevokedArgument(CapabilityRevoked, UsageError):
    """A capability among a raise's arguments was taken back. Nothing ran for it, and no extension is at fault."""

    code = "capability.revoked-argument"


class RightsExceeded(CapabilityError):
    """The capability does not carry the right that the operation needs."""

    code = "capability.rights"


class WrongDomain(CapabilityError):
    """The handle belongs to another domain, or to no one."""

    code = "capability.domain"


class DispatchError(SpinError):
    """A raise could not give a result."""

    code = "dispatch"


class NoHandler(DispatchError):
    """A result is due and no handler ran."""

    code = "dispatch.no-handler"


class HandlerFailed(DispatchError):
    """A handler failed and the event's policy does not let the raise go on without it."""

    code = "dispatch.handler-failed"


class DefaultDue(HandlerFailed):
    """A handler is quarantined, and its policy wants the event's default for that.

    Whoever began the raise takes back what it did, and answers. Callers never see it.
    """

    code = "dispatch.default-due"

    def __init__(self, message: str, answer: Any) -> None:
        super().__init__(message)
        self.answer = answer


class QueueFull(DispatchError):
    """As much waits to be run later as the event takes; this was not queued."""

    code = "dispatch.queue-full"
    retry = True


class ExtensionError(SpinError):
    """The extension is at fault."""

    code = "extension"


class Trapped(ExtensionError):
    """The guest executed an instruction that traps."""

    code = "extension.trap"


class QuotaExceeded(ExtensionError):
    """The call needed more than its limits allow."""

    code = "extension.quota"


class MemoryExceeded(QuotaExceeded):
    """The guest needs more linear memory than its limit allows."""

    code = "extension.memory"


class DeadlineExceeded(ExtensionError):
    """The call ran past its deadline."""

    code = "extension.deadline"


class Killed(ExtensionError):
    """Somebody ended the extension: it runs no more until it is loaded again."""

    code = "extension.killed"


class Quarantined(ExtensionError):
    """The extension failed too often and is kept from running for a while. Nothing ran."""

    code = "extension.quarantined"
    retry = True


class CallerDeadline(DeadlineExceeded):
    """The call ran past the deadline of a call that it was made for. It is not at fault; the outer one is."""

    code = "extension.deadline-of-caller"


class AbiError(ExtensionError):
    """A value at the boundary does not follow the Canonical ABI, or points outside the guest's memory."""

    code = "extension.abi"


class ExporterFailed(ExtensionError):
    """An extension that this one imports from failed in the middle of a call. This one was cut short; it is not at
    fault."""

    code = "extension.exporter"


class CallRolledBack(SpinError):
    """The call was rolled back at the raiser's own wish."""

    code = "call.rolled-back"


class StorageError(SpinError):
    """The store could not do what was asked."""

    code = "storage"


class DeviceFull(StorageError):
    """No room is left on the device. What was durable still is."""

    code = "storage.full"
    retry = True


class DeviceFailed(StorageError):
    """The device refused a write or a sync. The log takes nothing more until it is opened again."""

    code = "storage.device"


class CorruptRecord(StorageError):
    """Bytes read back are not the bytes that were written."""

    code = "storage.corrupt"


class FormatUnknown(StorageError):
    """The data was written by a version whose format this one does not know."""

    code = "storage.format"


class DataLocked(StorageError):
    """Another process owns the data directory."""

    code = "storage.locked"
    retry = True


class PeerFailed(StorageError):
    """The other side of a mirror cannot be reached, is another one, or went away. What arrived is kept."""

    code = "storage.peer"
    retry = True


class UndoError(SpinError):
    """An operator's undo cannot go on."""

    code = "undo"


class RewindRefused(UndoError):
    """The point to rewind to cannot be reached."""

    code = "undo.rewind"


class ReplayStopped(UndoError):
    """The replay met something that the policy does not decide."""

    code = "undo.replay"


class MailError(SpinError):
    """The mail system could not do what was asked."""

    code = "mail"


class PeerProtocolError(MailError):
    """The peer sent bytes that the protocol does not allow."""

    code = "mail.protocol"


class Rejected(MailError):
    """A message, a recipient or a login is refused."""

    code = "mail.rejected"


class NotFound(MailError):
    """No such account, mailbox, message, snapshot or page."""

    code = "mail.not-found"


class AlreadyExists(MailError):
    """There is one of that name already."""

    code = "mail.exists"


class AddressMalformed(MailError):
    """The text is not a mailbox address that SMTP could carry."""

    code = "mail.address"


class Busy(MailError):
    """Too much of the same is going on; nothing was begun."""

    code = "mail.busy"
    retry = True


class InternalError(SpinError):
    """A mistake of spinrt's own. The domain closes, the process lives; please report it."""

    code = "internal"


def error_of(code: str, message: str, hint: str) -> SpinError:
    """Make the error of that code; a code that this version does not know gives a plain SpinError that names it."""
    pending: list[type[SpinError]] = [SpinError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message, hint=hint)
        pending.extend(kind.__subclasses__())
    return SpinError(f"{code}: {message}", hint=hint)
