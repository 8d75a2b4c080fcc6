"""Writes the C header and glue that a guest is compiled with.

`generate_c` gives two files. ``guest.h`` has a C type for each WIT type, a function to call for each imported one, and
the prototype of each function that the guest must write: those of exported interfaces, named ``export_…``, and what
its manifest names: handlers with an export, a closure or a filter of their own, and guards (``export_deliver_lists``
for ``export: deliver-lists``). ``guest.c`` has the glue: lowering and lifting by the conventions of the Canonical ABI
for core modules, and the allocator.

Names of WIT become C words, prefixed by package and interface: `mail_delivery_file_into`. The generator's own local
names end in an underscore, which no WIT name can.

Shape: An import is module = interface id, field = core name (``[method]message.header``); an export is
``<interface id>#<function>``, with ``cabi_post_<interface id>#<function>`` where the result has pointers. More than 16
flat parameters go through memory, and so does a result that flattens to more than one number.

Source: CanonicalABI.md of the WebAssembly component model, "Flattening" and "canon lower"; docs/formats/wit-subset.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spinrt.errors import UsageError
from spinrt.sandbox.bindgen_flat import (
    CORE_IN_C,
    FLAT_PARAMETERS_MAX,
    FLAT_RESULTS_MAX,
    Statements,
    c_name,
    flatten,
    has_pointer,
)
from spinrt.sandbox.bindgen_runtime import BIT_CASTS, GLUE_TOP, HEADER_END, HEADER_TOP
from spinrt.sandbox.bindgen_types import CTypes, c_words, comment, interface_words
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.promised import SECTION, Promise, promises, section_text
from spinrt.sandbox.types import Function, Interface, ResourceType, WitType
from spinrt.sandbox.wit import Interfaces, signature
from spinrt.sandbox.wit_resolve import near

_NO_WORD = re.compile(r"[^A-Za-z0-9]+")
_RESERVED = (
    *("spin_string_t", "spin_bytes_t", "spin_alloc", "spin_trim", "spin_equal", "spin_decimal"),
    *("memcpy", "memmove", "memset", "memcmp", "cabi_realloc"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a guest's glue is made for; the arguments of `generate_c`."""

    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    named: tuple[Promise, ...] = ()

    @classmethod
    def of_manifest(cls, manifest: Manifest, interfaces: Interfaces) -> Wanted:
        """What a manifest imports, exports and handles.

        Raises:
            WitError, UnresolvedImport, ManifestError: It names what there is not, or one export for two types.
        """
        promised = promises(manifest, interfaces)
        handled = (one.name for one in promised if one.is_of_interface(interfaces))
        return cls(
            tuple(asked.interface for asked in manifest.imports),
            (*manifest.exports, *(name for name in handled if name.partition("#")[0] not in manifest.exports)),
            tuple(one for one in promised if not one.is_of_interface(interfaces)),
        )

    def __add__(self, other: Wanted) -> Wanted:
        return Wanted(self.imports + other.imports, self.exports + other.exports, self.named + other.named)


def generate_c(
    interfaces: Interfaces, imports: Sequence[str], exports: Sequence[str], named: Sequence[Promise] = ()
) -> dict[str, str]:
    """Return the text of ``guest.h`` and ``guest.c``.

    Args:
        interfaces: Where ids are looked up.
        imports: Ids of interfaces that the guest may call.
        exports: Ids of interfaces that the guest provides, or ``id#function`` for one function of one.
        named: Exports that are no functions of an interface: those with a name or a type of their own.

    Raises:
        WitError: No interface of that id.
        UsageError: No function of that name; two things would have one name in C; an exported interface defines a
            resource, which guests cannot provide.
    """
    unique = {one.name: one for one in named}
    return _Generator(interfaces).generate(
        list(dict.fromkeys(imports)), list(dict.fromkeys(exports)), list(unique.values())
    )


def export_word(name: str) -> str:
    """Return what the function of an export is called in C that the manifest names."""
    return c_words("export", _NO_WORD.sub("-", name).strip("-"))


@dataclass(frozen=True, slots=True)
class _Call:
    """One function as C sees it."""

    interface: Interface
    function: Function
    name: str
    export: str
    parameters: tuple[tuple[str, WitType], ...]

    @property
    def flat_parameters(self) -> list[str]:
        return [core for _, type_ in self.parameters for core in flatten(type_)]

    @property
    def by_memory(self) -> bool:
        """Whether the parameters cross as one pointer."""
        return len(self.flat_parameters) > FLAT_PARAMETERS_MAX

    @property
    def returns_by_memory(self) -> bool:
        return self.function.result is not None and len(flatten(self.function.result)) > FLAT_RESULTS_MAX


