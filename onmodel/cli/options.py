"""Options that several commands share, and the one place where a settings class becomes options."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from onmodel.command_settings import CommandSettings, meaning_of
from onmodel.errors import InputError

if TYPE_CHECKING:
    from onmodel.engine.project import Project

RECIPE = Annotated[
    Path, typer.Argument(help="A recipe, e.g. recipes/demo.toml.", show_default=False)
]
PROJECT = Annotated[
    Path | None,
    typer.Option("--project", help="Project folder. Default: a folder named after the recipe."),
]
MADE = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="A project folder.", show_default=False)
]
BASE = Annotated[
    list[str] | None,
    typer.Option(
        "--base",
        help=(
            'Base model: "toon", a diffusers folder, a hub id, or field=path for single files'
            " (dit=, text_encoder=, vae=, tokenizers=; comfyui= for a ComfyUI folder), repeated."
        ),
        show_default=False,
    ),
]
SHEET = Annotated[
    Path,
    typer.Option("--sheet", "-c", help="The model sheet, a .toml file.", show_default=False),
]
WORK = Annotated[
    Path,
    typer.Argument(help="Folder made by `onmodel dataset import`.", show_default=False),
]
OUT = Annotated[
    Path,
    typer.Option("--out", "-o", help="The file to write. It must not exist.", show_default=False),
]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
]
YES = Annotated[bool, typer.Option("--yes", help="Do it. Without this option nothing changes.")]


def made_project(folder: Path) -> "Project":
    """The project in a folder. Raises InputError where there is none."""
    from onmodel.engine.project import Project

    if not (folder / "onmodel.db").is_file():
        raise InputError("project", folder, "is not a project folder; it has no onmodel.db")
    return Project(folder)


def expand(function: Callable[..., None]) -> Callable[..., None]:
    """The function as a command: a parameter whose type is a CommandSettings class becomes one
    option per field.

    The command calls the function with the finished settings object, so a wrong value is an
    InputError before the function starts.
    """
    signature = inspect.signature(function)
    classes = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type)
        and issubclass(parameter.annotation, CommandSettings)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters(classes[name]) if name in classes else [parameter]

    @wraps(function)
    def command(**given: Any) -> None:
        for name, kind in classes.items():
            own = {row.name: given.pop(row.name) for row in fields(kind)}
            given[name] = kind(
                **{key: tuple(v) if isinstance(v, list) else v for key, v in own.items()}
            )
        function(**given)

    order = sorted(parameters, key=lambda row: row.default is not inspect.Parameter.empty)
    named = [row.replace(kind=inspect.Parameter.KEYWORD_ONLY) for row in order]
    command.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    command.__annotations__ = {row.name: row.annotation for row in named}
    return command


def _parameters(kind: type[CommandSettings]) -> list[inspect.Parameter]:
    """One parameter per field of a settings class, as Typer reads them."""
    types_of = get_type_hints(kind)
    found = []
    for row in fields(kind):
        meaning = meaning_of(row.metadata)
        flags = [meaning.name or f"--{row.name.replace('_', '-')}", meaning.short]
        option = typer.Option(
            *filter(None, flags),
            help=meaning.help,
            envvar=meaning.environment or None,
            show_default=row.default not in (MISSING, None, "", ())
            and "Default" not in meaning.help,
        )
        default = inspect.Parameter.empty if row.default is MISSING else row.default
        found.append(
            inspect.Parameter(
                row.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=list(default) if isinstance(default, tuple) else default,
                annotation=Annotated[_listed(types_of[row.name]), option],
            )
        )
    return found


def _listed(kind: Any) -> Any:
    """`tuple[X, ...]` as `list[X]`, the form that Typer takes repeated options in."""
    if get_origin(kind) is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]
    return kind
