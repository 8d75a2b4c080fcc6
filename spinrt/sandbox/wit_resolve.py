"""From a tree of WIT nodes to interfaces: names are resolved, types are checked.

Types may be used before they are defined and interfaces may use each other across files and packages, so resolution is
on demand and remembers what it did. Invariants of what comes out:

- *finite*: no type contains itself, none is deeper than `DEPTH_MAX` or larger than `WEIGHT_MAX` nodes written out in
  full, so that code which walks types may recurse and need not defend itself;
- *shared*: a named type is one object wherever it is used, so identity tells definitions apart;
- *unambiguous in Python*: no option directly inside an option, since both would be ``None``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from lark import Token

from spinrt.errors import WitError
from spinrt.sandbox.types import (
    PRIMITIVES,
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
    Function,
    Interface,
    ListType,
    OptionType,
    OwnType,
    Parameter,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from spinrt.sandbox.wit_syntax import (
    DEPTH_MAX,
    DefinitionNode,
    FileNode,
    FunctionNode,
    InterfaceNode,
    MemberNode,
    PathNode,
    Source,
    TypeNode,
    UseNode,
    WorldNode,
    clip,
)

WEIGHT_MAX = 4096
FLAGS_MAX = 32
USES_DEEP_MAX = 64  # of interfaces that were not resolved yet when they were used
_UNSUPPORTED = frozenset(["stream", "future", "map", "error-context"])
_GENERIC = frozenset(["list", "option", "result", "tuple", "own", "borrow"])


@dataclass(frozen=True, slots=True)
class World:
    """A world: ids of the interfaces it imports and exports."""

    id: str
    imports: tuple[str, ...]
    exports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sized:
    """A resolved type with what bounds need: levels, nodes when written out in full, whether a borrow is inside."""

    type: WitType | ResourceType
    depth: int = 1
    weight: int = 1
    borrows: bool = False


@dataclass(slots=True)
class _Scope:
    """One interface while it is being resolved."""

    id: str
    source: Source
    node: InterfaceNode
    package: str
    version: str
    definitions: dict[str, DefinitionNode] = field(default_factory=dict)
    types: dict[str, _Sized] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    owned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """All interfaces and worlds of a set of texts. `owned` has the names that each interface defines itself."""

    interfaces: dict[str, Interface]
    owned: dict[str, tuple[str, ...]]
    worlds: dict[str, World]


def resolve(files: Iterable[tuple[Source, FileNode]], known: Resolved | None = None) -> Resolved:
    """Resolve files against each other and against interfaces that are known already.

    Raises:
        WitError: With file, line and caret.
    """
    return _Resolver(known).resolve(list(files))


def near(name: str, names: Iterable[str]) -> str:
    """Return a hint that names what the writer may have meant, or an empty string."""
    close = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)
    return "did you mean " + " or ".join(f"`{other}`" for other in close) + "?" if close else ""


class _Resolver:
    def __init__(self, known: Resolved | None) -> None:
        self._known = known or Resolved({}, {}, {})
        self._scopes: dict[str, _Scope] = {}
        self._open: list[str] = []
        self._done: set[str] = set()

    def resolve(self, files: list[tuple[Source, FileNode]]) -> Resolved:
        packages = [(source, node, *self._package(source, node)) for source, node in files]
        for source, node, package, version in packages:
            for interface in node.interfaces:
                self._declare(source, interface, package, version)
        interfaces, owned = dict(self._known.interfaces), dict(self._known.owned)
        for scope in self._scopes.values():
            self._types_of(scope, scope.node.name)
            owned[scope.id] = scope.owned
            interfaces[scope.id] = self._interface(scope)
        worlds = dict(self._known.worlds)
        for source, node, package, version in packages:
            for world in node.worlds:
                found = self._world(source, world, package, version)
                if found.id in worlds:
                    raise source.error(world.name, f"duplicate world `{found.id}`")
                worlds[found.id] = found
        return Resolved(interfaces, owned, worlds)

    # Packages and interfaces

    def _package(self, source: Source, node: FileNode) -> tuple[str, str]:
        namespace, name = (source.name_of(token) for token in node.package)
        if node.version is None:
            raise source.error(
                node.package[1],
                f"package `{namespace}:{name}` has no version; expected `{namespace}:{name}@1.0.0`",
                hint="interfaces are linked by exact version",
            )
        return f"{namespace}:{name}", str(node.version)

    def _declare(self, source: Source, node: InterfaceNode, package: str, version: str) -> None:
        identity = f"{package}/{source.name_of(node.name)}@{version}"
        if identity in self._scopes or identity in self._known.interfaces:
            where = self._scopes[identity].source.name if identity in self._scopes else "an interface loaded before"
            raise source.error(node.name, f"duplicate interface `{identity}`: defined in {where} already")
        self._scopes[identity] = _Scope(identity, source, node, package, version)

    def _target(self, source: Source, path: PathNode, package: str, version: str) -> str:
        """Return the id that a path means; the interface exists."""
        name = source.name_of(path.name)
        if path.package is not None:
            package = ":".join(source.name_of(token) for token in path.package)
            if path.version is None:
                raise source.error(path.name, f"`{package}/{name}` has no version; expected `{package}/{name}@1.0.0`")
            version = str(path.version)
        identity = f"{package}/{name}@{version}"
        everything = self._scopes.keys() | self._known.interfaces.keys()
        if identity not in everything:
            raise source.error(path.name, f"unknown interface `{identity}`", hint=near(identity, everything))
        return identity

    def _world(self, source: Source, node: WorldNode, package: str, version: str) -> World:
        def ids(paths: tuple[PathNode, ...]) -> tuple[str, ...]:
            found: dict[str, None] = {}
            for path in paths:
                identity = self._target(source, path, package, version)
                if identity in found:
                    raise source.error(path.name, f"duplicate `{identity}` in world `{node.name}`")
                found[identity] = None
            return tuple(found)

        return World(f"{package}/{source.name_of(node.name)}@{version}", ids(node.imports), ids(node.exports))

    def _types_of(self, scope: _Scope, place: Token, user: Source | None = None) -> dict[str, _Sized]:
        """Resolve all types of an interface once; `place` in `user` is where it is needed."""
        if scope.id in self._done:
            return scope.types
        where = user or scope.source
        if scope.id in self._open:
            chain = " → ".join([*self._open[self._open.index(scope.id) :], scope.id])
            raise where.error(place, f"interfaces use each other in a circle: {chain}")
        if len(self._open) >= USES_DEEP_MAX:
            raise where.error(place, f"interfaces use each other more than {USES_DEEP_MAX} levels deep")
        self._open.append(scope.id)
        self._declare_names(scope)
        for node in scope.definitions.values():
            self._named(scope, node.name)
        self._open.pop()
        self._done.add(scope.id)
        scope.owned = tuple(scope.definitions)
        return scope.types

    def _declare_names(self, scope: _Scope) -> None:
        taken: dict[str, str] = {}
        for use in scope.node.uses:
            self._use(scope, use, taken)
        for node in scope.node.definitions:
            name = self._fresh(scope, node.name, taken, "type")
            scope.definitions[name] = node
        for function in scope.node.functions:
            self._fresh(scope, function.name, taken, "function")

    def _fresh(self, scope: _Scope, token: Token, taken: dict[str, str], kind: str) -> str:
        """Return a name that is new in its scope; case does not tell names apart."""
        name = scope.source.name_of(token)
        if (before := taken.get(name.lower())) is not None:
            raise scope.source.error(token, f"duplicate name `{name}`: already {before} here")
        taken[name.lower()] = f"a {kind}"
        return name

    def _use(self, scope: _Scope, use: UseNode, taken: dict[str, str]) -> None:
        identity = self._target(scope.source, use.path, scope.package, scope.version)
        if identity in self._scopes:
            types = self._types_of(self._scopes[identity], use.path.name, scope.source)
        else:
            types = {name: _measure(type_) for name, type_ in self._known.interfaces[identity].types.items()}
        for token, local in use.names:
            name = scope.source.name_of(token)
            if name not in types:
                raise scope.source.error(token, f"`{identity}` has no type `{name}`", hint=near(name, types))
            scope.types[self._fresh(scope, local, taken, "type")] = types[name]

    def _interface(self, scope: _Scope) -> Interface:
        functions: dict[str, Function] = {}
        for node in scope.node.functions:
            function = self._function(scope, node, scope.source.name_of(node.name), ())
            functions[function.name] = function
        for name, definition in scope.definitions.items():
            resource = scope.types[name].type
            if isinstance(resource, ResourceType) and definition.kind == "resource":
                functions.update((function.name, function) for function in self._methods(scope, definition, resource))
        types = {name: sized.type for name, sized in scope.types.items()}
        return Interface(scope.id, types, functions, scope.source.docs_above(scope.node.name))

    # Functions

    def _methods(self, scope: _Scope, node: DefinitionNode, resource: ResourceType) -> Iterator[Function]:
        taken: dict[str, str] = {}
        own = OwnType(resource)
        for function in node.functions:
            if function.kind == "constructor":
                if "constructor" in taken:
                    raise scope.source.error(function.name, f"duplicate constructor of `{resource.name}`")
                taken["constructor"] = "a constructor"
                yield self._function(scope, function, f"[constructor]{resource.name}", (), own)
                continue
            name = f"[{function.kind}]{resource.name}.{self._fresh(scope, function.name, taken, 'method')}"
            receiver = (Parameter("self", BorrowType(resource)),) if function.kind == "method" else ()
            yield self._function(scope, function, name, receiver)
        drop = f"Give a handle of a `{resource.name}` back."
        yield Function(f"[resource-drop]{resource.name}", (Parameter("self", own),), None, drop)

    def _function(
        self,
        scope: _Scope,
        node: FunctionNode,
        name: str,
        receiver: tuple[Parameter, ...],
        result: WitType | None = None,
    ) -> Function:
        taken = {parameter.name: "a parameter" for parameter in receiver}
        parameters = list(receiver)
        weight = 0
        for member in node.parameters:
            sized = self._member_type(scope, member)
            weight += sized.weight
            parameters.append(Parameter(self._fresh(scope, member.name, taken, "parameter"), _value(sized)))
        if weight > WEIGHT_MAX:
            raise scope.source.error(node.name, f"the parameters of `{name}` are too large: over {WEIGHT_MAX} values")
        if node.result is not None:
            sized = self._type(scope, node.result)
            if sized.borrows:
                raise scope.source.error(
                    node.result.name,
                    f"the result of `{name}` contains a borrow: a borrow ends with the call",
                    hint="give an owned handle, or a value",
                )
            result = _value(sized)
        return Function(name, tuple(parameters), result, scope.source.docs_above(node.name))

    # Types

    def _member_type(self, scope: _Scope, member: MemberNode) -> _Sized:
        assert member.type is not None
        return self._type(scope, member.type)

    def _type(self, scope: _Scope, node: TypeNode) -> _Sized:
        """Resolve a type as written; a resource's bare name is an owned handle."""
        if node.depth > DEPTH_MAX:
            raise scope.source.error(node.name, f"type nested {node.depth} levels deep; expected at most {DEPTH_MAX}")
        name = str(node.name)
        if name in _GENERIC:
            return self._bounded(scope, node.name, self._generic(scope, node))
        if name in _UNSUPPORTED:
            raise scope.source.error(node.name, f"`{name}` is outside the supported subset of WIT")
        if node.arguments:
            raise scope.source.error(node.name, f"{clip(name)} takes no types in `<>`")
        if name in PRIMITIVES:
            return _Sized(Primitive(name))
        sized = self._named(scope, node.name)
        if isinstance(sized.type, ResourceType):
            return _Sized(OwnType(sized.type))
        return sized

    def _generic(self, scope: _Scope, node: TypeNode) -> _Sized:
        name, count = str(node.name), len(node.arguments)
        least, most = {"tuple": (1, 16), "result": (0, 2)}.get(name, (1, 1))
        if not least <= count <= most:
            expected = f"{least} to {most} types" if most > 1 else "one type"
            raise scope.source.error(node.name, f"`{name}` with {count} types in `<>`; expected {expected}")
        if name in ("own", "borrow"):
            return self._handle(scope, node)
        if name == "result":
            return self._result(scope, node)
        arguments = [self._type(scope, argument) for argument in node.arguments]
        first = arguments[0].type
        if name == "list":
            return _around(ListType(_value(arguments[0])), arguments)
        if name == "tuple":
            return _around(TupleType(tuple(_value(argument) for argument in arguments)), arguments)
        if isinstance(first, OptionType):
            raise scope.source.error(
                node.arguments[0].name,
                "an option directly inside an option: in Python both would be None",
                hint="put the inner one into a record, or use a variant",
            )
        return _around(OptionType(_value(arguments[0])), arguments)

    def _handle(self, scope: _Scope, node: TypeNode) -> _Sized:
        inner = node.arguments[0]
        if inner.arguments or inner.name in PRIMITIVES or inner.name in _GENERIC:
            found = f"`{node.name}` of {clip(inner.name)}"
            raise scope.source.error(inner.name, f"{found}; expected the name of a resource")
        sized = self._named(scope, inner.name)
        if not isinstance(sized.type, ResourceType):
            raise scope.source.error(inner.name, f"{clip(inner.name)} is no resource: it cannot be `{node.name}`ed")
        if node.name == "own":
            return _Sized(OwnType(sized.type))
        return _Sized(BorrowType(sized.type), borrows=True)

    def _result(self, scope: _Scope, node: TypeNode) -> _Sized:
        sides: list[_Sized | None] = [None, None]
        for index, argument in enumerate(node.arguments):
            if argument.name != "_" or argument.arguments:
                sides[index] = self._type(scope, argument)
        ok, err = (_value(side) if side else None for side in sides)
        return _around(ResultType(ok, err), [side for side in sides if side])

    def _named(self, scope: _Scope, token: Token) -> _Sized:
        """Resolve a name of the scope, defining it first where that is still to be done."""
        name = token.removeprefix("%")
        if name in scope.types:
            return scope.types[name]
        node = scope.definitions.get(name)
        if node is None:
            raise self._unknown(scope, token)
        if name in scope.open:
            raise scope.source.error(token, f"type `{name}` contains itself", hint="refer to it by a key or an index")
        if len(scope.open) >= DEPTH_MAX:
            raise scope.source.error(token, f"type `{name}` is more than {DEPTH_MAX} levels deep")
        scope.open.add(name)
        sized = self._bounded(scope, node.name, self._define(scope, name, node))
        scope.open.remove(name)
        scope.types[name] = sized
        return sized

    def _unknown(self, scope: _Scope, token: Token) -> WitError:
        names = [*scope.definitions, *scope.types, *PRIMITIVES, *_GENERIC]
        message = f"unknown type {clip(token)}; expected a built-in type or one of this interface"
        hint = near(token, names) or "define it, or bring it in with `use`"
        return scope.source.error(token, message, hint=hint)

    def _define(self, scope: _Scope, name: str, node: DefinitionNode) -> _Sized:
        docs = scope.source.docs_above(node.name)
        if node.kind == "resource":
            return _Sized(ResourceType(name, scope.id, docs))
        if node.kind == "alias":
            assert node.members[0].type is not None
            target = node.members[0].type
            # A resource's bare name stays the resource, so that `borrow<alias>` works.
            bare = not target.arguments and target.name not in PRIMITIVES and target.name not in _GENERIC
            sized = self._named(scope, target.name) if bare else self._type(scope, target)
            return replace(sized, depth=sized.depth + 1)
        return self._compound(scope, name, node, docs)

    def _compound(self, scope: _Scope, name: str, node: DefinitionNode, docs: str) -> _Sized:
        if not node.members:
            raise scope.source.error(node.name, f"{node.kind} `{name}` is empty; expected at least one member")
        if node.kind == "flags" and len(node.members) > FLAGS_MAX:
            raise scope.source.error(
                node.members[FLAGS_MAX].name, f"flags `{name}` has {len(node.members)} members; expected at most 32"
            )
        taken: dict[str, str] = {}
        word = {"record": "field", "flags": "flag"}.get(node.kind, "case")
        names = [self._fresh(scope, member.name, taken, word) for member in node.members]
        docs_of = [scope.source.docs_above(member.name) for member in node.members]
        inner = [self._type(scope, member.type) if member.type else None for member in node.members]
        types = [_value(sized) if sized else None for sized in inner]
        build = _BUILDERS[node.kind]
        return _around(build(name, names, types, docs_of, docs), [sized for sized in inner if sized], len(names))

    def _bounded(self, scope: _Scope, place: Token, sized: _Sized) -> _Sized:
        if sized.depth > DEPTH_MAX:
            raise scope.source.error(place, f"type nested {sized.depth} levels deep; expected at most {DEPTH_MAX}")
        if sized.weight > WEIGHT_MAX:
            raise scope.source.error(
                place, f"type of {sized.weight} values when written out in full; expected at most {WEIGHT_MAX}"
            )
        return sized


