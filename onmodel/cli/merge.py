"""`onmodel merge …`: LoRA files in, a LoRA file out; plan, run, extract, resize, diff, into. No
recipe is needed.

A recipe's own merge stage is `onmodel merge stage RECIPE`.
"""

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from onmodel.cli.console import say_json
from onmodel.cli.numbers import finite
from onmodel.cli.stage import command_for
from onmodel.errors import InputError
from onmodel.text import shown

if TYPE_CHECKING:
    from onmodel.events import Events
    from onmodel.lora.merge_files import MergeJob


class _Commands(TyperGroup):
    """Tells who types `onmodel merge RECIPE`, as with other verbs, where the recipe's stage is."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise InputError(
                "merge",
                args[0],
                f"is none of {known}; a recipe's stage is `onmodel merge stage RECIPE`",
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Merge LoRA files: look first, then write.",
)

FILES = Annotated[
    list[Path],
    typer.Argument(
        help="LoRA files, PEFT folders, or (with --base) full checkpoints.", show_default=False
    ),
]
OUT = Annotated[
    Path,
    typer.Option("--out", "-o", help="The file to write; it must not exist.", show_default=False),
]
WEIGHTS = Annotated[
    str,
    typer.Option(
        help="One per file, in their order: 0.6,0.4 or by name: a=0.6,b=-0.2. Without: the mean."
    ),
]
METHOD = Annotated[
    str, typer.Option(help="weighted, uniform, ema, lcsc, block_weighted, slerp, ties or dare.")
]
BLOCKS = Annotated[
    list[str] | None,
    typer.Option(
        "--block", help="A factor on the weights: 0-9=0.5, mlp=0, or for one file only: name:mlp=0."
    ),
]
DECAY = Annotated[
    float | None,
    typer.Option(
        callback=finite, help="ema: the weight of a file relative to the next. Default 0.8."
    ),
]
DENSITY = Annotated[
    float | None,
    typer.Option(
        callback=finite, help="ties and dare: the share of entries that stay. Default 0.5."
    ),
]
RANK = Annotated[
    int | None,
    typer.Option(help="Rank of every layer. Without rank, energy and size: the exact sum."),
]
ENERGY = Annotated[
    float | None,
    typer.Option(callback=finite, help="Smallest file that keeps this share of energy, e.g. 0.95."),
]
SIZE = Annotated[str, typer.Option(help="Best file no larger than this, e.g. 90MB.")]
ALPHA = Annotated[
    str,
    typer.Option(
        help="Alpha of the result, for further training; never changes the result itself."
    ),
]
LAYOUT = Annotated[str, typer.Option(help="Key layout: common (ComfyUI and diffusers) or kohya.")]
DTYPE = Annotated[str, typer.Option(help="float32 (before further training), bfloat16 or float16.")]
BASE = Annotated[
    Path | None,
    typer.Option(help="The base's transformer file, where a full checkpoint takes part."),
]
CHECKPOINT_RANK = Annotated[
    int, typer.Option(help="Rank to which a full checkpoint's difference is factored.")
]
TITLE = Annotated[str, typer.Option(help="The title in the header; without it the file's name.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

_TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@app.command("plan")
def plan_command(
    files: FILES,
    weights: WEIGHTS = "",
    method: METHOD = "",
    block: BLOCKS = None,
    decay: DECAY = None,
    density: DENSITY = None,
    rank: RANK = None,
    energy: ENERGY = None,
    size: SIZE = "",
    alpha: ALPHA = "from-parent",
    layout: LAYOUT = "common",
    dtype: DTYPE = "float32",
    base: BASE = None,
    checkpoint_rank: CHECKPOINT_RANK = 64,
    as_json: JSON = False,
) -> None:
    """Say what a merge would give: cosines, energy against rank, size, strength, alpha, warnings.
    Writes nothing."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.merge_files import facts_of
    from onmodel.lora.merge_plan import plan

    with (
        on_terminal() as events,
        _job(
            files,
            weights,
            method,
            block,
            decay,
            density,
            rank,
            energy,
            size,
            alpha,
            layout,
            dtype,
            base,
            checkpoint_rank,
            events,
        ) as (job, factored),
    ):
        found = plan(job, facts_of(job.sources, job.spec, "merged"), events)
    found["warnings"] += [_lost(name, row) for name, row in factored.items()]
    _show(found, as_json, _plan_lines)


