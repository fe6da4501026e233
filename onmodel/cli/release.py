"""`onmodel release …`: build a recipe's release, check a file or folder, convert a layout, sign,
push to the hub."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from onmodel.cli.console import PlainConsole, say, say_json
from onmodel.cli.run import JSON
from onmodel.cli.stage import command_for
from onmodel.errors import InputError


class Commands(TyperGroup):
    """Tells who types `onmodel release RECIPE`, as with the other verbs, what it is called here."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0].endswith(".toml"):
            raise InputError("release", args[0], f"write `onmodel release build {' '.join(args)}`")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build a recipe's release; check, convert, sign or push a LoRA.",
)
app.command("build", help="Run a recipe's release stage, and the stages that it needs.")(
    command_for("release")
)


@app.command("check")
def check_command(
    path: Annotated[
        Path, typer.Argument(help="A folder or a .safetensors file, your own or another's.")
    ],
    as_json: JSON = False,
) -> None:
    """Say what is wrong with a LoRA or a release, a line each; exit code 1 when there is an
    error."""
    from onmodel.cli.render import on_terminal, show
    from onmodel.release.check import check

    with on_terminal() as events, events.task(f"check {path.name}", total=1):
        found = check(path)
    errors = sum(row.status == "fail" for row in found)
    if as_json:
        say_json({"path": str(path), "errors": errors, "findings": [asdict(row) for row in found]})
    else:
        console = PlainConsole()
        for row in found:
            show(console, row)
        say(
            f"{errors} errors, {len(found) - errors} warnings"
            if found
            else f"{path}: nothing found"
        )
    if errors:
        raise typer.Exit(1)


@app.command("convert")
def convert_command(
    source: Annotated[
        Path, typer.Argument(help="A LoRA file in any known layout, or a PEFT folder.")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    to: Annotated[
        str, typer.Option("--to", help="common (ComfyUI and diffusers), kohya, or diffusers.")
    ] = "common",
) -> None:
    """Write a LoRA in another layout: the same change of every layer, its words and its history
    kept."""
    if to not in ("common", "kohya", "diffusers"):
        raise InputError("--to", to, "one of common, kohya, diffusers")
    from onmodel.lora.convert import convert

    lora, dtype = convert(source, out, to)  # type: ignore[arg-type]
    say(f"{out}: {len(lora.modules)} layers, {str(dtype).removeprefix('torch.')}, {to} layout")


@app.command("sign")
def sign_command(
    folder: Annotated[Path, typer.Argument(help="A release folder that onmodel made.")],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            help="Private EC key (PEM); docs/how-to/release-and-sign.md says how to make one.",
        ),
    ],
) -> None:
    """Sign a release with OpenSSF model-signing: verify the folder, then write model.sig into
    it."""
    from onmodel.release.signature import sign

    print(sign(folder, key))


@app.command("push")
def push_command(
    folder: Annotated[Path, typer.Argument(help="A release folder that onmodel made.")],
    repository: Annotated[str, typer.Argument(help="The hub's repository, your-name/your-lora.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Upload; without it nothing leaves this machine.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private if it is made.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Check, verify and list a release; with --yes, upload it to a Hugging Face repository."""
    from onmodel.cli.render import on_terminal
    from onmodel.release.push import plan_push, push

    with on_terminal() as events, events.task(f"check {folder.name}", total=1):
        plan = plan_push(folder, repository)
    size = sum(size for _, size in plan.files)
    result: dict[str, object] = {
        "repository": repository,
        "files": dict(plan.files),
        "bytes": size,
        "pushed": yes,
    }
    if not as_json:
        for name, bytes in plan.files:
            say(f"{bytes:>12,}  {name}")
        say(
            f"{size:>12,}  bytes in {len(plan.files)} files to model repository {repository}"
            f"{' (private)' if private else ''}, made there if it is missing"
        )
        for line in plan.warnings:
            say(line)
    if yes:
        url, beside = push(folder, plan, private, f"Release {folder.name}")
        result |= {"url": url, "beside": beside}
        if not as_json:
            say(f"pushed: {url}")
            for name in beside:
                say(f"stays there, no part of this release: {name}")
    elif not as_json:
        say("a dry run: nothing was uploaded; add --yes")
    if as_json:
        say_json(result)
