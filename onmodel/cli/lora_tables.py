"""Reports of `onmodel lora` as lines and tables."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from onmodel.cli.console import say_json
from onmodel.text import shown

if TYPE_CHECKING:
    from onmodel.lora.commands import Report

Lines = Callable[["Report"], Iterator[Any]]


def show(found: "Report", as_json: bool, lines: Lines) -> None:
    """Print a report as JSON, or as `lines` gives it: texts, and tables as lists of rows."""
    if as_json:
        say_json(found)
        return
    from rich.table import Table

    from onmodel.cli.console import PlainConsole

    console = PlainConsole()
    for line in lines(found):
        if isinstance(line, str):
            console.print(
                shown(line, 1_000), markup=False, soft_wrap=True
            )  # it may quote a stranger's header
            continue
        head, *rows = line
        table = Table(*map(_cell, head), box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*map(_cell, row))
        console.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return escape(shown(value)) if isinstance(value, str) else f"{value:.4g}"


def plan_lines(found: "Report") -> Iterator[Any]:
    yield f"{found['method']} ({found['paper']}), {found['layers']} layers"
    yield from _model_tables(found)
    if found["energy"]:
        yield ""
        yield [("rank", "energy kept", "MB")] + [
            (str(row["rank"]), _percent(row["energy_kept"]), f"{row['bytes'] / 1e6:.1f}")
            for row in found["energy"]
        ]
        yield ""
    yield _result(found)
    yield from (f"warning: {line}" for line in found["warnings"])
    yield from (f"warning: {lost(name, row)}" for name, row in found["factored"].items())


def run_lines(found: "Report") -> Iterator[Any]:
    yield f"{found['file']}: {found['method']}"
    yield from _model_tables(found)
    yield _result(found)
    yield from (lost(name, row) for name, row in found["factored"].items())


def _result(found: "Report") -> str:
    ranks = (
        f"{min(found['ranks'].values())} to {found['rank']}" if "ranks" in found else found["rank"]
    )
    if found["energy_kept"] is None:
        kept = "energy unknown before it is run"
    elif found["exact"]:
        kept = f"the exact sum, strength {found['strength']:.4g}"
    else:
        kept = f"{_percent(found['energy_kept'])} of the energy, strength {found['strength']:.4g}"
    return f"rank {ranks}, alpha {found['alpha']:g}, {kept}, {found['bytes'] / 1e6:.1f} MB"


def _model_tables(found: "Report") -> Iterator[Any]:
    names = [row["name"] for row in found["models"]]
    close = found["cosines"] or [[None] * len(names)] * len(names)
    table = [("model", "weight", "strength", *(f"cos {i + 1}" for i in range(len(names))))]
    for row, line in zip(found["models"], close, strict=True):
        strength = "–" if row["strength"] is None else row["strength"]
        cosines = ("–" if value is None else f"{value:.3f}" for value in line)
        table.append((row["name"], row["weight"], strength, *cosines))
    yield table


def extract_lines(found: "Report") -> Iterator[Any]:
    yield (
        f"{found['file']}: rank {found['rank']}, {found['layers']} layers,"
        f" {found['bytes'] / 1e6:.1f} MB"
    )
    yield lost("the difference", found)
    beyond = found["beyond_a_lora"]
    if beyond:
        share = _percent(sum(beyond.values()))
        yield (
            f"no LoRA can hold {len(beyond)} changed tensors, {share} of it, e.g."
            f" {next(iter(beyond))}"
        )


def into_lines(found: "Report") -> Iterator[Any]:
    kinds = ", ".join(found["dtypes"])
    yield (
        f"{found['file']}: {found['layers']} layers changed, strength {found['strength']:.4g},"
        f" {kinds}"
    )
    yield (
        f"rounding loses {_percent(found['rounding_loss'])} of the change; "
        f"{_percent(found['unchanged_entries'])} of its entries were too small to be stored at all"
    )


def diff_lines(found: "Report") -> Iterator[Any]:
    one, other = found["models"]
    yield f"cosine {found['cosine']:.4f}, distance {found['difference']:.4g} of the mean strength"
    head = (f"strength {one}", f"strength {other}", "cosine", "distance")
    for name, rows in (("block", found["blocks"]), ("type", found["types"])):
        yield ""
        yield [(name, *head)] + [
            (key, *row["strengths"], f"{row['cosine']:.3f}", row["difference"])
            for key, row in rows.items()
        ]
    yield ""
    yield (
        f"ranks {found['ranks'][0]} and {found['ranks'][1]}, alphas {found['alphas'][0]} and"
        f" {found['alphas'][1]}"
    )
    for name, layers in found["only_in"].items():
        if layers:
            yield f"only in {name}: {len(layers)} layers, e.g. {layers[0]}"
    for key, (mine, theirs) in found["words"].items():
        yield f"{key}: {mine or '–'} | {theirs or '–'}"


def remap_lines(found: "Report") -> Iterator[Any]:
    before, after = found["layers"]
    blocks = found["blocks"]
    yield f"{found['file']}: {before} layers → {after}, {found['bytes'] / 1e6:.1f} MB"
    yield "source blocks: " + " ".join(str(row["source"]) for row in blocks)
    least = min(blocks, key=lambda row: row["cosine"])
    yield f"least sure: block {least['block']}, cosine {least['cosine']:.3f}"
    yield (
        f"{len(found['copied'])} blocks are second copies and get the whole change too. This is not"
        " the same model, and nothing was measured: compare it with onmodel evaluate"
    )


def lost(name: str, row: "Report") -> str:
    return (
        f"{name}: factored to rank {row['rank']}, {_percent(1 - row['energy_kept'])} of its energy"
        " is lost"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share > 0.001 or share == 0 else f"{100 * share:.2g} %"
