"""`onmodel lora …`: plain LoRA files, without a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli import lora_merge
from onmodel.cli.checks import check_command
from onmodel.cli.console import say
from onmodel.cli.lora_merge import TITLE
from onmodel.cli.lora_tables import (
    diff_lines,
    extract_lines,
    into_lines,
    remap_lines,
    run_lines,
    show,
)
from onmodel.cli.options import BASE, JSON, OUT, expand
from onmodel.errors import InputError
from onmodel.lora.settings import MergeSettings, ResultSettings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, convert, resize, compare and merge LoRA files.",
)
app.command("check")(check_command)
app.add_typer(lora_merge.app, name="merge")
LEAVE_OUT = ("text_conditioner", "text_encoder", "diff")
LORA = Annotated[Path, typer.Argument(help="A LoRA file or PEFT folder.", show_default=False)]


@app.command("convert")
def convert_command(
    source: LORA,
    out: OUT,
    to: Annotated[
        str, typer.Option("--to", help="common (ComfyUI and diffusers), kohya, or diffusers.")
    ] = "common",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Drop text_conditioner or text_encoder layers, or diff (whole weights, norms).",
        ),
    ] = None,
) -> None:
    """Write a LoRA in another key layout. The change of every layer and the header are kept."""
    if to not in ("common", "kohya", "diffusers"):
        raise InputError("--to", to, "one of common, kohya, diffusers")
    for part in leave_out or ():
        if part not in LEAVE_OUT:
            raise InputError("--leave-out", part, f"one of {', '.join(LEAVE_OUT)}")
    from onmodel.lora.convert import convert, plain_bytes

    if to == "diffusers" and (size := plain_bytes(source, leave_out or ())) is not None:
        say(
            f"diffusers has no LoHa and LoKr: a plain LoRA of up to {size / 1e6:.3g} MB is written;"
            " onmodel lora resize FILE -o OUT --rank 32 writes a small one"
        )
    report = convert(source, out, to, leave_out or ())  # type: ignore[arg-type]
    parts = ", ".join(
        f"{count} layers" + (f" of the {part.replace('_', ' ')}" if part else "")
        for part, count in report.layers.items()
    )
    say(
        f"{out}: {parts}, {report.dtype}, {to} layout,"
        f" {report.bytes_before / 1e6:.3g} MB → {report.bytes_after / 1e6:.3g} MB"
    )


@app.command("resize")
@expand
def resize_command(
    file: LORA, out: OUT, result: ResultSettings, title: TITLE = "", as_json: JSON = False
) -> None:
    """Write the best LoRA of another rank, energy or size. With none of them, only the layout or
    dtype changes."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import resize

    with on_terminal() as events:
        report = resize(file, out, result, title, events)
    show(report, as_json, run_lines)


@app.command("extract")
def extract_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="Transformer file of a full fine-tune.", show_default=False)
    ],
    out: OUT,
    base: BASE = None,
    rank: Annotated[int, typer.Option(help="Rank of every layer.", min=1)] = 64,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """Write the difference of a fine-tune to its base as a LoRA, and show the energy lost."""
    if not base:
        raise InputError("--base", "missing", "name the base's transformer: --base dit=FILE")
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import extract

    with on_terminal() as events:
        report = extract(checkpoint, base, out, rank, dtype, title, events)
    show(report, as_json, extract_lines)


@app.command("into")
def into_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="The transformer file. It is not changed.", show_default=False)
    ],
    loras: Annotated[
        list[Path], typer.Argument(help="LoRA files or PEFT folders.", show_default=False)
    ],
    out: OUT,
    weights: Annotated[
        str, typer.Option(help="One weight per file, in order or by name. Default: the mean.")
    ] = "",
    block: Annotated[
        list[str] | None, typer.Option(help="Factor on the weights of some layers, e.g. mlp=0.")
    ] = None,
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """Write a full checkpoint with LoRAs added, in its own dtype, and show the rounding loss."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import add_into

    settings = MergeSettings(weights=weights, block=tuple(block or ()))
    with on_terminal() as events:
        report = add_into(checkpoint, loras, out, settings, title, events)
    show(report, as_json, into_lines)


@app.command("remap")
def remap_command(
    file: LORA,
    out: OUT,
    smaller: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="Base of the LoRA, as --base; its blocks were copied into --base.",
            show_default=False,
        ),
    ] = None,
    base: BASE = None,
    as_json: JSON = False,
) -> None:
    """Move a LoRA to a larger relative of its base, made by inserting copies of blocks. The result
    is not the same model."""
    for option, rows in (("--from", smaller), ("--base", base)):
        if not rows:
            raise InputError(option, "missing", f"name the transformer's file: {option} FILE")
    assert smaller and base
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import remap

    with on_terminal() as events:
        report = remap(file, smaller, base, out, events)
    show(report, as_json, remap_lines)


@app.command("diff")
def diff_command(one: LORA, other: LORA, as_json: JSON = False) -> None:
    """Compare two LoRAs: strength, cosine and distance by block and layer type, and headers."""
    from onmodel.lora.commands import diff

    show(diff(one, other), as_json, diff_lines)
