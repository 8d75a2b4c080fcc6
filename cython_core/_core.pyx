# cython: boundscheck=False, wraparound=False, cdivision=True, embedsignature=False
"""spinrt._core: what must be fast.

Parts, in reading order: ``engine`` (the wasmtime library and its errors), ``module`` (compile and reflect), ``capability``
(resources with rights, which can be revoked), ``handles`` (resource handles), ``external`` (Python objects that name a handle),
``journal`` (effects and the running call), ``abi`` and ``abi_compound`` (lowering and lifting), ``native`` (host functions
served in C), ``headers`` and ``message`` (those that read a lent message), ``delivery`` (promises of mail), ``logging`` (records of
extensions), ``store`` (where instances live), ``trace`` (where guest code was when it failed), ``instance`` (a module at work), ``undo``, ``recovery`` (rolling back and committing) and ``moving`` (an instance made anew), ``image`` (its state as plain values), ``export`` (its functions, to be called), ``quota`` (rates), ``hostcall`` (the
functions that it calls), ``guards`` (when a handler runs), ``tally`` (faults, counted), ``entry`` (the handlers of an event), ``stub`` (the module that walks them inside
the engine), ``table_walk``, ``dispatch``, ``flat`` and ``quick`` (what a raise does), ``control`` (what a handler says of its raise), ``profile`` (where guest code spends its time), ``witness`` (what an instance holds, compared; faults on demand),
``counters`` (what benchmarks and tests read).

Behind ``quick``, without the engine: ``records`` and ``log_buffer`` (what goes into the log), ``log_record`` (what is read
back), ``log_hints`` (which body has a digest), ``log_writer`` (the thread that writes and syncs it), ``smtp_data`` (a message on its way in), ``smtp_reply`` (a reply and its wire form), ``smtp_stream`` (lines and
commands of a session), ``smtp_link`` (between transport and session), ``walk`` (the instructions of a function), ``emit`` (what keeps
old values) and ``instrument`` (bodies rewritten with it).

Everything here runs on the thread that owns the store, with the GIL held, but for long calls, which give it up until the guest calls
back. Two other threads hold none: the ticker (include/ticker.h), and the one at the end of the log while it writes.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_Occurred
from cpython.list cimport PyList_GET_ITEM
from cpython.long cimport PyLong_AsLongLong, PyLong_AsUnsignedLongLong
from cpython.object cimport PyObject, PyTypeObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.pystate cimport PyThreadState
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, INT64_MAX, INT64_MIN, uint8_t, uint16_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from cython_core.extern.engine_abi cimport *

from enum import Enum as _Enum
from hashlib import sha256 as _sha256

cdef extern from "Python.h":
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *)
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    object PyCFunction_NewEx(PyMethodDef *method, PyObject *self, PyObject *module)
    int METH_FASTCALL, METH_O
    bint PyLong_CheckExact(object value)
    int64_t PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *state)

cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil

from spinrt.errors import (
    AbiError,
    CallerDeadline,
    CapabilityRevoked,
    ClosedError,
    CorruptRecord,
    DeadlineExceeded,
    DefaultDue,
    DeviceFailed,
    ExporterFailed,
    ExtensionError,
    HandlerFailed,
    InternalError,
    LinkError,
    MemoryExceeded,
    ModuleError,
    Quarantined,
    QuotaExceeded,
    RevokedArgument,
    RightsExceeded,
    SignatureMismatch,
    SpinError,
    StateError,
    StorageError,
    Trapped,
    UsageError,
    WrongDomain,
)

include "engine.pxi"
include "module.pxi"
include "capability.pxi"
include "handles.pxi"
include "external.pxi"
include "journal.pxi"
include "abi.pxi"
include "abi_compound.pxi"
include "native.pxi"
include "headers.pxi"
include "message.pxi"
include "delivery.pxi"
include "logging.pxi"
include "store.pxi"
include "trace.pxi"
include "instance.pxi"
include "undo.pxi"
include "recovery.pxi"
include "moving.pxi"
include "image.pxi"
include "export.pxi"
include "quota.pxi"
include "hostcall.pxi"
include "guards.pxi"
include "tally.pxi"
include "entry.pxi"
include "stub.pxi"
include "table_walk.pxi"
include "dispatch.pxi"
include "flat.pxi"
include "quick.pxi"
include "control.pxi"
include "records.pxi"
include "log_buffer.pxi"
include "log_record.pxi"
include "log_hints.pxi"
include "log_writer.pxi"
include "write_out.pxi"
include "turns.pxi"
include "smtp_data.pxi"
include "smtp_reply.pxi"
include "smtp_stream.pxi"
include "smtp_link.pxi"
include "walk.pxi"
include "emit.pxi"
include "instrument.pxi"
include "profile.pxi"
include "witness.pxi"
include "counters.pxi"
