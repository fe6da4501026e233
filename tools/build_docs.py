"""Write recipe.md, metrics.md and merging.md of docs/reference/ from the code, so that they cannot say
anything else.

A test compares them.

.venv/bin/python tools/build_docs.py
"""

import inspect
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from onmodel.cli.lora import app as lora_commands
from onmodel.cli.lora_merge import app as merge_commands
from onmodel.curate.other_tools.registry import TOOLS
from onmodel.curate.other_tools.registry import __doc__ as foreign_doc
from onmodel.evaluate.axes import AXES
from onmodel.experiment import ExperimentSettings, VariantChange
from onmodel.lora import methods
from onmodel.recipe import __doc__ as frame
from onmodel.stages import VERBS, stage_module
from onmodel.stages.base import StageSettings
from onmodel.stages.catalogue import Setting, inner_tables, rows_of, settings_of

DOCS = Path(__file__).resolve().parent.parent / "docs" / "reference"


def recipe_page() -> str:
    """Every setting of every verb with its type, default and meaning."""
    parts = [
        "# Recipes",
        "Written by `tools/build_docs.py`.",
        f"```\n{inspect.cleandoc(frame or '')}\n```",
    ]
    for verb in VERBS:
        module = stage_module(verb)
        parts.append(
            f"## {verb}\n\n{inspect.cleandoc(module.__doc__)}\n\n{_words(module.Settings)}"
        )
        parts.append(_table(verb))
        for inner in inner_tables(module.Settings):
            words = _words(inner, beyond=module.Settings)
            parts.append(
                f"### {verb}: `{inner.__name__}`\n\n{words}\n\n{_table(verb, inner.__name__)}"
            )
    return "\n\n".join([*parts, _experiments(), _foreign()]) + "\n"


def _experiments() -> str:
    """The tables of an experiment."""
    parts = ["## Experiments"]
    for kind, place in (
        (ExperimentSettings, "[experiments.NAME]"),
        (VariantChange, "[experiments.NAME.list.VARIANT]"),
    ):
        rows = _setting_rows(rows_of("", "", kind))
        parts.append(f"### `{place}`\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\n{rows}")
    return "\n\n".join(parts)


def _foreign() -> str:
    """What becomes of every option of other trainers' data sets."""
    parts = [f"## Data sets of other trainers\n\n{inspect.cleandoc(foreign_doc or '')}"]
    for tool in TOOLS:
        read = {**tool.special, **tool.reading, **tool.config}
        rows = [f"| `{name}` | `{own}` |" for name, own in sorted(read.items())]
        rows += [f"| `{name}` | no effect: {why} |" for name, why in sorted(tool.harmless.items())]
        rows += [
            f"| `{name}` | an error, unless it is"
            f" {'not set' if value is None else f'`{value!r}`'} |"
            for name, value in sorted(tool.inactive.items())
        ]
        head = [f"### {tool.tool}\n", f"{tool.captions}\n", "| option | here |", "|---|---|"]
        parts.append("\n".join([*head, *rows]))
    return "\n\n".join(parts)


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
            f"- margin: a smaller change than {axis.margin:.3g} is never called better or worse\n"
            f"- arm: {axis.arm}; observers: {', '.join(axis.observers) or 'none, pixels alone'}\n"
            f"- origin: {axis.origin}\n- limits: {axis.limits}"
            + (f"\n- needs {axis.seeds} pictures of a prompt" if axis.seeds > 1 else "")
        )
    return "\n\n".join(parts) + "\n"


def merging_page() -> str:
    """Every command of `onmodel lora`, and the table of methods."""
    parts = ["# Merging", "Written by `tools/build_docs.py`.", MERGING]
    rows = [
        f"| `onmodel {prefix} {command.name}` | {_first_line(command.callback)} |"
        for prefix, app in (("lora merge", merge_commands), ("lora", lora_commands))
        for command in app.registered_commands
    ]
    parts.append("\n".join(["| command | does |", "|---|---|", *rows]))
    parts.append("## Methods")
    rows = [
        f"| `{name}` | {row.says} | {', '.join(f'`{key}`' for key in row.takes) or 'none'} |"
        f" [paper]({row.paper}) |"
        for name, row in methods.METHODS.items()
    ]
    parts.append("\n".join(["| method | the result is | settings | |", "|---|---|---|---|", *rows]))
    parts.append(inspect.cleandoc(methods.choose.__doc__ or ""))
    return "\n\n".join(parts) + "\n"


def _first_line(function: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


MERGING = """`onmodel lora` works on plain files of any layout (kohya, dotted, diffusers, PEFT), without a recipe.
LoKr and LoHa are expanded exactly, DoRA and OFT refused. Look first:

```
onmodel lora merge plan a.safetensors b.safetensors c.safetensors --weights 0.5,0.5,-0.2 --rank 32
onmodel lora merge run  a.safetensors b.safetensors c.safetensors --weights 0.5,0.5,-0.2 --rank 32 -o merged.safetensors
```

A negative weight takes a model's change away (task arithmetic). Without `--rank`, `--energy` or `--size` the sum is
exact, its rank that of all inputs together; `--energy` and `--size` give each layer the rank that is worth its bytes.
The result is float32 by default (`--dtype`). A full fine-tune among the files takes part as its difference to
`--base`; the energy that factoring loses is reported. Every output carries the whole history of its inputs; a file of
another tool stays a node of unknown origin with its hash. An output that exists is never overwritten."""


def _table(verb: str, table: str = "") -> str:
    return _setting_rows(row for row in settings_of(verb) if row.table == table)


def _setting_rows(settings: Iterable[Setting]) -> str:
    rows = [
        f"| `{row.name}` | `{_cell(row.type)}` | {_value(row.default)} | {_cell(row.meaning)} |"
        for row in settings
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _value(default: str) -> str:
    return default if default in ("required", "unset") else f"`{_cell(default)}`"


def _words(settings: type[BaseModel], beyond: type[BaseModel] = StageSettings) -> str:
    """What a table of settings says of itself, and what it takes over from others, `beyond` what
    was said already."""
    kinds = [
        kind
        for kind in settings.__mro__
        if issubclass(kind, BaseModel) and kind not in beyond.__mro__
    ]
    return "\n\n".join(inspect.cleandoc(kind.__doc__) for kind in kinds if kind.__doc__)


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    (DOCS / "recipe.md").write_text(recipe_page(), encoding="utf-8")
    (DOCS / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (DOCS / "merging.md").write_text(merging_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
