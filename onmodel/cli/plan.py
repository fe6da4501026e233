"""The plan of a recipe as a table: what each stage will train and generate, and its time, before it
runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onmodel.engine.plan import Step
from onmodel.errors import InputError
from onmodel.recipe import Recipe
from onmodel.text import printable

if TYPE_CHECKING:
    from onmodel.families.protocol import BaseFacts
    from onmodel.train.memory import Forecast
    from onmodel.train.networks import TrainingSize


def print_plan(recipe: Recipe, steps: Sequence[Step], console: Console) -> None:
    """Print stages with exposures per picture, training steps, pictures to generate and estimated
    time."""
    table = Table(
        title=f"{recipe.name} · {recipe.character.name} on {recipe.base_name}",
        title_justify="left",
        caption="×n: times that each picture is seen",
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    for column in ("stage", "", "pictures", "steps", "generate", "about"):
        number = column in ("steps", "generate", "about")
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for step in steps:
        plan = step.plan
        shown = [f"{name} {n}" for name, n in plan.counts.items()] + [
            f"{name} ×{n}" for name, n in plan.exposures.items()
        ]
        pictures = Text("\n".join(map(printable, shown)))
        made = (str(plan.steps or ""), str(plan.pictures or ""), clock(step.seconds))
        table.add_row(step.name, step.verb, pictures, *made)
    console.print(table)
    for step in steps:
        for note in step.plan.notes:
            console.print(f"{step.name}: {note}", style="yellow", highlight=False, markup=False)
    seconds = [step.seconds for step in steps if step.seconds is not None]
    if len(seconds) == len(steps):
        console.print(f"about {clock(sum(seconds))} when nothing is done yet", highlight=False)
    else:
        console.print("time: unknown until this base was measured on this machine", highlight=False)


def print_forecasts(
    base: "BaseFacts",
    forecasts: "Mapping[str, TrainingSize | Forecast]",
    steps: Sequence[Step],
    console: Console,
) -> None:
    """Print the base's size, the size and memory of each training, and what is missing."""
    backbone = base.spec.backbone
    sizes = f"{base.parameters[backbone] / 1e6:,.0f} M parameters in {base.spec.blocks} blocks"
    origin = "" if backbone in base.found else ", as published; the file is not there yet"
    console.print(f"base: {backbone} of {sizes}{origin}", highlight=False, soft_wrap=True)
    for name, row in forecasts.items():
        console.print(
            f"{name}: trains {row.parameters / 1e6:.1f} M parameters in {row.layers} of"
            f" {len(base.spec.linears)} layers; a checkpoint is"
            f" {row.file_bytes / 2**20:.0f} MiB",
            highlight=False,
            soft_wrap=True,
        )
        if row.memory:
            console.print(_memory_table(name, row))
    for what in missing_of(base, steps):
        console.print(
            f"not there: {what}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )


def missing_of(base: "BaseFacts", steps: Sequence[Step]) -> list[InputError]:
    """What the recipe names and is not there, each once."""
    errors = [*base.missing, *(error for step in steps for error in step.plan.missing)]
    return list({str(error): error for error in errors}.values())


def _memory_table(name: str, row: "TrainingSize | Forecast") -> Table:
    table = Table(
        title=f"{name}: peak memory of a step, batch {row.batch}, GiB",
        title_justify="left",
        caption=(
            "from shapes alone; a card's context comes on top, a processor's heap can double it"
        ),
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    table.add_column("gradient_checkpointing", no_wrap=True)
    for side in row.memory:
        table.add_column(f"{side} px", justify="right", no_wrap=True)
    for i, title in enumerate(("false", "true")):
        table.add_row(title, *(f"{peaks[i] / 2**30:.1f}" for peaks in row.memory.values()))
    return table


def plan_as_dict(
    recipe: Recipe,
    steps: Sequence[Step],
    base: "BaseFacts",
    forecasts: "Mapping[str, TrainingSize | Forecast]",
) -> dict[str, object]:
    """The same plan as JSON values; sizes in bytes."""
    rows: list[dict[str, object]] = [
        {
            "stage": s.name,
            "do": s.verb,
            "counts": dict(s.plan.counts),
            "exposures": dict(s.plan.exposures),
            "steps": s.plan.steps,
            "pictures": s.plan.pictures,
            "seconds": s.seconds,
            "notes": list(s.plan.notes),
        }
        for s in steps
    ]
    for step, row in zip(steps, rows, strict=True):
        if forecast := forecasts.get(step.name):
            memory = {
                str(side): {"keep_activations": kept, "gradient_checkpointing": twice}
                for side, (kept, twice) in forecast.memory.items()
            }
            row["training"] = {
                "layers": forecast.layers,
                "parameters": forecast.parameters,
                "file_bytes": forecast.file_bytes,
                "batch": forecast.batch,
                "peak_bytes": memory,
            }
    missing = [
        {"field": error.field, "value": str(error.value), "remedy": error.remedy}
        for error in missing_of(base, steps)
    ]
    return {"recipe": recipe.name, "base": recipe.base_name, "stages": rows, "missing": missing}


def clock(seconds: float | None) -> str:
    """ "45 s", "3 min 05 s"."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