class _Generator:
    def __init__(self, interfaces: Interfaces) -> None:
        self._interfaces = interfaces
        self._types = CTypes(interfaces)
        for name in _RESERVED:
            self._types.claim(name, "every guest")

    def generate(self, imports: list[str], exports: list[str], named: list[Promise]) -> dict[str, str]:
        exported = list(self._exported(exports))
        ids = [*imports, *exports, *(one.interface for one in named)]
        for id in dict.fromkeys(id.partition("#")[0] for id in ids):
            for name, type_ in self._interfaces.own_types(id).items():
                self._types.define(id, name, type_)
        prototypes: list[str] = []
        glue: list[str] = []
        for interface in map(self._interfaces.get, imports):
            prototypes.append(_title(interface, "Imported"))
            calls = [self._call(interface, function, "") for function in interface.functions.values()]
            prototypes += map(self._documented, calls)
            glue += map(self._import, calls)
        for interface, functions in exported:
            prototypes.append(_title(interface, "To be written by the guest"))
            calls = [self._call(interface, function, "export") for function in functions]
            prototypes += map(self._documented, calls)
            glue += map(self._export, calls)
        if named:
            prototypes.append("\n".join(["", *comment("To be written by the guest, as its manifest names it")]))
            calls = [self._named(one) for one in named]
            prototypes += map(self._documented, calls)
            glue += [*map(self._export, calls), _declared(named)]
        banner = _banner(imports, [*exports, *(one.name for one in named)])
        casts = BIT_CASTS if any("_of_bits(" in text or "_bits_of_" in text for text in glue) else ""
        header = [banner, HEADER_TOP, "\n\n".join(self._types.declarations), *prototypes, HEADER_END]
        return {"guest.h": "\n".join(header), "guest.c": "\n".join([banner, GLUE_TOP + casts, *glue, ""])}

    def _exported(self, exports: Iterable[str]) -> Iterator[tuple[Interface, list[Function]]]:
        """Gather exports by interface, in the order named first."""
        wanted: dict[str, dict[str, Function]] = {}
        for export in exports:
            id, _, name = export.partition("#")
            interface = self._interfaces.get(id)
            self._refuse_resources(id)
            if name and name not in interface.functions:
                raise UsageError(
                    f"bindgen: `{id}` has no function `{name}` to export; it has {', '.join(interface.functions)}",
                    hint=near(name, interface.functions),
                )
            chosen = {name: interface.functions[name]} if name else interface.functions
            wanted.setdefault(id, {}).update(chosen)
        for id, functions in wanted.items():
            yield self._interfaces.get(id), list(functions.values())

    def _refuse_resources(self, id: str) -> None:
        for name, type_ in self._interfaces.own_types(id).items():
            if isinstance(type_, ResourceType):
                raise UsageError(f"bindgen: cannot export `{id}`: it defines the resource `{name}`, guests cannot")

    def _call(self, interface: Interface, function: Function, kind: str) -> _Call:
        name = c_words(*([kind] if kind else []), *interface_words(interface.id), *_function_words(function.name))
        self._types.claim(name, f"{kind or 'import'} {interface.id}#{function.name}")
        return _Call(interface, function, name, f"{interface.id}#{function.name}", _parameters(function))

    def _named(self, promise: Promise) -> _Call:
        """A function called by its export's name; where that is an event's, as that event's handler is."""
        interface = self._interfaces.get(promise.interface)
        self._refuse_resources(interface.id)
        id_, _, function = promise.name.partition("#")
        is_function = id_ == interface.id
        name = c_words("export", *interface_words(id_), function) if is_function else export_word(promise.name)
        self._types.claim(name, f"export {promise.name}")
        return _Call(interface, promise.function, name, promise.name, _parameters(promise.function))

    def _documented(self, call: _Call) -> str:
        lines = comment(call.function.docs)
        return "\n".join([*lines, f"{self._prototype(call)};"])

    def _prototype(self, call: _Call) -> str:
        result = self._types.name(call.function.result) if call.function.result is not None else "void"
        parameters = ", ".join(f"{self._types.name(type_)} {name}" for name, type_ in call.parameters)
        return f"{result} {call.name}({parameters or 'void'})"

    def _memory_struct(self, call: _Call) -> str:
        fields = " ".join(f"{self._types.name(type_)} {name};" for name, type_ in call.parameters)
        return f"struct {{ {fields} }}"

    # Imports: C values to flat ones and back

    def _import(self, call: _Call) -> str:
        body = Statements()
        arguments = self._import_arguments(call, body)
        core = ["i32"] if call.by_memory else call.flat_parameters
        result = call.function.result
        core_result, returned = "void", []
        if result is None:
            body.add(f"core_{call.name}({', '.join(arguments)});")
        elif call.returns_by_memory:
            body.add(f"{self._types.name(result)} result_;")
            body.add(f"core_{call.name}({', '.join([*arguments, '(int32_t)(uintptr_t)&result_'])});")
            core, returned = [*core, "i32"], ["  return result_;"]
        else:
            (flat,) = flatten(result)
            core_result = CORE_IN_C[flat]
            body.add(f"{core_result} flat_ = core_{call.name}({', '.join(arguments)});")
            body.add(f"{self._types.name(result)} result_;")
            body.lift(result, "result_", ["flat_"])
            returned = ["  return result_;"]
        where = f'__import_module__("{call.interface.id}"), __import_name__("{call.function.name}")'
        types = ", ".join(CORE_IN_C[flat] for flat in core) or "void"
        return "\n".join(
            [
                "",
                f"/* {_one_line(call)} */",
                f"__attribute__(({where}))",
                f"extern {core_result} core_{call.name}({types});",
                "",
                self._prototype(call),
                "{",
                *body.lines,
                *returned,
                "}",
            ]
        )

    def _import_arguments(self, call: _Call, body: Statements) -> list[str]:
        if not call.by_memory:
            return [flat for name, type_ in call.parameters for flat in body.lower(type_, name)]
        values = ", ".join(name for name, _ in call.parameters)
        body.add(f"{self._memory_struct(call)} parameters_ = {{ {values} }};")
        return ["(int32_t)(uintptr_t)&parameters_"]

    # Exports: flat values to C ones and back

    def _export(self, call: _Call) -> str:
        body = Statements()
        arguments = self._export_arguments(call, body)
        core = ["i32"] if call.by_memory else call.flat_parameters
        result = call.function.result
        core_result = "void"
        invocation = f"{call.name}({', '.join(arguments)})"
        before: list[str] = []
        if result is None:
            body.add(f"{invocation};")
            body.add("call_ends();")
        elif call.returns_by_memory:
            core_result = "int32_t"
            before = [f"static {self._types.name(result)} result_{call.name};"]
            body.add(f"result_{call.name} = {invocation};")
            if not has_pointer(result):
                body.add("call_ends();")
            body.add(f"return (int32_t)(uintptr_t)&result_{call.name};")
        else:
            core_result = CORE_IN_C[flatten(result)[0]]
            body.add(f"{self._types.name(result)} result_ = {invocation};")
            body.add("call_ends();")
            body.add(f"return {body.lower(result, 'result_')[0]};")
        parameters = ", ".join(f"{CORE_IN_C[flat]} p{index}_" for index, flat in enumerate(core)) or "void"
        return "\n".join(
            [
                "",
                f"/* {_one_line(call)} */",
                *before,
                f"__attribute__((__export_name__({_c_text(call.export)})))",
                f"{core_result} core_{call.name}({parameters})",
                "{",
                *body.lines,
                "}",
                *(_post(call) if result is not None and has_pointer(result) else ()),
            ]
        )

    def _export_arguments(self, call: _Call, body: Statements) -> list[str]:
        if call.by_memory:
            body.add(f"const {self._memory_struct(call)} *parameters_ = (void *)(uintptr_t)p0_;")
            return [f"parameters_->{name}" for name, _ in call.parameters]
        start = 0
        for name, type_ in call.parameters:
            count = len(flatten(type_))
            body.add(f"{self._types.name(type_)} {name};")
            body.lift(type_, name, [f"p{index}_" for index in range(start, start + count)])
            start += count
        return [name for name, _ in call.parameters]


