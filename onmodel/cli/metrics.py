"""`onmodel metrics`: the axes, and how they are validated."""

from typing import Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import JSON

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the metrics, and validate them.",
)


@app.command("list")
def show() -> None:
    """List every axis with its unit, ideal value, observers and version."""
    from onmodel.evaluate.axes import AXES

    for axis, _ in AXES.values():
        needs = ", ".join(axis.observers) or "pixels alone"
        say(
            f"{axis.id:15} v{axis.version}  {axis.title} ({axis.unit}; ideal: {axis.direction};"
            f" from {needs})"
        )


@app.command()
def selftest(
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of the drawn pictures. May be repeated.")
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            help="Measure how often each axis calls equal models different. Takes about 2 minutes.",
        ),
    ] = False,
    pairs: Annotated[int, typer.Option(min=200, help="Pairs of equal models for --null.")] = 400,
    as_json: JSON = False,
) -> None:
    """Plant faults of known size in drawn pictures and print the response of every axis. Takes
    about 40 s per seed."""
    from onmodel.cli.render import on_terminal
    from onmodel.evaluate.observers import load_observers

    if null:
        _null(pairs, (seed or [0])[0], as_json)
        return
    from onmodel.evaluate.selftest.check import selftest as check
    from onmodel.evaluate.selftest.page import table

    with on_terminal() as events:
        observers = load_observers("toon", {}, threads=1)
        rows = {number: check(observers, number, events) for number in seed or [0]}
    if as_json:
        tables = {}
        for number, found in rows.items():
            tables[number] = [row.as_dict() for row in found]
        say_json(tables)
    else:
        print("\n\n".join(table(number, found) for number, found in rows.items()))


def _null(pairs: int, seed: int, as_json: bool) -> None:
    from dataclasses import asdict

    from onmodel.cli.render import on_terminal
    from onmodel.evaluate.observers import load_observers
    from onmodel.evaluate.selftest.null import SUITES, level_table, null_levels

    with on_terminal() as events:
        observers = load_observers("toon", {}, threads=1)
        found = {name: null_levels(observers, name, pairs, seed, events) for name in SUITES}
    if as_json:
        say_json({name: [asdict(row) for row in rows] for name, rows in found.items()})
    else:
        print(level_table(found))
