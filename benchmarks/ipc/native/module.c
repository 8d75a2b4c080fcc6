/* `ipcwork`: the work of every callee for callers in Python, and what is timed inside this process, in C. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_TOGGLE_COLLECT
#define CALLGRIND_DUMP_STATS
#endif

enum { NS_PER_S = 1000000000 };

static uint64_t answer(uint64_t number, const uint8_t *payload, size_t bytes)
{
  return number + checksum(payload, bytes);
}

/* Volatile: read anew for each call, so that the compiler does not know whom it calls. */
static uint64_t (*volatile answer_indirect)(uint64_t, const uint8_t *, size_t) = answer;

static uint64_t now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

PyDoc_STRVAR(checksum_doc, "checksum(payload) -> int: see work.h.");
static PyObject *checksum_of(PyObject *module, PyObject *payload)
{
  Py_buffer view;
  (void)module;
  if (PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE) < 0) return NULL;
  uint64_t found = checksum(view.buf, (size_t)view.len);
  PyBuffer_Release(&view);
  return PyLong_FromUnsignedLongLong(found);
}

PyDoc_STRVAR(time_native_doc, "time_native(payload, calls) -> ns: calls in C through a pointer.");
static PyObject *time_native(PyObject *module, PyObject *arguments)
{
  Py_buffer view;
  unsigned long long calls;
  uint64_t last = 0;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "y*K", &view, &calls)) return NULL;
  uint64_t began = now_ns();
  for (uint64_t call = 0; call < calls; call++) last += answer_indirect(call, view.buf, (size_t)view.len);
  uint64_t taken = now_ns() - began;
  uint64_t expected = calls * checksum(view.buf, (size_t)view.len) + calls * (calls - 1) / 2;
  PyBuffer_Release(&view);
  if (last != expected) return PyErr_Format(PyExc_RuntimeError, "native calls: found another sum of answers");
  return PyLong_FromUnsignedLongLong(taken);
}

PyDoc_STRVAR(time_getpid_doc, "time_getpid(calls) -> ns: system calls, past the C library.");
static PyObject *time_getpid(PyObject *module, PyObject *argument)
{
  unsigned long long calls = PyLong_AsUnsignedLongLong(argument);
  (void)module;
  if (PyErr_Occurred()) return NULL;
  uint64_t began = now_ns();
  for (uint64_t call = 0; call < calls; call++) syscall(SYS_getpid);
  return PyLong_FromUnsignedLongLong(now_ns() - began);
}

PyDoc_STRVAR(time_python_doc, "time_python(callee, payload, calls) -> ns: calls of an object, as compiled code makes them.");
static PyObject *time_python(PyObject *module, PyObject *arguments)
{
  PyObject *callee, *payload;
  unsigned long long calls;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OOK", &callee, &payload, &calls)) return NULL;
  uint64_t began = now_ns();
  for (uint64_t call = 0; call < calls; call++) {
    PyObject *given[] = { NULL, payload };
    PyObject *answered = PyObject_Vectorcall(callee, given + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (answered == NULL) return NULL;
    Py_DECREF(answered);
  }
  return PyLong_FromUnsignedLongLong(now_ns() - began);
}

PyDoc_STRVAR(time_cycles_doc, "time_cycles(cycles) -> ns: instructions that take one cycle, each of which waits for the one before.");
static PyObject *time_cycles(PyObject *module, PyObject *argument)
{
  unsigned long long cycles = PyLong_AsUnsignedLongLong(argument);
  uint64_t value = cycles, other = cycles + 1;
  (void)module;
  if (PyErr_Occurred()) return NULL;
  uint64_t began = now_ns();
  for (uint64_t cycle = 0; cycle < cycles; cycle += 8) {
/* Not an addition of a constant: those can be gone before they are executed. */
#define STEP value ^= other; __asm__ volatile("" : "+r"(value), "+r"(other));
    STEP STEP STEP STEP STEP STEP STEP STEP
#undef STEP
  }
  return PyLong_FromUnsignedLongLong(now_ns() - began);
}

PyDoc_STRVAR(gaps_doc, "gaps(ns, shortest_ns) -> [ns]: how long the core was taken away, each time, while that time was spent looking.");
static PyObject *gaps(PyObject *module, PyObject *arguments)
{
  unsigned long long span, shortest;
  PyObject *found = PyList_New(0);
  (void)module;
  if (found == NULL || !PyArg_ParseTuple(arguments, "KK", &span, &shortest)) return NULL;
  for (uint64_t before = now_ns(), end = before + span, now; before < end; before = now) {
    now = now_ns();
    if (now - before < shortest) continue;
    PyObject *gap = PyLong_FromUnsignedLongLong(now - before);
    if (gap == NULL || PyList_Append(found, gap) < 0) return NULL;
    Py_DECREF(gap);
  }
  return found;
}

PyDoc_STRVAR(count_doc, "count(timed, calls) -> bool: let callgrind count one call of `timed`, and dump that; false without it.");
static PyObject *count(PyObject *module, PyObject *arguments)
{
  PyObject *timed, *calls;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OO", &timed, &calls)) return NULL;
  CALLGRIND_ZERO_STATS;
  CALLGRIND_TOGGLE_COLLECT;
  PyObject *taken = PyObject_CallOneArg(timed, calls);
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS;
  if (taken == NULL) return NULL;
  Py_DECREF(taken);
  return PyBool_FromLong(RUNNING_ON_VALGRIND != 0);
}

static PyMethodDef methods[] = {
  { "checksum", checksum_of, METH_O, checksum_doc },
  { "time_native", time_native, METH_VARARGS, time_native_doc },
  { "time_getpid", time_getpid, METH_O, time_getpid_doc },
  { "time_python", time_python, METH_VARARGS, time_python_doc },
  { "time_cycles", time_cycles, METH_O, time_cycles_doc },
  { "gaps", gaps, METH_VARARGS, gaps_doc },
  { "count", count, METH_VARARGS, count_doc },
  { NULL, NULL, 0, NULL },
};

/* Initialised in phases: an interpreter of its own may import it too. */
static PyModuleDef_Slot slots[] = { { 0, NULL } };

static PyModuleDef definition = {
  PyModuleDef_HEAD_INIT, .m_name = "ipcwork", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_ipcwork(void)
{
  return PyModuleDef_Init(&definition);
}
