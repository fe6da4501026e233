"""Write docs/recipe.md and docs/metrics.md from the code, so that they cannot say anything else. A test compares them.

.venv/bin/python tools/build_docs.py
"""

import inspect
import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from onmodel.evaluate.axes import AXES
from onmodel.pipeline import stage_module
from onmodel.recipe import __doc__ as frame
from onmodel.stages import VERBS
from onmodel.stages.base import StageSettings

DOCS = Path(__file__).resolve().parent.parent / "docs"


def recipe_page() -> str:
    """Every setting of every verb with its type and default."""
    parts = ["# Recipes", "Written by `tools/build_docs.py`.", f"```\n{inspect.cleandoc(frame or '')}\n```"]
    for verb in VERBS:
        module = stage_module(verb)
        parts.append(f"## {verb}\n\n{inspect.cleandoc(module.__doc__)}\n\n{_words(module.Settings)}")
        parts.append(_table(module.Settings))
        for inner in _inner(module.Settings):
            parts.append(f"### {verb}: `{inner.__name__}`\n\n{_words(inner)}\n\n{_table(inner)}")
    return "\n\n".join(parts) + "\n"


def metrics_page() -> str:
    """Every axis with its record."""
    parts = ["# What is measured", "Written by `tools/build_docs.py` from each axis' own record."]
    for axis, function in AXES.values():
        low, high = ("" if end is None else f"{end:g}" for end in axis.range)
        doc = inspect.getdoc(function) or ""
        parts.append(
            f"## `{axis.id}` — {axis.title}\n\n{doc}\n\n"
            f"- unit: {axis.unit}; range {low or '−∞'} … {high or '∞'}; ideal: {axis.direction}; "
            f"version {axis.version}\n"
            f"- arm: {axis.arm}; observers: {', '.join(axis.observers) or 'none, pixels alone'}\n"
            f"- origin: {axis.origin}\n- limits: {axis.limits}"
        )
    return "\n\n".join(parts) + "\n"


def _table(settings: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} |"
        for name, field in settings.model_fields.items()
        if name != "do"
    ]
    return "\n".join(["| setting | type | default |", "|---|---|---|", *rows])


def _words(settings: type[BaseModel]) -> str:
    """What a table of settings says of itself, and what it takes over from others."""
    own = [
        kind.__doc__
        for kind in settings.__mro__
        if issubclass(kind, BaseModel) and kind not in (BaseModel, StageSettings)
    ]
    return "\n\n".join(inspect.cleandoc(doc) for doc in own if doc)


def _inner(settings: type[BaseModel]) -> list[type[BaseModel]]:
    """The tables inside a verb's settings, each once."""
    found: dict[type[BaseModel], None] = {}
    todo = [field.annotation for field in settings.model_fields.values()]
    while todo:
        kind = todo.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.setdefault(kind)
        todo.extend(get_args(kind))
    return list(found)


def _type(field: FieldInfo) -> str:
    text = inspect.formatannotation(field.annotation)
    for noise in re.findall(r"(?:[a-z_]+\.)+(?=[A-Z])", text):
        text = text.replace(noise, "")
    return f"`{text}`".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{value!r}`"


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    (DOCS / "recipe.md").write_text(recipe_page(), encoding="utf-8")
    (DOCS / "metrics.md").write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
