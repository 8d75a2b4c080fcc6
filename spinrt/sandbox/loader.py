"""From a directory to a checked module: manifest, code, and the types of everything that crosses the boundary.

A loaded `Extension` is compiled and type-checked against the interfaces, and holds no authority: nothing is linked yet
(``spinrt.runtime.linker``). What is checked here needs no policy: the module asks only for functions of known
interfaces, with the core types that those declare, and only for interfaces that its manifest names; it exports every
handler that its manifest promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spinrt._core import FunctionPlan, Module
from spinrt.errors import ManifestError, ModuleError, SignatureMismatch, SpinError, UnresolvedImport, UsageError
from spinrt.sandbox.abi import plan_function, resource_name
from spinrt.sandbox.binary import parse
from spinrt.sandbox.binary_reader import shown
from spinrt.sandbox.cache import compile_module
from spinrt.sandbox.condition import find_field
from spinrt.sandbox.fitted import Fitting
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.promised import Promise, declared_types, find_function, promises
from spinrt.sandbox.purity import guard_obstacle, impurity
from spinrt.sandbox.types import Function, Interface, Primitive, ResourceType
from spinrt.sandbox.wit import Interfaces, shipped, signature
from spinrt.sandbox.wit_resolve import near

MODULE_BYTES_MAX = 64 << 20
_DROP = "[resource-drop]"
_LETTER_NAMES = {"i": "i32", "l": "i64", "f": "f32", "d": "f64", "?": "a type that no interface passes"}


@dataclass(frozen=True, slots=True)
class ImportedFunction:
    """One import of a module, resolved to its interface.

    ``plan`` is none for the drop of a resource; ``resource`` names it then.
    """

    interface: str
    function: str
    plan: FunctionPlan | None
    resource: str = ""


@dataclass(frozen=True, slots=True)
class ExportedFunction:
    """One function that the manifest promises: a handler, a guard, or one of an interface.

    Attributes:
        interface: Where its type comes from.
        function: Its type.
        plan: How it is called.
        reached: The imports that a call of it may reach, (interface, function); known of functions that return a bool.
        obstacle: What it may do that no guard may, for people; known of these too, and empty for others.
        changes: What it may change that is put back behind a guard; known of these too.
    """

    interface: str
    function: Function
    plan: FunctionPlan
    reached: frozenset[tuple[str, str]] = frozenset()
    obstacle: str = ""
    changes: str = ""


@dataclass(frozen=True, slots=True)
class Extension:
    """A manifest and a compiled module that fit each other and the interfaces.

    Attributes:
        manifest: What it says of itself.
        module: The compiled module.
        imports: What it imports, in the module's order.
        interfaces: What it was checked against.
        exports: What can be called of it, by the names of the module's exports.
        fitting: Its code, for instances.
    """

    manifest: Manifest
    module: Module
    imports: tuple[ImportedFunction, ...]
    interfaces: Interfaces
    exports: Mapping[str, ExportedFunction]
    fitting: Fitting

    @property
    def name(self) -> str:
        return self.manifest.name


def load_extension(directory: Path, *, interfaces: Interfaces | None = None) -> Extension:
    """Load the extension in a directory: its ``manifest.yaml`` and the module that this names.

    Args:
        directory: Where they lie.
        interfaces: The interfaces to check against; those that come with spinrt by default.

    Raises:
        ManifestError, ModuleError, UnresolvedImport, SignatureMismatch: What does not fit, by name.
    """
    manifest, code = read_directory(directory)
    return check_extension(manifest, code, interfaces=interfaces)


def read_directory(directory: Path) -> tuple[Manifest, bytes]:
    """Return the manifest of an extension's directory and the module that it names; nothing else is checked.

    Raises:
        ManifestError, ModuleError: One cannot be read, or the manifest is malformed.
    """
    manifest = Manifest.read(directory / "manifest.yaml")
    return manifest, read_module(directory / manifest.module)


def read_module(path: Path) -> bytes:
    """Return the bytes of a module file.

    Raises:
        ModuleError: It cannot be read, or is larger than `MODULE_BYTES_MAX`.
    """
    try:
        if path.stat().st_size > MODULE_BYTES_MAX:
            raise ModuleError(f"module {path}: found {path.stat().st_size} bytes, expected at most {MODULE_BYTES_MAX}")
        return path.read_bytes()
    except OSError as error:
        raise ModuleError(
            f"module {path}: cannot be read: {error.strerror}", hint="build it with `spinrt build`"
        ) from error
    except ValueError as error:
        raise ModuleError(f"module {str(path)[:80]!a}: found a name that no file can have") from error


def check_extension(manifest: Manifest, code: bytes, *, interfaces: Interfaces | None = None) -> Extension:
    """Compile a module and check it against its manifest and the interfaces; see `load_extension`."""
    known = shipped() if interfaces is None else interfaces
    _check_manifest(manifest, known)
    promised = promises(manifest, known)
    module = compile_module(code, manifest.name)
    parsed = parse(code, f"extension {manifest.name}")  # refuses what the engine takes and spinrt does not
    _check_declared(manifest, promised, declared_types(parsed))
    exports = {
        one.name: ExportedFunction(one.interface, one.function, plan_function(one.interface, one.function))
        for one in promised
    }
    imports = tuple(_resolve_import(manifest, known, *found) for found in module.imports)
    for name, exported in exports.items():
        _check_export(manifest, module, name, exported)
    exports = {name: _as_guard(code, name, exported) for name, exported in exports.items()}
    extension = Extension(manifest, module, imports, known, exports, Fitting(manifest.name, code, module))
    _check_memory(extension)
    return extension


def promised_exports(extension: Extension) -> list[str]:
    """Return the names of all exports that the manifest promises."""
    return list(extension.exports)


def _check_manifest(manifest: Manifest, known: Interfaces) -> None:
    where = f"manifest of {manifest.name}"
    for asked in manifest.imports:
        interface = _known_interface(known, asked.interface, where)
        for function in asked.functions:
            if function not in interface.functions:
                raise ManifestError(
                    f"{where}: imports: found the function {function!r:.80} of {asked.interface}, "
                    f"expected one of {', '.join(interface.functions)}",
                    hint=near(function, interface.functions),
                )
    for id_ in manifest.exports:
        _known_interface(known, id_, where)
    for number, handler in enumerate(manifest.handlers):
        _known_interface(known, handler.event.partition("#")[0], where)
        _, event = find_function(known, handler.event)
        for place, condition in enumerate(handler.when):
            try:
                find_field(condition, event)
            except UsageError as error:
                raise ManifestError(f"{where}: handlers[{number}].when[{place}]: {error}") from None


def _check_declared(manifest: Manifest, promised: list[Promise], declared: Mapping[str, str]) -> None:
    """Compare what the module says of its exports, and refuse where neither that nor a core type tells.

    Raises:
        SignatureMismatch: An export is of another type, or may be.
    """
    for one in promised:
        what = f"extension {manifest.name}: export {one.name}"
        found = declared.get(one.name)
        if found is not None and found != one.type_text:
            raise SignatureMismatch(
                f"{what}: the module says that it is {found}, expected {one.type_text}",
                hint="generate the guest's glue again with `spinrt bindgen --manifest`, or `spinrt build`",
            )
        if found is None and one.has_closure and not _core_type_tells(one):
            raise SignatureMismatch(
                f"{what}: found nothing that says whether it takes a closure, expected a module that does: its "
                f"parameters cross in memory, so that its core type is the same either way",
                hint="generate its glue with `spinrt bindgen --manifest`, or `spinrt build`",
            )


def _core_type_tells(promise: Promise) -> bool:
    """Whether the core type of a function with a closure differs from that without."""
    function = promise.function
    without = replace(function, parameters=function.parameters[1:])
    plans = [plan_function(promise.interface, one).export_signature for one in (function, without)]
    return plans[0] != plans[1]


def _known_interface(known: Interfaces, id_: str, where: str) -> Interface:
    try:
        return known.get(id_)
    except SpinError as error:
        raise UnresolvedImport(f"{where}: {error}", hint=error.hint) from None


def _resolve_import(
    manifest: Manifest, known: Interfaces, module: str, name: str, kind: str, core: str
) -> ImportedFunction:
    what = f"extension {manifest.name}: import {shown(module)}#{shown(name)}"
    if kind != "function":
        raise ModuleError(f"{what}: found a {kind}, expected a function", hint="extensions link functions only")
    if module.startswith("wasi_") or module == "env":
        raise UnresolvedImport(
            f"{what}: found {shown(module)}, expected an interface such as spinrt:kv/store@1.0.0",
            hint="nothing is ambient, WASI included; build without it and import what you need",
        )
    interface = _known_interface(known, module, what)
    if name not in interface.functions:
        raise UnresolvedImport(
            f"{what}: found no such function there, expected one of {', '.join(interface.functions)}"
        )
    _check_asked(manifest, module, name, what)
    if name.startswith(_DROP):
        return _resolve_drop(interface, name, core, what)
    function = interface.functions[name]
    plan = plan_function(module, function)
    _compare(what, core, plan.import_signature, signature(function))
    return ImportedFunction(module, name, plan)


def _resolve_drop(interface: Interface, name: str, core: str, what: str) -> ImportedFunction:
    _compare(what, core, "i:", f"{name}: func(handle)")
    resource = interface.types[name.removeprefix(_DROP)]
    if not isinstance(resource, ResourceType):
        raise UnresolvedImport(f"{what}: found no resource of that name")
    return ImportedFunction(interface.id, name, None, resource_name(resource))


def _check_asked(manifest: Manifest, interface: str, function: str, what: str) -> None:
    for asked in manifest.imports:
        if asked.interface == interface and (
            not asked.functions or function in asked.functions or function.startswith(_DROP)
        ):
            return
    raise ManifestError(
        f"{what}: the manifest does not ask for it", hint=f"add `- interface: {interface}` under imports"
    )


def _as_guard(code: bytes, name: str, exported: ExportedFunction) -> ExportedFunction:
    """Note what a function that could be a guard may do."""
    if exported.function.result != Primitive("bool"):
        return exported
    reached: set[tuple[str, str]] = set()

    def reach(module: str, function: str) -> bool:
        reached.add((module, function))
        return True

    obstacle = guard_obstacle(code, name, reach)
    changes = impurity(code, name, reach) if exported.plan.is_flat else "its arguments lie in its memory"
    return replace(exported, reached=frozenset(reached), obstacle=obstacle or "", changes=changes or "")


def _check_export(manifest: Manifest, module: Module, name: str, exported: ExportedFunction) -> None:
    what = f"extension {manifest.name}: export {name}"
    kind, core = module.exports.get(name, ("", ""))
    if kind != "function":
        found = f"a {kind}" if kind else "none"
        raise ModuleError(f"{what}: found {found}, expected a function", hint="the manifest promises it")
    plan = exported.plan
    _compare(what, core, plan.export_signature, signature(exported.function))
    post = module.exports.get(f"cabi_post_{name}")
    if post is not None:
        results = plan.export_signature.partition(":")[2]
        _compare(
            f"extension {manifest.name}: export cabi_post_{name}",
            post[1],
            f"{results}:",
            "takes the function's result",
        )


def _check_memory(extension: Extension) -> None:
    """What the engine's own validation leaves open: the shape of the allocator and of the memory's export."""
    kind, _ = extension.module.exports.get("memory", ("memory", ""))
    if kind != "memory":
        raise ModuleError(f"extension {extension.name}: export memory: found a {kind}, expected a memory")
    kind, core = extension.module.exports.get("cabi_realloc", ("function", "iiii:i"))
    _compare(
        f"extension {extension.name}: export cabi_realloc", core if kind == "function" else kind, "iiii:i", "allocator"
    )


def _compare(what: str, found: str, expected: str, declared: str) -> None:
    if found != expected:
        raise SignatureMismatch(
            f"{what}: found {_core_text(found)}, expected {_core_text(expected)}, which is `{declared}`",
            hint="generate the guest's header again with `spinrt bindgen`",
        )


def _core_text(core: str) -> str:
    if ":" not in core:
        return core or "no function"
    parameters, results = (", ".join(_LETTER_NAMES[letter] for letter in letters) for letters in core.split(":"))
    return f"({parameters}) -> ({results})"
