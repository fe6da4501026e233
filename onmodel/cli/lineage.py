"""`onmodel lineage`: the history of a release folder or a LoRA file, on the terminal, drawn, or
exported."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json


class Format(StrEnum):
    """What a history can be exported as."""

    IN_TOTO = "in-toto"
    CYCLONEDX = "cyclonedx"


def command(
    path: Annotated[
        Path, typer.Argument(help="A release folder, or one .safetensors.", show_default=False)
    ],
    svg: Annotated[Path | None, typer.Option(help="Write the drawing as an SVG file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that needs no network.")] = None,
    export: Annotated[
        tuple[Format, Path] | None,
        typer.Option(
            help="Write an in-toto Statement or a CycloneDX 1.6 ML-BOM.",
            metavar="[in-toto|cyclonedx] FILE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every node as JSON.")] = False,
) -> None:
    """Show what a LoRA was made from: every picture count, training and merge, with its
    settings."""
    from onmodel.hashing import canonical_json, write_atomic
    from onmodel.ledger.lineage import facts_of_others, ordered
    from onmodel.release.provenance import counts, read_provenance

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
            made = (
                provenance.statement().to_bytes()
                if is_statement
                else canonical_json(cyclonedx(provenance))
            )
            written[export[1]] = made
        counted = counts(provenance.lineage)
    for file, data in written.items():
        write_atomic(file, data)
    if as_json:
        nodes = {id: provenance.lineage[id] for id in ordered(provenance.lineage)}
        shown = {
            "name": provenance.name,
            "newest": provenance.newest,
            "counts": counted,
            "files": dict(provenance.files),
            "nodes": nodes,
        }
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
