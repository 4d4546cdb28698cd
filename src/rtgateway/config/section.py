"""What every part of the configuration has in common.

`Section` is the base of all models: frozen, unknown keys refused, inputs never repeated in
exceptions (they may be secrets). Rules between keys are written as `Section.rules` instead of
pydantic's ``after`` validators, which are skipped as soon as one field is wrong: whoever fixes a
file wants to hear about everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

__all__ = ["REFUSED", "Allowed", "Rule", "Section", "Switchable", "refused", "switch"]

_KINDS = frozenset(get_args(ErrorType))

REFUSED = "refused"
"""Type of the errors that validators of this package raise; see `refused`."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Annotation of a field type: in words, what it takes; how its bounds are to be written.

    A ``secret`` is never shown in a problem.
    """

    words: str
    unit: Literal["", "duration", "size"] = ""
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A broken rule between keys. ``key`` is relative to the section; empty is the section."""

    message: str
    key: tuple[str | int, ...] = ()
    found: str = ""
    allowed: str = ""


def refused(*, message: str = "", found: str = "", allowed: str = "") -> PydanticCustomError:
    """The error for a validator to raise. An empty ``found`` is filled in from the document."""
    # Everything travels as context: text of a template would be scanned for braces again.
    context = {"message": message, "found": found, "allowed": allowed}
    return PydanticCustomError(REFUSED, "{message} allowed: {allowed}", context)


def _line_errors(error: ValidationError) -> Iterator[InitErrorDetails]:
    for line in error.errors(include_url=False):
        context = line.get("ctx", {})
        kind: str | PydanticCustomError = line["type"]
        if kind == "too_short" and line["input"]:
            # pydantic counts valid items only; the others are reported by themselves.
            continue
        if kind == REFUSED:
            kind = refused(**context)
        elif kind not in _KINDS:
            # pydantic has errors of its own that pydantic_core does not know (``path_type``).
            kind = PydanticCustomError(line["type"], "{text}", {"text": line["msg"]})
        yield InitErrorDetails(type=kind, loc=line["loc"], input=line["input"], ctx=context)


class Section(BaseModel):
    """A part of the configuration: immutable, comparable, every key known."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    plural: ClassVar[str] = ""
    """What several of them are called, where that is not the class's name with an s."""

    words: ClassVar[str] = ""
    """What will do in place of a mapping, such as ``on``."""

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """``value`` with a shorthand (a bare URL, say) replaced by the mapping it stands for."""
        return value

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Broken rules between keys.

        ``values`` are validated values when every key was right by itself, and otherwise what the
        document says, so that nothing may be taken for granted about their types.
        """
        return iter(())

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return validate(value)
        value = cls.spelled_out(value)
        if value is None:
            value = {}
        if isinstance(value, Mapping):
            value = cls._without_empty_keys(value)
        errors: list[InitErrorDetails] = []
        section: Self | None = None
        try:
            section = validate(value)
            values: Mapping[str, Any] = dict(section)
        except ValidationError as error:
            errors.extend(_line_errors(error))
            values = value if isinstance(value, Mapping) else {}
        # What isn't a mapping at all has broken a more basic rule already.
        for rule in cls.rules(values) if section or isinstance(value, Mapping) else ():
            kind = refused(message=rule.message, found=rule.found, allowed=rule.allowed)
            errors.append(InitErrorDetails(type=kind, loc=rule.key, input=None))
        if section is None or errors:
            raise ValidationError.from_exception_data(cls.__name__, errors, hide_input=True)
        return section

    @classmethod
    def _without_empty_keys(cls, value: Mapping[Any, Any]) -> dict[Any, Any]:
        # "limits:" with every line below it commented out means the defaults, not an error.
        fields = cls.model_fields
        return {
            key: item
            for key, item in value.items()
            if item is not None or key not in fields or fields[key].is_required()
        }


_SWITCH = {"on": True, "true": True, "off": False, "false": False}


def switch(value: Any) -> bool | None:
    """Whether ``value`` turns something on or off; None when it says something else."""
    if isinstance(value, bool):
        return value
    return _SWITCH.get(value.strip().lower()) if isinstance(value, str) else None


class Switchable(Section):
    """A section with the key ``enabled``, for which ``on`` and ``off`` (true, false) will do."""

    words: ClassVar[str] = "on, off"

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A switch is a section with nothing but ``enabled``."""
        state = switch(value)
        return value if state is None else {"enabled": state}
