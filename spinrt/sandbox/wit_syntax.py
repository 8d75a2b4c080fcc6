"""From WIT text to a tree of nodes, and the errors that point into the text.

This module owns the grammar (`GRAMMAR`), the nodes and `Source`, which turns a place in a text into a message with its
line and a caret. It knows nothing of meaning: names are resolved and types are checked in `wit_resolve`. Parsing takes
time and memory in proportion to the text and never recurses, so hostile nesting is an ordinary error.

Source: WIT.md of the WebAssembly component model; the subset is stated in docs/formats/wit-subset.md.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from spinrt.errors import WitError

TEXT_BYTES_MAX = 1 << 20
DEPTH_MAX = 32
_SHOWN_COLUMNS = 100

GRAMMAR = r"""
file: package (interface | world)*
package: "package" NAME ":" NAME version? ";"
version: "@" VERSION

interface: "interface" NAME "{" (use | alias | record | variant | enum | flags | resource | function)* "}"
use: "use" path "." "{" use_name ("," use_name)* ","? "}" ";"
use_name: NAME ("as" NAME)?
path: NAME (":" NAME "/" NAME version?)?

alias: "type" NAME "=" type ";"
record: "record" NAME "{" (member ("," member)* ","?)? "}"
variant: "variant" NAME "{" (case ("," case)* ","?)? "}"
enum: "enum" NAME "{" (bare ("," bare)* ","?)? "}"
flags: "flags" NAME "{" (bare ("," bare)* ","?)? "}"
resource: "resource" NAME (";" | "{" (constructor | static | method)* "}")

function: NAME ":" signature ";"
method: NAME ":" signature ";"
static: NAME ":" "static" signature ";"
constructor: CONSTRUCTOR parameters ";"
signature: "func" parameters ("->" type)?
parameters: "(" (member ("," member)* ","?)? ")"

member: NAME ":" type
case: NAME ("(" type ")")?
bare: NAME
type: NAME ("<" type ("," type)* ","? ">")?

world: "world" NAME "{" (world_import | world_export)* "}"
world_import: "import" path ";"
world_export: "export" path ";"

