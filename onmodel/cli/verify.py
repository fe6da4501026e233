"""`onmodel verify`: walk every hash of a release folder or a LoRA file."""

from pathlib import Path
from typing import Annotated

import typer


def command(path: Annotated[Path, typer.Argument(help="A release folder, or one .safetensors.")]) -> None:
    """Check every hash of a release; names the first thing that does not match."""
    from onmodel.release.verify import verify

    for line in verify(path):
        print(line)
