"""The mail store: submit a change, get what became of it once it is durable and applied; read meanwhile.

Owns the order of things: *append* the change to the log, *sync* (group commit, another thread), *acknowledge* what
became durable, *apply* it in one transaction of the index, *tell* who submitted and watchers. Reading is inherited from
``Reader``.

Changes whose outcome somebody waits for are applied at once. Deliveries that only wait for durability
(`Store.submit_deliver`) are applied together: when there are ``APPLY_COUNT``, ``APPLY_DELAY_S`` after the first of
them, with the next change of the other kind, or before the next read, whichever comes first.

Invariants
    *Durable first*: the index never holds what a crash could take back.
    *Log order*: changes are applied in the order of their records, each exactly once.
    *Acknowledged is seen*: a read sees every change that was acknowledged before it. While the index's device is full,
    it sees the last state that could be applied instead, and nothing new is taken.
    *Answered once*: every future that `submit` gave is resolved: by its outcome, by a `MailError` of the state, or by a
    `StorageError` when its record is not durable or the store failed. So is every ``on_durable``.

One thread: everything but `Store.open` runs on one event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from spinrt.errors import (
    AlreadyExists,
    ClosedError,
    DeviceFailed,
    DeviceFull,
    InternalError,
    MailError,
    SpinError,
    StateError,
)
from spinrt.mail.store.apply import apply_change
from spinrt.mail.store.backup import back_up
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.changes import OPAQUE_KINDS, encode_change
from spinrt.mail.store.check import check_change, names_of
from spinrt.mail.store.checkpoint import Checkpointer, Cut, close_followed, follow_index, load_followed
from spinrt.mail.store.index import INDEX_NAME, Batch, Index, index_error, is_full
from spinrt.mail.store.model import Change, CreateMailbox, Deliver, KvWrites, MailboxGone, Outcome, Watcher, make_record
from spinrt.mail.store.names import INBOX, check_user
from spinrt.mail.store.once import Once
from spinrt.mail.store.reader import Reader
from spinrt.mail.store.recovery import Progress, open_index, refuse_lost_log, suspect_index
from spinrt.mail.store.retention import Expiry
from spinrt.mail.store.snapshots import Attachment, SnapshotStore
from spinrt.mail.store.witness import covered_position
from spinrt.storage.background import in_background
from spinrt.storage.commit import GroupCommit
from spinrt.storage.datadir import DataDirectory
from spinrt.storage.device import Device
from spinrt.storage.log import SEGMENT_BYTES_MAX, Log
from spinrt.storage.mirror.book import refuse_mirror
from spinrt.storage.protocols import Snapshot
from spinrt.storage.retention import YOUNG_S, Expired, Retention
from spinrt.storage.wal import Changes

RETRY_S: Final = 1.0
"""Time between two attempts to apply to an index whose device is full."""
APPLY_COUNT: Final = 64
"""Acknowledged deliveries that are applied without waiting for more."""
APPLY_DELAY_S: Final = 0.015
"""Longest time that an acknowledged delivery waits for others before it is applied; watchers are told then."""

T = TypeVar("T")
OnDurable: TypeAlias = Callable[[SpinError | None], None]
OnApplied: TypeAlias = Callable[[Outcome | SpinError], None]

_trace = logging.getLogger("spinrt.mail.store")


class _Submitted(NamedTuple):
    position: int
    time_ns: int
    change: Change
    on_durable: OnDurable | None
    on_applied: OnApplied | None

    def refuse(self, error: SpinError) -> None:
        """Answer for a change that is not known to be durable."""
        if callback := self.on_durable or self.on_applied:
            _call(callback, error)


class Store(Reader):
    """The mail store of one data directory. Made by `open`."""

    def __init__(
        self,
        directory: DataDirectory,
        log: Log,
        index: Index,
        clock_ns: Callable[[], int],
        changes: Changes,
        snapshots: SnapshotStore,
    ) -> None:
        super().__init__(index, log)
        self.snapshots = snapshots
        self._directory = directory
        self._durable_log = log
        self._clock_ns = clock_ns
        self._commit: GroupCommit | None = None
        self._checkpointer = Checkpointer(index.path, changes)
        self._snapshot_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._submitted: deque[_Submitted] = deque()
        """Appended, not known to be durable."""
        self._unapplied: list[_Submitted] = []
        """Durable and acknowledged, before ``_covered``; not applied yet."""
        self._covered = 0
        self._apply_timer: asyncio.TimerHandle | None = None
        self._watchers: dict[int, list[Watcher]] = {}
        self._queue_watchers: list[Callable[[], None]] = []
        self._failure: SpinError | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._once = Once(log, directory.index_path, self._is_live, clock_ns)
        self._expiry = Expiry(directory, log, snapshots, self._once, self._settle, clock_ns)
        index.watched = self._watchers

    @classmethod
    def open(
        cls,
        datadir: Path | DataDirectory,
        *,
        progress: Progress | None = None,
        rebuild: bool = False,
        device: Device | None = None,
        pages_device: Device | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        compression: bool = True,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> Store:
        """Open or create the store in a data directory: lock it, recover the log, bring the index up to it.

        Args:
            datadir: A path, or a directory already open; the store closes it in the end.
            progress: Called with (position, end) while log records are applied.
            rebuild: Build the index anew from the log.
            device: Where the log is; by default files below the data directory.
            pages_device: Where packs and snapshots are; by default files below the data directory.
            clock_ns: Gives the time of records, nanoseconds since 1970-01-01 UTC.
            compression, segment_bytes_max: Of the log from now on.

        Raises:
            DataLocked, FormatUnknown, ConfigError: As ``DataDirectory.open``.
            StateError: It is a mirror.
            CorruptRecord: Damage in the log.
            DeviceFull, DeviceFailed: The device refused.
        """
        directory = datadir if isinstance(datadir, DataDirectory) else DataDirectory.open(datadir)
        with ExitStack() as opened:
            opened.callback(directory.close)
            refuse_mirror(directory.path)
            refuse_lost_log(directory.path, device)
            log = Log.open(
                directory.log_path,
                device=device,
                segment_bytes_max=segment_bytes_max,
                compression=compression,
                clock_ns=clock_ns,
                opaque_kinds=OPAQUE_KINDS,
                witness=partial(covered_position, directory.path, pages_device=pages_device),
            )
            opened.callback(log.close)
            snapshots = opened.enter_context(closing(SnapshotStore(directory.path, pages_device)))
            saved = load_followed(directory.index_path / INDEX_NAME)
            try:
                index = open_index(directory.index_path, log, progress, rebuild=rebuild, snapshots=snapshots)
                opened.callback(index.close)
            except sqlite3.Error as error:
                raise index_error(error, "open", directory.index_path) from error
            changes = follow_index(index.path, saved)
            opened.callback(changes.close)
            store = cls(directory, log, index, clock_ns, changes, snapshots)
            opened.pop_all()
        return store

    @property
    def log(self) -> Log:
        """The log under it, for who reads beside the store: mirrors, checks."""
        return self._durable_log

    # ------------------------------------------------------------------------------------------------------ change

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        """Hand in a change. The future is resolved when the change is durable and applied; never raises itself.

        The future's exceptions:
            MailError (NotFound, AlreadyExists, …): The state does not allow it; nothing was changed.
            UsageError: The change is malformed; nothing was written.
            DeviceFull: No room; nothing was changed. Trying again may help.
            DeviceFailed, ClosedError: The store takes nothing more; the next start may find the change, or not.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._enter(change, None, partial(_set_result, future))
        except SpinError as error:
            future.set_exception(error)
        return future

    def submit_deliver(self, change: Deliver, on_durable: OnDurable, on_applied: OnApplied | None = None) -> None:
        """Hand in a delivery whose sender waits for durability alone: cheaper than `submit`, and answered earlier.

        Args:
            on_durable: Called once, later, on the loop: with none when the delivery is durable, which is when it may be
                acknowledged; with `DeviceFull` when nothing was stored and trying again may help; with another
                StorageError when the store takes nothing more (the next start may find the delivery, or not). A read
                that follows the call sees the delivery.
            on_applied: Called once after ``on_durable(None)``, with the `Delivered`; with a StorageError when the store
                stopped or was closed before: the next start applies it.

        Raises:
            UsageError: The delivery is malformed; nothing was written.
            DeviceFull, DeviceFailed, ClosedError: The store takes nothing now; nothing was written.
        In these cases neither is called.
        """
        self._enter(change, on_durable, on_applied)

    def _enter(self, change: Change, on_durable: OnDurable | None, on_applied: OnApplied | None) -> None:
        """Append a change and have it made durable. Raises SpinError: it was not appended."""
        if self._closed or self._failure is not None or self._retry is not None:
            self._check_usable()
        checked = check_change(change)
        if self._once.floor:
            self._once.pin(names_of(checked))
        kind, body = encode_change(checked)
        time_ns = self._clock_ns()
        try:
            position = self._durable_log.append(kind, (body,), time_ns=time_ns, references=names_of(checked))
        except DeviceFull:
            self._request_commit()  # others may have lost their records too; they are told when it comes back
            raise
        self._submitted.append(make_record(_Submitted, (position, time_ns, checked, on_durable, on_applied)))
        self._request_commit()

    def body_writer(self) -> BodyWriter:
        """Return a writer for one message; its bytes go to the log while they arrive."""
        if self._closed or self._failure is not None or self._retry is not None:
            self._check_usable()
        return BodyWriter(self._append_chunk, self._durable_log)

    async def ensure_account(self, user: str) -> None:
        """Create an account's mailboxes, durably, unless it has them: INBOX, Drafts, Sent, Junk, Trash, Archive.

        What the user deleted later is not made again.
        """
        check_user(user)
        if self.mailbox(user, INBOX) is None:
            try:
                await self.submit(CreateMailbox(user, INBOX))
            except AlreadyExists:
                return

    def _append_chunk(self, chunk: bytes, sha256: bytes | None) -> int:
        if self._closed or self._failure is not None or self._retry is not None:
            self._check_usable()
        try:
            return self._once.append(chunk, sha256)
        except DeviceFull:
            self._request_commit()  # as in `_enter`
            raise

    def _is_live(self, name: int) -> bool:
        return self._current.is_live(name)

    def _request_commit(self) -> None:
        if self._commit is None:
            self._commit = GroupCommit(self._durable_log, self._on_durable, self._on_commit_error)
            self._checkpointer.start()
        self._commit.request()

    def _check_usable(self) -> None:
        """Raise when nothing is taken now. What runs for each delivery looks first and calls this only to say why."""
        if self._closed:
            raise ClosedError("mail store: used after close")
        if self._failure is not None:
            raise DeviceFailed(f"mail store: stopped after an error: {self._failure}", hint="start again")
        if self._retry is not None:
            raise DeviceFull("mail store: the index's device is full", hint="make room on the device")

    # ------------------------------------------------------------------------------------------------------- apply

    def _on_commit_error(self, error: SpinError) -> None:
        if isinstance(error, DeviceFull):
            _trace.error("%s", error.line())
            self._on_durable(self._durable_log.durable)
        else:
            self._apply_durable()  # what was acknowledged is durable, and reading goes on
            self._fail(error)

    def _on_durable(self, durable: int) -> None:
        """Acknowledge what is durable and apply it, now or soon; on the loop, after a sync."""
        if self._failure is not None:
            return
        self._drop_lost()
        awaited = self._acknowledge(durable)
        if awaited or len(self._unapplied) >= APPLY_COUNT:
            self._apply_durable()
        elif self._unapplied and self._apply_timer is None:
            self._apply_timer = asyncio.get_running_loop().call_later(APPLY_DELAY_S, self._apply_late)

    def _acknowledge(self, durable: int) -> bool:
        """Tell those who wait for durability alone; return whether others wait for what applying gives."""
        submitted, told, awaited = self._submitted, [], False
        while submitted and submitted[0].position < durable:
            entry = submitted.popleft()
            self._unapplied.append(entry)
            if entry.on_durable is None:
                awaited = True
            else:
                told.append(entry.on_durable)
        self._covered = durable
        for on_durable in told:  # these may read, and so have it all applied
            _call(on_durable, None)
        return awaited

    def _apply_late(self) -> None:
        self._apply_timer = None
        self._apply_durable()

    @property
    def _current(self) -> Index:
        if self._unapplied:
            self._apply_durable()
        return self._index

    def _apply_durable(self) -> None:
        """Apply all that is acknowledged; does nothing while the index's device is full."""
        batch = self._unapplied
        if not batch or self._retry is not None:
            return
        try:
            told, results = self._apply(batch, self._covered)
        except sqlite3.Error as error:
            self._on_index_error(error)
        except Exception as error:
            _trace.exception("mail store: a change could not be applied")
            self._fail(InternalError(f"mail store: apply: {type(error).__name__}: {error}"))
        else:
            self._unapplied = []
            self._resolve(batch, results)
            self._tell(told)
            if self._checkpointer.behind:
                self._checkpointer.finish(self._index.connection)

    def _drop_lost(self) -> None:
        """Answer those whose records were given up because the device was full."""
        log = self._durable_log
        if not log.has_lost:
            return
        lost = [submitted for submitted in self._submitted if log.is_lost(submitted.position)]
        self._submitted = deque([entry for entry in self._submitted if not log.is_lost(entry.position)])
        for submitted in lost:
            submitted.refuse(
                DeviceFull("mail store: the log's device is full; nothing was stored", hint="try again later")
            )

    def _apply(self, batch: list[_Submitted], durable: int) -> tuple[Batch, list[Outcome | MailError]]:
        results: list[Outcome | MailError] = []
        index = self._index
        with index.transaction(durable) as told:
            for position, time_ns, change, _, _ in batch:
                try:
                    results.append(apply_change(index, change, position=position, time_ns=time_ns))
                except MailError as error:
                    results.append(error)
        return told, results

    @staticmethod
    def _resolve(batch: list[_Submitted], results: list[Outcome | MailError]) -> None:
        for submitted, result in zip(batch, results, strict=True):
            if submitted.on_applied is not None:
                _call(submitted.on_applied, result)

    def _tell(self, told: Batch) -> None:
        for mailbox_id, events in told.events.items():
            for watcher in tuple(self._watchers.get(mailbox_id, ())):
                _call(watcher, events)
            if isinstance(events[-1], MailboxGone):
                self._watchers.pop(mailbox_id, None)
        for queue_watcher in tuple(self._queue_watchers) if told.queue_changed else ():
            _call(queue_watcher)

    def _on_index_error(self, error: sqlite3.Error) -> None:
        """A full device is waited for: the records are durable, so the answers are only late. Else the store stops."""
        if is_full(error):
            _trace.error("mail store: index: %s; trying again every %g s", error, RETRY_S)
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._apply_again)
            return
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            suspect_index(self._directory.index_path)
        self._fail(index_error(error, "apply"))

    def _apply_again(self) -> None:
        self._retry = None
        self._apply_durable()

    def _fail(self, error: SpinError) -> None:
        """Stop: answer everyone who waits, take nothing more."""
        if self._failure is None:
            self._failure = error
            _trace.critical("mail store stopped: %s", error.line())
        self._refuse_waiting(DeviceFailed(str(error), hint=error.hint))

    def _refuse_waiting(self, error: SpinError) -> None:
        """Answer all that wait: for their outcome those that are durable, for everything the others."""
        unapplied, submitted = self._unapplied, self._submitted
        self._unapplied, self._submitted = [], deque()
        for entry in unapplied:
            if entry.on_applied is not None:
                _call(entry.on_applied, error)
        for entry in submitted:
            entry.refuse(error)

    # ------------------------------------------------------------------------------------------------------- watch

    def watch(self, mailbox_id: int, watcher: Watcher) -> Callable[[], None]:
        """Call ``watcher`` after each applied batch that changed the mailbox; return the function that ends it.

        It gets the batch's events in order. Ending twice does nothing.
        """
        self._watchers.setdefault(mailbox_id, []).append(watcher)

        def end() -> None:
            watchers = self._watchers.get(mailbox_id, [])
            if watcher in watchers:
                watchers.remove(watcher)
                if not watchers:
                    del self._watchers[mailbox_id]

        return end

    def on_queue(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call ``watcher`` after each applied batch that changed the queue; return the function that ends it."""
        self._queue_watchers.append(watcher)

        def end() -> None:
            if watcher in self._queue_watchers:
                self._queue_watchers.remove(watcher)

        return end

    # ---------------------------------------------------------------------------------------------------- operator

    async def backup(self, target: Path) -> int:
        """Copy the store to an empty or new directory while it runs; return the bytes of log copied.

        Raises:
            AlreadyExists: The target holds something.
            StorageError: The device refused.
        """
        self._check_usable()
        return await in_background(back_up, self._directory, self._durable_log, target)

    async def snapshot(self, label: str = "", attachments: Sequence[Attachment] = ()) -> Snapshot:
        """Take a snapshot of all that is applied now, with what is attached; wait until it is durable.

        The event loop only begins a read transaction. One at a time. Goes on when the caller is cancelled.

        Raises:
            DeviceFull, DeviceFailed, CorruptRecord: There is no such snapshot.
            UsageError: Label or attachments cannot be stored.
        """
        self._check_usable()
        return await self._finish(self._take_snapshot(label, tuple(attachments)))

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something that goes on when the caller is cancelled, and that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _take_snapshot(self, label: str, attachments: Sequence[Attachment]) -> Snapshot:
        async with self._snapshot_lock:
            try:
                cut = await asyncio.to_thread(Cut, self._index.path, self._checkpointer.changes)
                try:
                    self._apply_durable()
                    cut.begin()
                except BaseException:
                    cut.end(None)
                    raise
            except sqlite3.Error as error:
                raise index_error(error, "snapshot") from error
            return await in_background(self.snapshots.take, cut, attachments, label, self._clock_ns())

    async def expire(self, policy: Retention, *, young_s: float = YOUNG_S) -> Expired:
        """Remove the oldest of the log that the policy does not keep; what is still needed of it is moved first.

        Nothing goes that no snapshot covers, nor while there is a branch. Not at the same time as a snapshot is taken.

        Raises:
            StorageError: It could not go on. What was removed until then was not needed.
        """
        self._check_usable()
        return await self._finish(self._expire(policy, young_s))

    async def _expire(self, policy: Retention, young_s: float) -> Expired:
        async with self._snapshot_lock:
            return await self._expiry.run(policy, young_s)

    async def _settle(self) -> None:
        """Wait until all that was appended or submitted before is durable and applied."""
        await self.submit(KvWrites(()))

    def rebuild(self, progress: Progress | None = None) -> None:
        """Build the index anew from the log, now; blocks.

        Covers what was applied before; what is durable and waits to be applied is applied as usual, and answered.
        """
        self._check_usable()
        if self._tasks:
            raise StateError("mail store: rebuild: a snapshot is being taken", hint="try again when it is done")
        self._apply_durable()
        self._check_usable()
        applied = self._index.counters.applied
        self._checkpointer.stop()
        self._index.close()
        self._checkpointer.changes.close()
        path = self._directory.index_path
        try:
            self._index = open_index(
                path, self._durable_log, progress, rebuild=True, end=applied, snapshots=self.snapshots
            )
        except sqlite3.Error as error:
            self._fail(index_error(error, "rebuild"))
            raise index_error(error, "rebuild") from error
        self._index.watched = self._watchers
        self._checkpointer = Checkpointer(self._index.path, follow_index(self._index.path, None))
        self._checkpointer.start()

    async def close(self) -> None:
        """Make durable and apply what was submitted, then close everything. Closing twice does nothing.

        Raises:
            StorageError: The last sync failed; those who wait have been told.
        """
        if self._closed:
            return
        self._closed = True
        if self._commit is not None:
            await self._commit.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._finish_applying()
        self.release()

    def _finish_applying(self) -> None:
        """Apply what is durable, once more if the index's device was full; answer those for whom that failed."""
        for timer in (self._retry, self._apply_timer):
            if timer is not None:
                timer.cancel()
        self._retry = self._apply_timer = None
        self._apply_durable()
        if self._retry is not None:
            self._retry.cancel()
        hint = "it is applied at the next start"
        self._refuse_waiting(DeviceFailed("mail store: closed before the change was applied", hint=hint))

    def release(self) -> None:
        """Close without an event loop: for a store on which nothing was submitted."""
        self._closed = True
        self._checkpointer.stop()
        self._once.save()
        close_followed(self._index.connection, self._index.path, self._checkpointer.changes)
        self.snapshots.close()
        try:
            self._durable_log.close()
        finally:
            self._directory.close()


def _set_result(future: asyncio.Future[Outcome], result: Outcome | SpinError) -> None:
    if future.done():  # cancelled: nobody waits, the change stands all the same
        return
    if isinstance(result, SpinError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _call(callback: Callable[..., None], *arguments: object) -> None:
    """Call a watcher; its mistakes are its own."""
    try:
        callback(*arguments)
    except Exception:
        _trace.exception("mail store: a watcher failed")
