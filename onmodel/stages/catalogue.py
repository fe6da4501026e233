"""Every setting of every verb as rows of text: for `onmodel settings` and the recipe reference."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from onmodel.stages import VERBS


@dataclass(frozen=True)
class Setting:
    """A setting in words. `table` is "" for the verb's own table, else the class of the table
    inside it."""

    verb: str
    table: str
    name: str
    type: str
    default: str
    meaning: str


def settings_of(verb: str) -> list[Setting]:
    """The settings of a verb and of the tables inside it, in their order."""
    own: type[BaseModel] = importlib.import_module(VERBS[verb]).Settings
    found = list(rows_of(verb, "", own))
    for table in inner_tables(own):
        found += rows_of(verb, table.__name__, table)
    return found


def inner_tables(settings: type[BaseModel]) -> list[type[BaseModel]]:
    """The tables inside a verb's settings, each once."""
    found: dict[type[BaseModel], None] = {}
    todo = [field.annotation for field in settings.model_fields.values()]
    while todo:
        kind = todo.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.setdefault(kind)
        todo.extend(get_args(kind))
    return list(found)


def rows_of(verb: str, table: str, settings: type[BaseModel]) -> Iterator[Setting]:
    """The settings of a table; `verb` and `table` say where it stands."""
    for name, field in settings.model_fields.items():
        if name != "do":
            kind, default = _type(field.annotation), _default(field)
            yield Setting(verb, table, name, kind, default, field.description or "")


def _type(kind: Any) -> str:
    """A type in words, without its ranges."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(_type, inner)))
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if inner:
        return f"{origin.__name__}[{', '.join(map(_type, inner))}]"
    return {type(None): "None", ...: "…"}.get(kind) or kind.__name__


def _default(field: FieldInfo) -> str:
    """The default in words; "required" without one."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "unset" if value is None else repr(value)