def _parameters(function: Function) -> tuple[tuple[str, WitType], ...]:
    return tuple((c_name(parameter.name), parameter.type) for parameter in function.parameters)


def _declared(named: Sequence[Promise]) -> str:
    """The custom section that says what these exports are (``spinrt.sandbox.promised``)."""
    lines = [f".ascii {_c_text(line)}" for line in section_text(named).splitlines(keepends=True)]
    text = "\n".join([f'.section .custom_section.{SECTION},"",@', *lines, ".text", ""])
    quoted = "\n".join(f"  {_c_text(line)}" for line in text.splitlines(keepends=True))
    return f"\n/* What the exports are that the manifest names, for the loader. */\n__asm__(\n{quoted});"


def _c_text(text: str) -> str:
    """Return a string literal of C, which assemblers read alike."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
    return f'"{escaped}"'


def _post(call: _Call) -> list[str]:
    """The host calls this when it has read the result, which lies in the arena or refers to it."""
    return [
        "",
        f"__attribute__((__export_name__({_c_text(f'cabi_post_{call.export}')})))",
        f"void post_{call.name}(int32_t result)",
        "{",
        "  (void)result;",
        "  call_ends();",
        "}",
    ]


def _function_words(name: str) -> list[str]:
    """Return the words of a core name: `[method]message.header` is `message`, `header`."""
    if not name.startswith("["):
        return [name]
    kind, _, rest = name[1:].partition("]")
    words = rest.split(".")
    return {"constructor": [*words, "new"], "resource-drop": [*words, "drop"]}.get(kind, words)


def _one_line(call: _Call) -> str:
    return f"{call.interface.id} {signature(call.function)}"


def _title(interface: Interface, heading: str) -> str:
    lines = [f"{heading}: {interface.id}", *([interface.docs] if interface.docs else [])]
    return "\n".join(["", *comment("\n".join(lines))])


def _banner(imports: Sequence[str], exports: Sequence[str]) -> str:
    lines = ["Generated by `spinrt bindgen`; do not edit.", *(f"import {id}" for id in imports)]
    return "\n".join(["/*", *(f" * {line}" for line in [*lines, *(f"export {id}" for id in exports)]), " */", ""])