@app.command("run")
def run_command(
    files: FILES,
    out: OUT,
    weights: WEIGHTS = "",
    method: METHOD = "",
    block: BLOCKS = None,
    decay: DECAY = None,
    density: DENSITY = None,
    rank: RANK = None,
    energy: ENERGY = None,
    size: SIZE = "",
    alpha: ALPHA = "from-parent",
    layout: LAYOUT = "common",
    dtype: DTYPE = "float32",
    base: BASE = None,
    checkpoint_rank: CHECKPOINT_RANK = 64,
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """Merge files into one LoRA; the header carries the history of all of them."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.merge_files import facts_of, merge_files

    _fresh(out)
    with (
        on_terminal() as events,
        _job(
            files,
            weights,
            method,
            block,
            decay,
            density,
            rank,
            energy,
            size,
            alpha,
            layout,
            dtype,
            base,
            checkpoint_rank,
            events,
        ) as (job, factored),
    ):
        facts = facts_of(job.sources, job.spec, title or out.stem)
        _, report = merge_files(out, job, facts, events=events)
    written = {"file": str(out), "bytes": out.stat().st_size, "factored": factored}
    _show(report.as_dict() | written, as_json, _run_lines)


@app.command("resize")
def resize_command(
    file: Annotated[Path, typer.Argument(help="A LoRA file or PEFT folder.")],
    out: OUT,
    rank: RANK = None,
    energy: ENERGY = None,
    size: SIZE = "",
    alpha: ALPHA = "from-parent",
    layout: LAYOUT = "common",
    dtype: DTYPE = "float32",
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """The best LoRA of another rank, energy or size; without any of them, the same one in another
    layout or dtype."""
    run_command(
        [file],
        out,
        "1",
        "weighted",
        None,
        None,
        None,
        rank,
        energy,
        size,
        alpha,
        layout,
        dtype,
        None,
        64,
        title,
        as_json,
    )


@app.command("extract")
def extract_command(
    checkpoint: Annotated[Path, typer.Argument(help="A full fine-tune's transformer file.")],
    base: Annotated[Path, typer.Option(help="The base's transformer file that it was tuned from.")],
    out: OUT,
    rank: Annotated[int, typer.Option(help="Rank of every layer.", min=1)] = 64,
    dtype: DTYPE = "float32",
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """A fine-tune's difference to its base as a LoRA, with the energy that is lost."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.full_checkpoints import extract

    _fresh(out)
    with on_terminal() as events:
        report = extract(out, checkpoint, base, rank, title or out.stem, _type(dtype), events)
    found = {"file": str(out), "bytes": out.stat().st_size, **asdict(report)}
    _show(found, as_json, _extract_lines)


@app.command("into")
def into_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="The transformer file to add to; it is not changed.")
    ],
    loras: Annotated[list[Path], typer.Argument(help="LoRA files or PEFT folders.")],
    out: OUT,
    weights: WEIGHTS = "",
    block: BLOCKS = None,
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """A full checkpoint with LoRAs added in, in its own dtype, and what rounding lost of them."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.full_checkpoints import into, open_checkpoint
    from onmodel.lora.merge_files import open_sources
    from onmodel.lora.methods import choose

    _fresh(out)
    target, names = open_checkpoint(checkpoint, "checkpoint"), _names(loras)
    with (
        on_terminal() as events,
        target.file,
        open_sources(list(zip(names, loras, strict=True)), target.spec) as sources,
    ):
        blend = choose(names, target.spec, None, _weights(weights), blocks=_blocks(block))
        report = into(out, checkpoint, sources, blend, target, title or out.stem, events)
    found = {"file": str(out), "bytes": out.stat().st_size, **report.as_dict()}
    _show(found, as_json, _into_lines)


@app.command("diff")
def diff_command(
    one: Annotated[Path, typer.Argument()],
    other: Annotated[Path, typer.Argument()],
    as_json: JSON = False,
) -> None:
    """What differs between two LoRAs: strength, cosine and distance by block and type of layer, and
    their words."""
    from onmodel.lora.merge_files import MergeJob, open_sources
    from onmodel.lora.merge_plan import compare
    from onmodel.lora.methods import choose
    from onmodel.lora.specs import spec_of_loras

    names, spec = _names([one, other]), spec_of_loras([one, other])
    with open_sources(list(zip(names, [one, other], strict=True)), spec) as sources:
        linears = MergeJob(sources, choose(names, spec), spec).linears
        _show(compare(sources[0], sources[1], linears), as_json, _diff_lines)


app.command("stage", help="Run a recipe's merge stage, and the stages that it needs.")(
    command_for("merge")
)


@contextmanager
def _job(
    files: list[Path],
    weights: str,
    method: str,
    block: list[str] | None,
    decay: float | None,
    density: float | None,
    rank: int | None,
    energy: float | None,
    size: str,
    alpha: str,
    layout: str,
    dtype: str,
    base: Path | None,
    checkpoint_rank: int,
    events: "Events",
) -> "Iterator[tuple[MergeJob, dict[str, Any]]]":
    """The merge that the options ask for, its files open, and what was lost of the checkpoints
    among them."""
    from tempfile import TemporaryDirectory

    from onmodel.lora.full_checkpoints import extract, open_checkpoint
    from onmodel.lora.merge_files import MergeJob, MergeSize, open_sources
    from onmodel.lora.methods import choose
    from onmodel.lora.specs import is_checkpoint, spec_of_loras
    from onmodel.lora.writing import FileFormat

    limit, kind, gauge = MergeSize(rank, energy, _bytes(size)), _type(dtype), _alpha(alpha)
    if layout not in ("common", "kohya"):
        raise InputError("layout", layout, "use common or kohya")
    names, factored = _names(files), {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="onmodel-")))
        for i, (name, path) in enumerate(zip(names, files, strict=True)):
            if is_checkpoint(path):
                if base is None:
                    raise InputError(
                        "base",
                        "missing",
                        f"{path} is a full checkpoint; name the base it was tuned from",
                    )
                files = [*files[:i], folder / f"{i}.safetensors", *files[i + 1 :]]
                factored[name] = asdict(
                    extract(files[i], path, base, checkpoint_rank, name, events=events)
                )
        if base is None:
            spec = spec_of_loras(files)
        else:
            known = open_checkpoint(base, "base")
            stack.enter_context(known.file)
            spec = known.spec
        sources = stack.enter_context(open_sources(list(zip(names, files, strict=True)), spec))
        blend = choose(
            names, spec, method or None, _weights(weights), decay, density, _blocks(block)
        )
        written = FileFormat(layout, kind)  # type: ignore[arg-type]
        yield MergeJob(sources, blend, spec, limit, gauge, written), factored


def _fresh(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise InputError("out", out, "name a .safetensors file")
    if out.exists():
        raise InputError("out", out, "exists already; choose another name, or remove it first")


def _names(files: list[Path]) -> list[str]:
    """The files' names without ending; numbered where two are the same. No folder of the machine
    gets into a header."""
    names: list[str] = []
    for path in files:
        stem = path.name.removesuffix(".safetensors")
        count = sum(name == stem or name.startswith(f"{stem}#") for name in names)
        names.append(stem if not count else f"{stem}#{count + 1}")
    return names


def _number(field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(field, text, "is no number; write one like 0.5")
    return number


def _weights(text: str) -> list[float] | dict[str, float] | None:
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if all("=" in part for part in parts):
        return {
            part.rpartition("=")[0]: _number("weights", part.rpartition("=")[2]) for part in parts
        }
    return [_number("weights", part) for part in parts]


def _blocks(texts: list[str] | None) -> dict[str, float]:
    found = {}
    for text in texts or []:
        pattern, equals, factor = text.rpartition("=")
        if not equals:
            raise InputError("block", text, "write where=factor, e.g. 0-9=0.5 or mlp=0")
        found[pattern] = _number("block", factor)
    return found


def _bytes(text: str) -> int | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)(i?)B?", text)
    if match is None:
        raise InputError("size", text, "write e.g. 90MB, 64MiB or a number of bytes")
    return round(float(match[1]) * (1024 if match[3] else 1000) ** " kMG".index(match[2] or " "))


def _type(name: str) -> str:
    if name not in _TYPES:
        raise InputError("dtype", name, f"use {', '.join(_TYPES)}")
    return _TYPES[name]


def _alpha(text: str) -> Any:
    return text if text == "from-parent" else _number("alpha", text)


def _show(found: dict[str, Any], as_json: bool, lines: Any) -> None:
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


def _plan_lines(found: dict[str, Any]) -> Iterator[Any]:
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


def _run_lines(found: dict[str, Any]) -> Iterator[Any]:
    yield f"{found['file']}: {found['method']}"
    yield from _model_tables(found)
    yield _result(found)
    yield from (_lost(name, row) for name, row in found["factored"].items())


def _result(found: dict[str, Any]) -> str:
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


def _model_tables(found: dict[str, Any]) -> Iterator[Any]:
    names = [row["name"] for row in found["models"]]
    close = found["cosines"] or [[None] * len(names)] * len(names)
    yield [("model", "weight", "strength", *(f"cos {i + 1}" for i in range(len(names))))] + [
        (
            row["name"],
            row["weight"],
            "–" if row["strength"] is None else row["strength"],
            *("–" if value is None else f"{value:.3f}" for value in line),
        )
        for row, line in zip(found["models"], close, strict=True)
    ]


def _extract_lines(found: dict[str, Any]) -> Iterator[Any]:
    yield (
        f"{found['file']}: rank {found['rank']}, {found['layers']} layers,"
        f" {found['bytes'] / 1e6:.1f} MB"
    )
    yield _lost("the difference", found)
    beyond = found["beyond_a_lora"]
    if beyond:
        share = _percent(sum(beyond.values()))
        yield (
            f"no LoRA can hold {len(beyond)} changed tensors, {share} of it, e.g."
            f" {next(iter(beyond))}"
        )


def _into_lines(found: dict[str, Any]) -> Iterator[Any]:
    kinds = ", ".join(found["dtypes"])
    yield (
        f"{found['file']}: {found['layers']} layers changed, strength {found['strength']:.4g},"
        f" {kinds}"
    )
    yield (
        f"rounding loses {_percent(found['rounding_loss'])} of the change; "
        f"{_percent(found['unchanged_entries'])} of its entries were too small to be stored at all"
    )


def _diff_lines(found: dict[str, Any]) -> Iterator[Any]:
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


def _lost(name: str, row: dict[str, Any]) -> str:
    return (
        f"{name}: factored to rank {row['rank']}, {_percent(1 - row['energy_kept'])} of its energy"
        " is lost"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share > 0.001 or share == 0 else f"{100 * share:.2g} %"
