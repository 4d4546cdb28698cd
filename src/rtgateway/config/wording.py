"""Field types in words: what a key takes. Used by problem messages and by the reference page."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from rtgateway.config.document import Loc
from rtgateway.config.section import Allowed, Section
from rtgateway.config.units import MAX_DURATION, MAX_SIZE, format_duration, format_size

__all__ = ["Kind", "kind_at"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A field's type, with ``| None`` and ``Annotated`` taken off.

    :ivar type: a class, or a generic alias such as ``tuple[str, ...]``.
    :ivar metadata: what was attached to it, the innermost first.
    """

    type: Any
    metadata: tuple[Any, ...] = ()

    @classmethod
    def of(cls, annotation: Any, metadata: tuple[Any, ...] = ()) -> Kind:
        """Take ``annotation`` apart."""
        while True:
            if get_origin(annotation) is Annotated:
                annotation, *inner = get_args(annotation)
                metadata = (*inner, *metadata)
            elif get_origin(annotation) in (Union, types.UnionType) and (
                len(given := [arg for arg in get_args(annotation) if arg is not type(None)]) == 1
            ):
                annotation = given[0]
            else:
                return cls(annotation, metadata)

    @classmethod
    def of_field(cls, field: FieldInfo) -> Kind:
        """The kind of a model's field."""
        return cls.of(field.annotation, tuple(field.metadata))

    @property
    def section(self) -> type[Section] | None:
        """The model, when it is one."""
        is_section = isinstance(self.type, type) and issubclass(self.type, Section)
        return self.type if is_section else None

    @property
    def item(self) -> Kind | None:
        """What a list or a mapping holds."""
        if get_origin(self.type) is tuple:
            return Kind.of(get_args(self.type)[0])
        if get_origin(self.type) is dict:
            return Kind.of(get_args(self.type)[1])
        return None

    @property
    def is_secret(self) -> bool:
        """Whether values must not be shown."""
        notes = self.metadata
        marked = any(isinstance(note, Allowed) and note.secret for note in notes)
        return marked or self.type is SecretStr

    @property
    def is_scalar(self) -> bool:
        """Whether one value is expected, not a section, list or mapping."""
        return self.section is None and self.item is None

    @property
    def base_words(self) -> str:
        """The words its validator uses, without bounds; the outermost know best."""
        return next(
            (note.words for note in reversed(self.metadata) if isinstance(note, Allowed)), ""
        )

    def uses(self, words: str) -> bool:
        """Whether ``words`` are those of one of its validators."""
        return any(isinstance(note, Allowed) and note.words == words for note in self.metadata)

    @property
    def brief(self) -> str:
        """`words` for readers who know already how durations and sizes are written."""
        base = self.base_words
        return self.words.replace(base, base.partition(" such as")[0]) if self._unit else self.words

    @property
    def words(self) -> str:
        """What is allowed, bounds included."""
        if self.section is not None:
            mapping = f"a mapping with {', '.join(self.section.model_fields)}"
            return f"{self.section.words} or {mapping}" if self.section.words else mapping
        item = self.item
        if item is not None and get_origin(self.type) is dict:
            return f"a mapping of names{'' if item.section else f' to {item.words}'}"
        if item is not None:
            if item.section is None:
                return f"a list; each item {item.words}"
            return f"a list of {item.section.plural or item.section.__name__.lower() + 's'}"
        if get_origin(self.type) is Literal:
            return _one_of([str(choice) for choice in get_args(self.type)])
        if self.type is bool:
            return "true or false"
        base = self.base_words or ("a path" if self.type is not str else "text")
        return base + self._bounds()

    @property
    def _unit(self) -> str:
        return next((note.unit for note in self.metadata if isinstance(note, Allowed)), "")

    def _bounds(self) -> str:
        unit = self._unit
        write: Callable[[Any], str] = {"duration": format_duration, "size": format_size}.get(
            unit, str
        )
        lowest = max((note.ge for note in self.metadata if isinstance(note, Ge)), default=None)  # type: ignore[type-var]
        highest = min((note.le for note in self.metadata if isinstance(note, Le)), default=None)  # type: ignore[type-var]
        longest = min(
            (note.max_length for note in self.metadata if isinstance(note, MaxLen)), default=0
        )
        if highest in (MAX_DURATION, MAX_SIZE):
            highest = None
        if longest and not self.base_words:
            return f" of at most {longest} characters"
        if any(isinstance(note, Gt) for note in self.metadata):
            return ", more than 0" + (f", at most {write(highest)}" if highest else "")
        if lowest is not None and highest is not None and unit != "duration":
            comma = "," if unit else ""
            return f"{comma} from {write(lowest)} to {write(highest)}"
        if lowest and unit != "duration":
            return f", at least {write(lowest)}"
        return f", at most {write(highest)}" if highest is not None else ""


def _one_of(choices: list[str]) -> str:
    return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]


def kind_at(model: type[Section], loc: Loc) -> Kind | None:
    """The kind of the value at ``loc`` below ``model``; None where the models know nothing."""
    kind: Kind | None = Kind(model)
    for part in loc:
        if kind is None:
            return None
        if kind.section is not None:
            field = kind.section.model_fields.get(str(part))
            kind = Kind.of_field(field) if field is not None else None
        else:
            kind = kind.item
    return kind