CONSTRUCTOR: "constructor"
NAME: /%?[A-Za-z0-9_][A-Za-z0-9_-]*/
VERSION: /[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?/
LINE_COMMENT: /\/\/[^\n]*/
BLOCK_COMMENT: /\/\*([^*]|\*(?!\/))*\*\//
SPACE: /[ \t\r\n]+/
%ignore LINE_COMMENT
%ignore BLOCK_COMMENT
%ignore SPACE
"""

# fmt: off
KEYWORDS = frozenset([
    "as", "async", "bool", "borrow", "char", "constructor", "enum", "export", "f32", "f64", "flags", "from", "func",
    "future", "import", "include", "interface", "list", "map", "option", "own", "package", "record", "resource",
    "result", "s16", "s32", "s64", "s8", "static", "stream", "string", "tuple", "type", "u16", "u32", "u64", "u8",
    "use", "variant", "with", "world",
])
# fmt: on
_KEBAB = re.compile(r"(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*)(?:-(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*))*")
_DOC = re.compile(r"[ \t]*///(?!/)[ ]?(.*?)\s*")


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A type as written: `name<arguments>`; `depth` counts levels, itself included."""

    name: Token
    arguments: tuple[TypeNode, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class MemberNode:
    """A field, case, flag or parameter."""

    name: Token
    type: TypeNode | None = None


@dataclass(frozen=True, slots=True)
class FunctionNode:
    """A function; `kind` is free, method, static or constructor (whose `name` is the keyword)."""

    kind: str
    name: Token
    parameters: tuple[MemberNode, ...]
    result: TypeNode | None


@dataclass(frozen=True, slots=True)
class DefinitionNode:
    """A named type; `kind` is alias (one member, its type), record, variant, enum, flags or resource."""

    kind: str
    name: Token
    members: tuple[MemberNode, ...] = ()
    functions: tuple[FunctionNode, ...] = ()


@dataclass(frozen=True, slots=True)
class PathNode:
    """A path to an interface: its bare name, or `namespace:package/name@version`."""

    name: Token
    package: tuple[Token, Token] | None = None
    version: Token | None = None


@dataclass(frozen=True, slots=True)
class UseNode:
    """`use path.{name as local}`; a name without `as` is its own local name."""

    path: PathNode
    names: tuple[tuple[Token, Token], ...]


@dataclass(frozen=True, slots=True)
class InterfaceNode:
    name: Token
    uses: tuple[UseNode, ...]
    definitions: tuple[DefinitionNode, ...]
    functions: tuple[FunctionNode, ...]


@dataclass(frozen=True, slots=True)
class WorldNode:
    name: Token
    imports: tuple[PathNode, ...]
    exports: tuple[PathNode, ...]


@dataclass(frozen=True, slots=True)
class FileNode:
    """One file; `version` is `None` where the package line has none."""

    package: tuple[Token, Token]
    version: Token | None
    interfaces: tuple[InterfaceNode, ...]
    worlds: tuple[WorldNode, ...]


def _only(kind: type[Any], children: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(child for child in children if isinstance(child, kind))


class _Nodes(Transformer[Token, Any]):
    """Builds nodes while the parser reduces: one method for each rule of the grammar, children in the order written."""

    def file(self, children: list[Any]) -> FileNode:
        namespace, package, version = children[0]
        return FileNode((namespace, package), version, _only(InterfaceNode, children), _only(WorldNode, children))

    def package(self, children: list[Any]) -> tuple[Token, Token, Token | None]:
        return children[0], children[1], children[2] if len(children) > 2 else None

    def version(self, children: list[Any]) -> Token:
        token: Token = children[0]
        return token

    def interface(self, children: list[Any]) -> InterfaceNode:
        return InterfaceNode(
            children[0], _only(UseNode, children), _only(DefinitionNode, children), _only(FunctionNode, children)
        )

    def use(self, children: list[Any]) -> UseNode:
        return UseNode(children[0], tuple(children[1:]))

    def use_name(self, children: list[Any]) -> tuple[Token, Token]:
        return children[0], children[-1]

    def path(self, children: list[Any]) -> PathNode:
        if len(children) == 1:
            return PathNode(children[0])
        return PathNode(children[2], (children[0], children[1]), children[3] if len(children) > 3 else None)

    def alias(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("alias", children[0], (MemberNode(children[0], children[1]),))

    def record(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("record", children[0], tuple(children[1:]))

    def variant(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("variant", children[0], tuple(children[1:]))

    def enum(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("enum", children[0], tuple(children[1:]))

    def flags(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("flags", children[0], tuple(children[1:]))

    def resource(self, children: list[Any]) -> DefinitionNode:
        return DefinitionNode("resource", children[0], functions=tuple(children[1:]))

    def function(self, children: list[Any]) -> FunctionNode:
        return FunctionNode("free", children[0], *children[1])

    def method(self, children: list[Any]) -> FunctionNode:
        return FunctionNode("method", children[0], *children[1])

    def static(self, children: list[Any]) -> FunctionNode:
        return FunctionNode("static", children[0], *children[1])

    def constructor(self, children: list[Any]) -> FunctionNode:
        return FunctionNode("constructor", children[0], children[1], None)

    def signature(self, children: list[Any]) -> tuple[tuple[MemberNode, ...], TypeNode | None]:
        return children[0], children[1] if len(children) > 1 else None

    def parameters(self, children: list[Any]) -> tuple[MemberNode, ...]:
        return tuple(children)

    def member(self, children: list[Any]) -> MemberNode:
        return MemberNode(children[0], children[1])

    def case(self, children: list[Any]) -> MemberNode:
        return MemberNode(*children)

    def bare(self, children: list[Any]) -> MemberNode:
        return MemberNode(children[0])

    def type(self, children: list[Any]) -> TypeNode:
        arguments = tuple(children[1:])
        return TypeNode(children[0], arguments, 1 + max((node.depth for node in arguments), default=0))

    def world(self, children: list[Any]) -> WorldNode:
        paths = [(direction, path) for direction, path in children[1:]]
        return WorldNode(
            children[0],
            tuple(path for direction, path in paths if direction == "import"),
            tuple(path for direction, path in paths if direction == "export"),
        )

    def world_import(self, children: list[Any]) -> tuple[str, PathNode]:
        return "import", children[0]

    def world_export(self, children: list[Any]) -> tuple[str, PathNode]:
        return "export", children[0]


@functools.cache
def _parser() -> Lark:
    return Lark(GRAMMAR, start="file", parser="lalr", transformer=_Nodes(), maybe_placeholders=False)


@dataclass(frozen=True)
class Source:
    """One WIT text and the name that messages call it by."""

    name: str
    text: str = field(repr=False)

    @functools.cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    def error(self, place: Token, message: str, *, hint: str = "") -> WitError:
        """Return the error that points at a token: a line with place and message, then the text and a caret."""
        return self.error_at(place.line or 1, place.column or 1, message, width=len(place), hint=hint)

    def error_at(self, line: int, column: int, message: str, *, width: int = 1, hint: str = "") -> WitError:
        """Return the error that points at `line` and `column`, both counted from 1."""
        whole = self._lines[line - 1] if line <= len(self._lines) else ""
        start = max(0, column - 1 - _SHOWN_COLUMNS // 2)
        shown = _printable(whole[start : start + _SHOWN_COLUMNS])
        caret = " " * (column - 1 - start) + "^" + "~" * (min(width, _SHOWN_COLUMNS - (column - 1 - start)) - 1)
        gutter = " " * len(str(line))
        text = f"{self.name}:{line}:{column}: {message}\n {line} | {shown}\n {gutter} | {caret}"
        return WitError(text, hint=hint)

    def docs_above(self, place: Token) -> str:
        """Return the `///` comment that stands directly above the line of a token, without its markers."""
        line = (place.line or 1) - 2
        found: list[str] = []
        while line >= 0 and (match := _DOC.fullmatch(self._lines[line])):
            found.append(match.group(1))
            line -= 1
        return "\n".join(reversed(found))

    def name_of(self, token: Token) -> str:
        """Return a declared or used name without the `%` that lets it be a keyword.

        Raises:
            WitError: Not kebab-case, or a keyword without `%`.
        """
        text = token.removeprefix("%")
        if not _KEBAB.fullmatch(text):
            raise self.error(
                token, f"bad name {clip(text)}: expected kebab-case: words of letters and digits joined by `-`"
            )
        if text in KEYWORDS and text == token:
            raise self.error(token, f"found the keyword `{text}` where a name is expected", hint=f"write %{text}")
        return text

    def parse(self) -> FileNode:
        """Parse the text.

        Raises:
            WitError: Longer than `TEXT_BYTES_MAX`, or not in the grammar; says what was found and what was expected.
        """
        size = len(self.text.encode("utf-8", "surrogatepass"))
        if size > TEXT_BYTES_MAX:
            raise WitError(f"{self.name}: {size} bytes of WIT; expected at most {TEXT_BYTES_MAX}")
        try:
            node: FileNode = _parser().parse(self.text)  # type: ignore[assignment]  # the transformer's value
        except UnexpectedInput as error:
            raise self._unexpected(error) from None
        return node

    def _unexpected(self, error: UnexpectedInput) -> WitError:
        offset = error.pos_in_stream or 0
        if self.text.startswith("/*", offset):
            return self.error_at(error.line, error.column, "this comment is never closed: expected `*/`", width=2)
        if isinstance(error, UnexpectedToken):
            expected = _expectation(error.accepts or error.expected)
            if error.token.type == "$END":
                last = len(self._lines)
                return self.error_at(last, len(self._lines[-1]) + 1, f"found the end of the text, expected {expected}")
            return self.error(error.token, f"found {clip(error.token)}, expected {expected}")
        allowed = error.allowed if isinstance(error, UnexpectedCharacters) else set()
        found = clip(self.text[offset : offset + 1])
        return self.error_at(error.line, error.column, f"found {found}, expected {_expectation(allowed)}")


def clip(text: str, length_max: int = 60) -> str:
    """Return text in backquotes, safe to print and not too long to read."""
    safe = _printable(text)
    return f"`{safe}`" if len(safe) <= length_max else f"`{safe[:length_max]}…`"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " if char in "\t\r" else "�" for char in text)


def _expectation(terminals: Iterable[str]) -> str:
    """Say which terminals would have been accepted, in the words of someone who writes WIT."""
    words = sorted({_terminal(name) for name in terminals})
    if len(words) <= 1:
        return words[0] if words else "nothing more"
    return ", ".join(words[:-1]) + " or " + words[-1]


def _terminal(name: str) -> str:
    fixed = {"NAME": "a name", "VERSION": "a version such as 1.0.0", "$END": "the end of the text"}
    if name in fixed:
        return fixed[name]
    pattern = _parser().get_terminal(name).pattern
    return f"`{pattern.value}`" if isinstance(pattern, PatternStr) else name.lower()
