"""What the source files may hold."""

import ast
import re
from pathlib import Path

import pytest

from onmodel.families.registry import BASE_NAMES, FAMILIES, licence_rows

PACKAGE = Path(__file__).parent.parent / "onmodel"
# Rooms that may name a family: the families themselves, and the small world whose base is one.
ROOMS = {"families", "toon"}
MOST_PARAMETERS = 8  # of a function, without self
MOST_LINES = 500
FILES = {
    "spec",
    "load",
    "family",
    "text",
    "latents",
    "objective",
    "sampling",
    "lora_layouts",
    "memory",
    "doctor",
    "licences",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_other_room_names_a_family(family: str) -> None:
    # "animated", "animation" and "animal" are no names of the family; "vendor" has others' files.
    name = re.compile(rf"{family}(?!ted|tion|l)", re.I)
    naming = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in (".py", ".j2", ".html", ".css", ".js", ".md")
        and path.relative_to(PACKAGE).parts[0] not in ROOMS
        and "vendor" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if name.search(line)
    ]
    assert naming == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_a_folder_of_the_same_files(family: str) -> None:
    folder = PACKAGE / "families" / family
    assert {path.stem for path in folder.glob("*.py")} >= FILES


def test_every_base_that_a_recipe_can_name_has_a_licence() -> None:
    several = {"sdxl"}  # its models have licences of their own, and a release names the model
    assert set(licence_rows()) >= BASE_NAMES - several


def test_nothing_below_cli_prints_or_imports_rich() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "cli" in path.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            if prints or any(name.partition(".")[0] == "rich" for name in imported(node)):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    assert wrong == []


def test_functions_have_few_parameters() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in given if one.arg not in ("self", "cls")]) > MOST_PARAMETERS:
                    wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.name}")
    assert wrong == []


def test_files_are_short() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert not long


def test_formatting_is_never_switched_off() -> None:
    mark = "# fmt" + ":"
    root = PACKAGE.parent
    files = [
        p for folder in ("onmodel", "tests", "benchmarks") for p in root.glob(f"{folder}/**/*.py")
    ]
    assert [str(path) for path in files if mark in path.read_text(encoding="utf-8")] == []


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_no_test_module_is_imported() -> None:
    tests = Path(__file__).parent
    modules = {path.stem for path in tests.rglob("test_*.py")}
    wrong = []
    for path in sorted(tests.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = list(imported(node))
            if isinstance(node, ast.ImportFrom):
                names += [alias.name for alias in node.names]
            if any(part in modules for name in names for part in name.split(".")):
                wrong.append(f"{path.relative_to(tests)}:{node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    assert wrong == []


def test_class_names_are_used_once() -> None:
    """`Settings` is each verb's and family's own; names with an underscore stay in their file."""
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name != "Settings" and node.name[0] != "_":
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
