"""Groups of fields with types and ranges: what is wrong with one, in a line.

Built on pydantic; a group may come from a stranger's file.
"""

import functools
import typing
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from vidpred_jax.types import InputError

_MOST = 2**40  # Of any whole number, so that it fits where it is used.
_MOST_WIDTH, _MOST_ENTRIES = 16_384, 32  # Of a network's numbers, and of a list of them.


def whole(low: int, high: int = _MOST):
    """The type of whole numbers from low to high."""
    return Annotated[int, Field(ge=low, le=high)]


def real(low: float | int, high: float | int = 3e38):
    """The type of finite numbers from low to high."""
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]


Entries = Annotated[list[whole(1, _MOST_WIDTH)], Field(max_length=_MOST_ENTRIES, strict=False)]
Names = Annotated[list[str], Field(max_length=_MOST_ENTRIES, strict=False)]
_ANNOTATED: dict[Any, Any] = {
    int: whole(0, _MOST_WIDTH),
    float: real(0, 1),
    bool: bool,
    str: str,
    tuple[int, ...]: Entries,
}
_REPEATED = ("blocks", "layers")  # Each is traced.


class Group(pydantic.BaseModel):
    """A group of fields: none beside those named, and no conversion between types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def check_types(owner: type, fields: Any, prefix: str) -> None:
    """Raises InputError unless a group holds fields of `owner`, a dataclass or module, as annotated."""
    if not isinstance(fields, dict):
        raise InputError(f"{prefix} ({shorten(fields)}) must be a group of fields")
    validate(_group_of(owner), fields, f"{prefix}.", f" of {owner.__name__}")


@functools.cache
def _group_of(owner: type) -> type[Group]:
    rules = {
        name: whole(0, 64) if name in _REPEATED else _ANNOTATED.get(field.type, Any)
        for name, field in owner.__dataclass_fields__.items()
        if name not in ("parent", "name", "axis_name")
    }
    fields = {name: (rule, None) for name, rule in sorted(rules.items())}
    return pydantic.create_model(owner.__name__, __base__=Group, **fields)


def validate(kind: type[Group], values: dict, prefix: str = "", of: str = "") -> Group:
    """The group that the values make. Raises InputError: field, value, rule.

    prefix: of the names of its fields; of: whose they are.
    """
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    owner, value, names, rule = kind, values, [], None
    for name in first["loc"]:
        if not isinstance(value, dict) or not isinstance(name, str):
            break  # An entry of a list.
        names.append(name if name.isidentifier() and len(name) < 80 else shorten(name))
        value, group = value.get(name), owner
        rule = group.model_fields.get(name)
        owner = rule.annotation if rule and isinstance(rule.annotation, type) else owner
    field = prefix + ".".join(names)
    if first["type"] == "missing":
        raise InputError(f"the config has no field {field!r}")
    if first["type"] == "extra_forbidden":
        raise InputError(f"{field} is not a field{of}: {', '.join(group.model_fields)}")
    if isinstance(value, dict) and first["type"] in ("invalid_key", "string_unicode"):
        raise InputError(f"{field.rstrip('.') or 'the config'} has a field whose name is not text")
    raise InputError(f"{field} ({shorten(value)}) {_broken(rule, value, first)}")


_TYPES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be True or False",
    "string_type": "must be text",
    "model_type": "must be a group of fields",
    "dict_type": "must be a group of fields",
}


def _broken(rule, value: Any, error: dict) -> str:
    """Which rule a value breaks."""
    kind, origin = error["type"], typing.get_origin(rule.annotation)
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if origin is Literal:
        return f"must be one of {', '.join(typing.get_args(rule.annotation))}"
    if origin is list and str in typing.get_args(rule.annotation):
        return f"must be a list of at most {_MOST_ENTRIES} names"
    if origin is list and kind in ("list_type", "too_long"):
        return f"must be a list of at most {_MOST_ENTRIES} whole numbers"
    if origin is list:
        return f"must hold whole numbers from 1 to {_MOST_WIDTH}"
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "greater_than":
        return f"must be above {error['ctx']['gt']:g}"
    low, high = (next(getattr(x, side) for x in rule.metadata if hasattr(x, side)) for side in ("ge", "le"))
    return f"must be {low} or more" if high > 1 and value < low else f"must be {low} to {high}"


def shorten(value: Any) -> str:
    """A value for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # A number of thousands of digits; a list too deep.
        text = f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:76]} ..."
