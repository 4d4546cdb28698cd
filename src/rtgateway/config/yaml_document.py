"""YAML into a `Document`: plain values with their lines, and nothing that YAML could do besides.

Read from PyYAML's events rather than by one of its loaders, because those drop the lines, let the
second of two equal keys win, and take ``off`` for false and ``0660`` for 432 (YAML 1.1). Scalars
follow YAML 1.2's core schema, except that digits after a zero stay text: they are file modes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from rtgateway.config.document import MAX_DEPTH, MAX_VALUES, Document, Loc
from rtgateway.config.problems import show

__all__ = ["read_yaml"]

# libyaml is ten times as fast; both parsers are iterative, so depth is ours to bound.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", f"{_TAG}str")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    spelling: value
    for word, value in (("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?")
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _UnreadableError(Exception):
    """Not readable any further. Arguments: line, message."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True)
class _Scalar:
    line: int
    text: str
    is_text: bool


@dataclass(slots=True)
class _List:
    line: int
    items: list[_Node]


@dataclass(slots=True)
class _Mapping:
    line: int
    items: list[tuple[_Node, _Node]]


_Node = _Scalar | _List | _Mapping


def read_yaml(text: str, name: str) -> Document:
    """The one document in ``text``; what is wrong with it is in its ``problems``."""
    document = Document(name)
    try:
        if bad := _NOT_TEXT.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            raise _UnreadableError(line, f"a character that is not text (U+{ord(bad[0]):04X})")
        root = _compose(text)
        if root is not None:
            _Values(document).read(root)
    except _UnreadableError as broken:
        document.report((), broken.message, line=broken.line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        document.report((), _plainer(error), line=mark.line + 1 if mark is not None else None)
    except yaml.YAMLError:
        document.report((), "not valid YAML")
    return document


def _plainer(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "").strip()
    if re.search(r"\\t|\btab\b", problem):
        return "not valid YAML: a tab where only spaces may be"
    if "mapping values are not allowed" in problem:
        return "not valid YAML: a second colon on the line, or wrong indentation; quote the text"
    return f"not valid YAML: {problem}"


def _compose(text: str) -> _Node | None:
    """The nodes of the only document; None when there is none."""
    composer = _Composer(yaml.parse(text, Loader=_LOADER))
    root: _Node | None = None
    for event in composer.events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise _UnreadableError(_line(event), 'a second document ("---") in the file')
            root = composer.node(next(composer.events), 0)
    return root


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Composer:
    """Nodes out of events. An alias is the node of its anchor, not a copy."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.anchors: dict[str, _Node] = {}

    def node(self, event: Any, depth: int) -> _Node:
        line = _line(event)
        if depth > MAX_DEPTH:
            raise _UnreadableError(line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            # An anchor counts once its node is complete, so that no node contains itself.
            if event.anchor not in self.anchors:
                raise _UnreadableError(
                    line, "an alias (*) without an anchor (&) before it; quote the text"
                )
            return self.anchors[event.anchor]
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = _Scalar(line, event.value, _is_text(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            _refuse_tag(event, "seq")
            items = self._until(yaml.SequenceEndEvent)
            node = _List(line, [self.node(item, depth + 1) for item in items])
        else:
            _refuse_tag(event, "map")
            keys = self._until(yaml.MappingEndEvent)
            pairs = ((self.node(key, depth + 1), next(self.events)) for key in keys)
            node = _Mapping(line, [(key, self.node(item, depth + 1)) for key, item in pairs])
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _until(self, end: type) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event


def _is_text(event: Any) -> bool:
    if event.tag is None:
        return not event.implicit[0]
    if event.tag in _TEXT_TAGS:
        return True
    _refuse_tag(event, "null", "bool", "int", "float")
    return False


def _refuse_tag(event: Any, *allowed: str) -> None:
    if event.tag is not None and event.tag not in ("!", *(_TAG + name for name in allowed)):
        message = "a tag (!) that a configuration has no use for; quote the text"
        raise _UnreadableError(_line(event), message)


class _Values:
    """Values out of nodes, with the line of each; aliases are followed, within bounds."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def read(self, root: _Node) -> None:
        self.document.lines[()] = root.line
        self.document.data = self._value(root, ())

    def _value(self, node: _Node, loc: Loc) -> Any:
        self.count += 1
        # Aliases of aliases multiply the depth as well as the number.
        if self.count > MAX_VALUES or len(loc) > MAX_DEPTH:
            raise _UnreadableError(
                node.line, f"more than {MAX_VALUES} values, or too deep, through aliases"
            )
        if isinstance(node, _Scalar):
            return node.text if node.is_text else _plain_value(node.text)
        if isinstance(node, _List):
            return [self._child(item, item.line, (*loc, at)) for at, item in enumerate(node.items)]
        merged, own = self._entries(node, loc)
        values = {key: self._child(item, item.line, (*loc, key)) for key, item in merged.items()}
        for key, (line, item) in own.items():
            values[key] = self._child(item, line, (*loc, key))
        return values

    def _child(self, node: _Node, line: int, loc: Loc) -> Any:
        self.document.lines[loc] = line
        return self._value(node, loc)

    def _entries(
        self, node: _Mapping, loc: Loc
    ) -> tuple[dict[str, _Node], dict[str, tuple[int, _Node]]]:
        """What ``<<`` brings in and the mapping does not say itself, and what it says itself."""
        merged: dict[str, _Node] = {}
        own: dict[str, tuple[int, _Node]] = {}
        for key, value in node.items:
            if not isinstance(key, _Scalar):
                raise _UnreadableError(key.line, "a list or mapping as a key")
            if key.text == "<<" and not key.is_text:
                self._merge(value, merged)
            elif key.text in own:
                message = f"the key {show(key.text)} is there twice, first on line"
                message = f"{message} {own[key.text][0]}"
                self.document.report(loc, message, line=key.line)
            else:
                own[key.text] = (key.line, value)
        return {key: value for key, value in merged.items() if key not in own}, own

    def _merge(self, node: _Node, merged: dict[str, _Node], depth: int = 0) -> None:
        if isinstance(node, _List) and depth == 0:
            for item in node.items:
                self._merge(item, merged, 1)
            return
        if not isinstance(node, _Mapping):
            raise _UnreadableError(node.line, '"<<" takes a mapping, or a list of mappings')
        for key, value in node.items:
            self.count += 1
            if not isinstance(key, _Scalar) or key.text == "<<":
                raise _UnreadableError(key.line, '"<<" takes a mapping of plain keys')
            merged.setdefault(key.text, value)


def _plain_value(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
