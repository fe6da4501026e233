"""The command line as a whole: names, options, help, pipes, and that it stays thin."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from onmodel.cli import main
from onmodel.cli.console import PlainConsole
from onmodel.cli.options import expand
from onmodel.command_settings import CommandSettings, option
from onmodel.errors import InputError
from tests.support.command_line import fresh, onmodel

PACKAGE = Path(main.__file__).parents[1]


def commands(app: typer.Typer, path: str = "onmodel") -> Iterator[tuple[str, object]]:
    for row in app.registered_commands:
        yield f"{path} {row.name}", row.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{path} {group.name}")


COMMANDS = dict(commands(main.app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_on_one_line(name: str) -> None:
    first = (inspect.getdoc(COMMANDS[name]) or "").partition("\n\n")[0]
    assert first.endswith(".") and len(first.splitlines()) <= 3, first


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_means_one_thing_everywhere(name: str) -> None:
    """`-o` writes, `--project` is a project folder, `--base` a base, `--json` JSON."""
    words = {"--out": "write|folder of|page", "--project": "project folder", "--base": "base"}
    for parameter in inspect.signature(COMMANDS[name]).parameters.values():  # type: ignore[arg-type]
        for row in getattr(parameter.annotation, "__metadata__", ()):
            for flag in getattr(row, "param_decls", None) or ():
                if flag == "--out":
                    assert "-o" in row.param_decls, name
                wanted = words.get(flag, "").split("|")
                assert any(word in row.help.lower() for word in wanted), (name, flag, row.help)


@pytest.mark.parametrize("old", main.RENAMED)
def test_an_old_command_names_the_new_one(old: str) -> None:
    result = CliRunner().invoke(main.app, [old, "x"])
    assert isinstance(result.exception, InputError) and "is now `onmodel " in str(result.exception)
    first = main.RENAMED[old].split()[0]
    assert first in {row.name for row in main.app.registered_commands} | {
        row.name for row in main.app.registered_groups
    }


@pytest.mark.parametrize(
    "folder", ["cli", "curate/actions.py", "curate/filling.py", "lora/commands.py"]
)
def test_no_function_takes_more_than_eight_parameters(folder: str) -> None:
    place = PACKAGE / folder
    for path in [place] if place.is_file() else sorted(place.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                count = len(node.args.args) + len(node.args.kwonlyargs)
                assert count <= 8, f"{path.name}: {node.name}"


def test_help_takes_few_times_what_its_framework_takes() -> None:
    resource = pytest.importorskip("resource")  # Windows has none

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(after.ru_utime - before.ru_utime)

    ours, typer = (
        min(seconds(*words) for _ in range(3))
        for words in (("-m", "onmodel", "--help"), ("-c", "import typer"))
    )
    assert ours < 5 * typer


def test_help_loads_no_pydantic_and_no_numpy() -> None:
    """Both would cost more than all else together."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "onmodel", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded and not {"pydantic", "numpy", "PIL", "torch"} & loaded


@dataclass(frozen=True, kw_only=True)
class Knobs(CommandSettings):
    """Settings of a command of its own."""

    count: int = option("How many.", least=1, short="-n")
    name: tuple[str, ...] = option("A name. May be repeated.", ())
    share: float | None = option("A share.", None, least=0, most=1)


def test_a_settings_class_becomes_options_and_is_checked() -> None:
    seen = []
    app = typer.Typer()

    @app.command()
    @expand
    def command(place: Path, knobs: Knobs, loud: bool = False) -> None:
        seen.append((place, knobs, loud))

    run = CliRunner()
    assert run.invoke(app, ["x", "-n", "2", "--name", "a", "--name", "b"]).exit_code == 0
    assert seen == [(Path("x"), Knobs(count=2, name=("a", "b")), False)]
    assert "How many." in run.invoke(app, ["--help"]).stdout
    for words, said in (
        (["-n", "0"], "--count: 0 — must be at least 1"),
        (["-n", "1", "--share", "nan"], "--share: nan — must be a finite number"),
        (["-n", "1", "--share", "2"], "--share: 2.0 — must be at most 1"),
    ):
        assert str(run.invoke(app, ["x", *words]).exception) == said
    with pytest.raises(InputError, match="at least 1"):
        Knobs(count=0)


def test_a_table_in_a_pipe_is_not_cut_to_80_columns() -> None:
    code = (
        "from rich.table import Table; from onmodel.cli.console import PlainConsole;"
        "t = Table('a', box=None); t.add_row('x' * 300 + 'END'); PlainConsole().print(t)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "x" * 300 + "END" in done.stdout


def test_quiet_prints_results_and_errors_only(tmp_path: Path) -> None:
    recipe = str(PACKAGE.parent / "tests" / "tiny_recipe.toml")
    loud = onmodel("run", recipe, "--dry-run", "--json")
    quiet = onmodel("--quiet", "run", recipe, "--dry-run", "--json")
    assert loud.returncode == quiet.returncode == 0 and loud.stdout == quiet.stdout
    assert loud.stderr and not quiet.stderr
    wrong = onmodel("--quiet", "run", str(tmp_path / "gone.toml"))
    assert wrong.returncode == 2 and wrong.stderr.startswith("onmodel: ")


def test_a_shell_can_complete_commands() -> None:
    asked = {"COMP_WORDS": "onmodel dataset f", "COMP_CWORD": "2"}
    done = fresh(_ONMODEL_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == ["fix"], done.stderr


def test_a_console_keeps_a_width_that_it_is_given() -> None:
    assert PlainConsole(width=33).width == 33
