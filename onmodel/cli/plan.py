"""The plan of a recipe as a table: what each stage will train and generate, and its time, before it
runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
    from onmodel.engine.memory import Forecast, Machine, StageMemory
    from onmodel.families.protocol import BaseFacts

GIB = 2**30


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


def print_forecast(forecast: "Forecast", steps: Sequence[Step], console: Console) -> None:
    """Print the base's size, what each training trains, the memory of each stage, and what is
    missing."""
    base = forecast.base
    backbone = base.spec.backbone
    sizes = f"{base.parameters[backbone] / 1e6:,.0f} M parameters in {base.spec.blocks} blocks"
    origin = "" if backbone in base.found else ", as published; the file is not there yet"
    console.print(f"base: {backbone} of {sizes}{origin}", highlight=False, soft_wrap=True)
    for name, row in forecast.trained.items():
        console.print(
            f"{name}: trains {row.parameters / 1e6:.1f} M parameters in {row.layers} of"
            f" {row.all_layers} layers; a checkpoint is"
            f" {row.file_bytes / 2**20:.0f} MiB",
            highlight=False,
            soft_wrap=True,
        )
    warnings = [f"not there: {what}" for what in missing_of(base, steps)]
    if forecast.machine:
        console.print(_memory_table(forecast.machine, forecast.memory))
    for name, stage in forecast.memory.items():
        if stage.modes:
            console.print(f"{name}: {stage.modes}", highlight=False, soft_wrap=True)
        if forecast.machine and (remedy := forecast.remedy(stage)):
            free = f"{forecast.machine.room / GIB:.1f} GiB are free"
            warnings.append(f"{name}: takes {stage.peak.bytes / GIB:.1f} GiB, {free} — {remedy}")
    for line in warnings:
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


def missing_of(base: "BaseFacts", steps: Sequence[Step]) -> list[InputError]:
    """What the recipe names and is not there, each once."""
    errors = [*base.missing, *(error for step in steps for error in step.plan.missing)]
    return list({str(error): error for error in errors}.values())


def _memory_table(machine: "Machine", memory: "Mapping[str, StageMemory]") -> Table:
    where = {"cpu": "the processor"}.get(machine.device, "the card")
    dtype = str(machine.dtype).removeprefix("torch.")
    table = Table(
        title=f"peak memory on {where} in {dtype}, GiB; {machine.room / GIB:.1f} are free",
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    for column in ("stage", "peak", "during", "most of it"):
        table.add_column(column, justify="right" if column == "peak" else "left", no_wrap=True)
    for name, stage in memory.items():
        peak = stage.peak
        most = f"{peak.largest} {peak.parts[peak.largest] / GIB:.1f}"
        table.add_row(name, f"{peak.bytes / GIB:.1f}", peak.name, most)
    return table


def plan_as_dict(recipe: Recipe, steps: Sequence[Step], forecast: "Forecast") -> dict[str, object]:
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
        if trained := forecast.trained.get(step.name):
            row["training"] = asdict(trained)
        if stage := forecast.memory.get(step.name):
            row["memory"] = {
                "bytes": stage.peak.bytes,
                "phase": stage.peak.name,
                "modes": stage.modes,
                "phases": {phase.name: dict(phase.parts) for phase in stage.phases},
            }
    missing = [
        {"field": error.field, "value": str(error.value), "remedy": error.remedy}
        for error in missing_of(forecast.base, steps)
    ]
    return {"recipe": recipe.name, "base": recipe.base_name, "stages": rows, "missing": missing}


def clock(seconds: float | None) -> str:
    """ "45 s", "3 min 05 s"."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
