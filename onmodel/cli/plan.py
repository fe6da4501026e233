"""The plan of a recipe as a table: what each stage will train, generate and take, before anything is spent."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from onmodel.pipeline import Step
from onmodel.recipe import Recipe


def print_plan(recipe: Recipe, steps: Sequence[Step], console: Console) -> None:
    """Print stages with exposures per picture, training steps, pictures to generate and estimated time."""
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
        table.add_row(
            step.name, step.verb, "\n".join(shown), str(plan.steps or ""), str(plan.pictures or ""), clock(step.seconds)
        )
    console.print(table)
    for step in steps:
        for note in step.plan.notes:
            console.print(f"{step.name}: {note}", style="yellow", highlight=False, markup=False)
    seconds = [step.seconds for step in steps if step.seconds is not None]
    if len(seconds) == len(steps):
        console.print(f"about {clock(sum(seconds))} when nothing is done yet", highlight=False)
    else:
        console.print("time: unknown until this base was measured on this machine", highlight=False)


def plan_as_dict(recipe: Recipe, steps: Sequence[Step]) -> dict[str, Any]:
    """The same plan as JSON values."""
    rows = [
        {"stage": s.name, "do": s.verb, "counts": dict(s.plan.counts), "exposures": dict(s.plan.exposures),
         "steps": s.plan.steps, "pictures": s.plan.pictures, "seconds": s.seconds, "notes": list(s.plan.notes)}
        for s in steps
    ]  # fmt: skip
    return {"recipe": recipe.name, "base": recipe.base_name, "stages": rows}


def clock(seconds: float | None) -> str:
    """ "45 s", "3 min 05 s"."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
