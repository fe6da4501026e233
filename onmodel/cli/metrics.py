"""`onmodel metrics`: the axes themselves, and what proves them."""

from typing import Annotated

import typer

from onmodel.cli.console import say, say_json

app = typer.Typer(
    no_args_is_help=True, help="The axes: what each measures, and whether it finds what it must."
)


@app.command("list")
def show() -> None:
    """Every axis with its unit, its ideal, the observers it needs and its version."""
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
        list[int] | None, typer.Option(help="Noise of the drawn pictures; may be repeated.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the rows as JSON on stdout.")
    ] = False,
) -> None:
    """Plant faults of known size in drawn pictures and print what every axis makes of them (about
    40 s a seed)."""
    from onmodel.cli.render import on_terminal
    from onmodel.evaluate.observers import load_observers
    from onmodel.evaluate.selftest.check import selftest as check
    from onmodel.evaluate.selftest.page import table

    with on_terminal() as events:
        observers = load_observers("toon", {}, threads=1)
        rows = {number: check(observers, number, events) for number in seed or [0]}
    if as_json:
        say_json({number: [row.as_dict() for row in found] for number, found in rows.items()})
    else:
        print("\n\n".join(table(number, found) for number, found in rows.items()))
