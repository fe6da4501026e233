"""`onmodel release …`: build, check, sign, publish and verify a release."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.checks import check_command
from onmodel.cli.console import say, say_json
from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE, YES, made_project
from onmodel.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build, check, sign, publish and verify a release.",
)
app.command("check")(check_command)
FOLDER = Annotated[Path, typer.Argument(help="A release folder.", show_default=False)]
RELEASE = Annotated[
    Path, typer.Argument(help="A release folder or a .safetensors file.", show_default=False)
]


class Format(StrEnum):
    """What a history can be exported as."""

    IN_TOTO = "in-toto"
    CYCLONEDX = "cyclonedx"


@app.command("build")
def build_command(
    recipe: RECIPE,
    stage: Annotated[
        str | None,
        typer.Option(help="Name of the release stage. Default: the recipe's only one."),
    ] = None,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Run a recipe's release stage and the stages it needs."""
    from onmodel.cli.run import Output, execute
    from onmodel.recipe import load_recipe

    stages = load_recipe(recipe).stages
    names = [name for name, table in stages.items() if table["do"] == "release"]
    if stage is None and len(names) == 1:
        (stage,) = names
    if stage not in names:
        remedy = f"name a release stage of the recipe: {', '.join(names) or 'it has none'}"
        raise InputError("--stage", stage or "none given", remedy)
    execute(recipe, project, stage, Output(dry_run, as_json))


@app.command("sign")
def sign_command(
    folder: FOLDER,
    key: Annotated[
        Path,
        typer.Option("--key", help="Private EC key (PEM); see docs/verifying.md."),
    ],
) -> None:
    """Verify a release folder, then sign it with OpenSSF model-signing (model.sig)."""
    from onmodel.release.signature import sign

    say(sign(folder, key))


@app.command("push")
def push_command(
    folder: FOLDER,
    repository: Annotated[
        str, typer.Argument(help="Hub repository, your-name/your-lora.", show_default=False)
    ],
    yes: YES = False,
    private: Annotated[
        bool, typer.Option("--private", help="Create a new repository as private.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Check a release and list its files. With --yes, upload it to the Hugging Face hub."""
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
            f"{' (private)' if private else ''}, created if it is missing"
        )
        for line in plan.warnings:
            say(line)
    if yes:
        url, beside = push(folder, plan, private, f"Release {folder.name}")
        result |= {"url": url, "beside": beside}
        if not as_json:
            say(f"pushed: {url}")
            for name in beside:
                say(f"other file in the repository, left as it is: {name}")
    elif not as_json:
        say("nothing was uploaded; add --yes")
    if as_json:
        say_json(result)


@app.command("verify")
def verify_command(
    path: RELEASE,
    proof: Annotated[
        Path | None, typer.Option(help="Proof of one picture (`onmodel release prove`).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture that the proof is about.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that must have signed the release.")
    ] = None,
) -> None:
    """Check every hash of a release. The first mismatch is named."""
    from onmodel.release.signature import check_signature
    from onmodel.release.verify import verify

    for given, file in (("--proof", proof), ("--picture", picture)):
        if file and not file.is_file():
            raise InputError(given, file, "no such file")
    if picture and not proof:
        raise InputError("--picture", picture, "needs --proof, written by `onmodel release prove`")
    for line in verify(path):
        say(line)
    if key:
        say(check_signature(path, key))
    if proof:
        from onmodel.engine.proof import check_proof
        from onmodel.release.provenance import read_provenance

        for line in check_proof(proof, read_provenance(path).lineage, picture):
            say(line)


@app.command("lineage")
def lineage_command(
    path: RELEASE,
    svg: Annotated[Path | None, typer.Option(help="Write the drawing as an SVG file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    export: Annotated[
        tuple[Format, Path] | None,
        typer.Option(
            help="Write an in-toto Statement or a CycloneDX 1.6 ML-BOM.",
            metavar="[in-toto|cyclonedx] FILE",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show what a LoRA was made from: data sets, trainings and merges with their settings."""
    from onmodel.hashing import canonical_json, write_atomic
    from onmodel.ledger.lineage import facts_of_others
    from onmodel.release.provenance import as_dict, read_provenance

    provenance = read_provenance(path)
    written: dict[Path, bytes] = {}
    with facts_of_others(f"the history of {provenance.name}"):
        if svg or html:
            from onmodel.report.lineage_page import lineage_page, lineage_picture

            if svg:
                written[svg] = lineage_picture(provenance).encode()
            if html:
                written[html] = lineage_page(provenance).encode()
        if export:
            from onmodel.release.cyclonedx import cyclonedx

            is_statement = export[0] is Format.IN_TOTO
            written[export[1]] = (
                provenance.statement().to_bytes()
                if is_statement
                else canonical_json(cyclonedx(provenance))
            )
        shown = as_dict(provenance)
    for file, data in written.items():
        write_atomic(file, data)
    if as_json:
        say_json(shown)
    elif written:
        for file in written:
            say(file)
    else:
        from onmodel.cli.console import PlainConsole
        from onmodel.cli.tables import print_history
        from onmodel.report.lineage_tree import history_of

        with facts_of_others(f"the history of {provenance.name}"):
            print_history(history_of(provenance), PlainConsole())


@app.command("prove")
def prove_command(
    picture: Annotated[
        Path,
        typer.Argument(help="The picture, as it was given to the recipe.", show_default=False),
    ],
    release: RELEASE,
    project: Annotated[
        Path,
        typer.Option("--project", help="Project folder that made the release.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "proof.json"
    ),
) -> None:
    """Prove that one picture was trained on or held out, without showing any other."""
    from onmodel.engine.proof import check_proof, prove
    from onmodel.hashing import write_json
    from onmodel.release.provenance import read_provenance

    maker = made_project(project)
    lineage = read_provenance(release).lineage
    write_json(out, prove(picture, lineage, maker))
    for line in check_proof(out, lineage, picture):
        say(line)
    say(out)


@app.command("rebuild")
def rebuild_command(
    release: FOLDER,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project",
            help="Project folder that made the release: it has the private pictures.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New project folder. Default: rebuild-<release>."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Run a release's recipe again in a new folder and compare. Exit code 1 if a stage differs."""
    from onmodel.cli.render import on_terminal
    from onmodel.engine.project import Project
    from onmodel.engine.rebuild import rebuild
    from onmodel.errors import VerifyError
    from onmodel.paths import check_name, inside
    from onmodel.release.provenance import read_provenance

    maker = made_project(project) if project else None
    provenance = read_provenance(release)
    fresh = out or inside(Path(), check_name(f"rebuild-{provenance.name}", "--out", 255), "--out")
    if project and fresh.resolve() == project.resolve():
        raise InputError("--out", fresh, "is the project that made the release; name a new folder")
    with on_terminal() as events:
        found = rebuild(provenance, lambda: Project(fresh), maker, events)
    if as_json:
        say_json(asdict(found))
    else:
        for line in found.ground:
            say(f"differs from the original environment: {line}")
        for stage, verdict in found.same.items():
            say(f"{stage}: {verdict}")
        for stage, why in found.left_out.items():
            say(f"{stage}: not rebuilt, {why}")
    if found.differs:
        raise VerifyError(*found.differs)
