"""`onmodel verify`: walk every hash of a release folder or a LoRA file, and check proofs of single
pictures."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say


def command(
    path: Annotated[Path, typer.Argument(help="A release folder, or one .safetensors.")],
    proof: Annotated[
        Path | None, typer.Option(help="A proof of one picture, from onmodel prove.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="The picture that the proof must be about.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that must have signed the release folder.")
    ] = None,
) -> None:
    """Check every hash of a release; names the first thing that does not match."""
    from onmodel.errors import InputError
    from onmodel.release.signature import check_signature
    from onmodel.release.verify import verify

    for given, file in (("proof", proof), ("picture", picture)):
        if file and not file.is_file():
            raise InputError(given, file, "no such file")
    if picture and not proof:
        raise InputError("picture", picture, "needs --proof, the file that onmodel prove wrote")
    for line in verify(path):
        say(line)
    if key:
        say(check_signature(path, key))
    if proof:
        from onmodel.engine.proof import check_proof
        from onmodel.release.provenance import read_provenance

        for line in check_proof(proof, read_provenance(path).lineage, picture):
            say(line)