def _value(sized: _Sized) -> WitType:
    """Return the type of a value: a resource stands for an owned handle."""
    return OwnType(sized.type) if isinstance(sized.type, ResourceType) else sized.type


def _around(type_: WitType, inner: list[_Sized], members: int = 0) -> _Sized:
    return _Sized(
        type_,
        1 + max((sized.depth for sized in inner), default=0),
        1 + max(members, sum(sized.weight for sized in inner)),
        any(sized.borrows for sized in inner),
    )


def children(type_: WitType | ResourceType) -> tuple[WitType, ...]:
    """Return the types directly inside a type, in the order of their values."""
    match type_:
        case ListType(element) | OptionType(element):
            return (element,)
        case ResultType(ok, err):
            return tuple(side for side in (ok, err) if side is not None)
        case TupleType(elements):
            return elements
        case RecordType(fields=fields):
            return tuple(field.type for field in fields)
        case VariantType(cases=cases):
            return tuple(case.type for case in cases if case.type is not None)
        case _:
            return ()


def _measure(type_: WitType | ResourceType) -> _Sized:
    """Measure a type that was resolved before; it is finite and bounded."""
    if isinstance(type_, BorrowType):
        return _Sized(type_, borrows=True)
    members = len(type_.cases) if isinstance(type_, VariantType | EnumType) else 0
    if isinstance(type_, ResourceType):
        return _Sized(type_)
    return _around(type_, [_measure(child) for child in children(type_)], members)


_Builder = Callable[[str, list[str], list[WitType | None], list[str], str], WitType]


def _cases(names: list[str], types: list[WitType | None], docs: list[str]) -> tuple[Case, ...]:
    return tuple(map(Case, names, types, docs))


def _record(name: str, names: list[str], types: list[WitType | None], docs_of: list[str], docs: str) -> WitType:
    fields = zip(names, types, docs_of, strict=True)
    return RecordType(name, tuple(Field(label, type_, text) for label, type_, text in fields if type_), docs)


_BUILDERS: dict[str, _Builder] = {
    "record": _record,
    "variant": lambda name, names, types, docs_of, docs: VariantType(name, _cases(names, types, docs_of), docs),
    "enum": lambda name, names, types, docs_of, docs: EnumType(name, _cases(names, types, docs_of), docs),
    "flags": lambda name, names, types, docs_of, docs: FlagsType(name, _cases(names, types, docs_of), docs),
}
