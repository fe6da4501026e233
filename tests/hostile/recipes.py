"""Recipes and model sheets: names that are paths, numbers that are none, texts that never end."""

import os
from collections.abc import Callable

from tests.hostile.case import SHEET, Case, Place, run
from tests.hostile.pictures import encoded

RECIPE = """[recipe]
name = "tiny"
character = "toon:backgwa"
seed = 3
date = "2026-11-22"
threads = 1
[defaults.train]
batch = 2
[stages.data]
do = "curate"
subsets.base = [{ folder = "pictures" }]
heldout = 0.25
[stages.look]
do = "train"
dataset = "data"
data = [{ subset = "base", repeats = 2 }]
epochs = 2
keep_every = 2
rank = 2
alpha = 2
resolution = 32
learning_rate = 1e-3
[stages.measured]
do = "evaluate"
models = ["look@*"]
steps = 4
seeds = 1
references = { stage = "data", subset = "base" }
[stages.out]
do = "release"
model = "look"
evaluation = "measured"
title = "Tiny"
file_name = "tiny"
samples = 2
"""
NAMES = {
    "up": "../x",
    "far-up": "../../../../elsewhere/pwned",
    "two-dots": "..",
    "dot": ".",
    "absolute": "/tmp/pwned",
    "backslash": "..\\\\..\\\\x",
    "slash": "a/b",
    "nul": "a\\u0000b",
    "device": "con",
    "device-2": "NUL.txt",
    "port": "COM¹",
    "300-letters": "x" * 300,
    "empty": "",
    "space": " ",
    "newline": "a\\nonmodel: b",
    "escape": "\\u001b[2J",
    "separator": "a\\u2028b",
    "bidi": "\\u202ea",
    "dot-behind": "x.",
    "dash": "-x",
    "drive": "C:x",
    "hidden": ".x",
    "zero-width": "a\\u200bb",
    "tilde": "~root",
    "stream": "a:b",
}
ALONE = RECIPE.partition("[stages.look]")[0]  # a recipe that runs in a second
NAMED: dict[str, Callable[[str], str]] = {
    "stage": lambda name: ALONE.replace("[stages.data]", f'[stages."{name}"]'),
    "subset": lambda name: ALONE.replace("subsets.base", f'subsets."{name}"'),
    "file-name": lambda name: RECIPE.replace('file_name = "tiny"', f'file_name = "{name}"'),
    "evaluation": lambda name: RECIPE.replace("[stages.measured]", f'[stages."{name}"]').replace(
        '"measured"', f'"{name}"'
    ),
}
CHANGED: dict[str, tuple[str, str]] = {
    f"{key}-{id}": (old, new)
    for key, old, values in (
        (
            "epochs",
            "epochs = 2",
            {
                "huge": "epochs = 999999999",
                "20-digits": f"epochs = {'9' * 20}",
                "minus": "epochs = -1",
                "zero": "epochs = 0",
                "text": "epochs = 'four'",
                "list": "epochs = [2]",
                "nan": "epochs = nan",
                "true": "epochs = true",
                "half": "epochs = 1.5",
                "6000-digits": f"epochs = {'9' * 6_000}",
            },
        ),
        (
            "rate",
            "learning_rate = 1e-3",
            {
                "nan": "learning_rate = nan",
                "inf": "learning_rate = inf",
                "minus": "learning_rate = -1",
                "text": "learning_rate = 'x'",
                "table": "learning_rate = { onma = 1 }",
                "1e400": "learning_rate = 1e400",
                "date": "learning_rate = 2020-01-01",
            },
        ),
        (
            "rank",
            "rank = 2",
            {
                "zero": "rank = 0",
                "huge": "rank = 999999999",
                "minus": "rank = -4",
                "text": "rank = ''",
            },
        ),
        (
            "alpha",
            "alpha = 2",
            {
                "nan": "alpha = nan",
                "inf": "alpha = inf",
                "zero": "alpha = 0",
                "minus": "alpha = -1",
            },
        ),
        (
            "batch",
            "batch = 2",
            {"huge": "batch = 999999999999", "zero": "batch = 0", "text": "batch = []"},
        ),
        (
            "resolution",
            "resolution = 32",
            {
                "huge": "resolution = 1000000000",
                "zero": "resolution = 0",
                "odd": "resolution = 33.3",
                "nested": "resolution = [[32]]",
                "many": f"resolution = [{', '.join(['32'] * 9_000)}]",
            },
        ),
        (
            "heldout",
            "heldout = 0.25",
            {"nan": "heldout = nan", "two": "heldout = 2", "text": "heldout = 'a'"},
        ),
        ("samples", "samples = 2", {"huge": "samples = 999999999", "minus": "samples = -1"}),
        (
            "seed",
            "seed = 3",
            {
                "2-200": f"seed = {2**200}",
                "minus": "seed = -1",
                "true": "seed = true",
                "nan": "seed = nan",
            },
        ),
        (
            "threads",
            "threads = 1",
            {"huge": "threads = 1000000000", "minus": "threads = -1", "zero": "threads = 0"},
        ),
        ("seeds", "seeds = 1", {"huge": "seeds = 999999999", "zero": "seeds = 0"}),
        ("steps", "steps = 4", {"huge": "steps = 999999999", "zero": "steps = 0"}),
        ("repeats", "repeats = 2", {"huge": "repeats = 999999999999", "minus": "repeats = -1"}),
        (
            "models",
            'models = ["look@*"]',
            {
                "none": "models = []",
                "nobody": 'models = ["gone@1"]',
                "stars": f'models = ["look@{"*" * 5_000}"]',
                "text": "models = 5",
                "escape": 'models = ["\\u001b[31m\\u2028"]',
                "itself": 'models = ["measured"]',
            },
        ),
        (
            "folder",
            'folder = "pictures"',
            {
                "gone": 'folder = "gone"',
                "nul": 'folder = "a\\u0000b"',
                "device": 'folder = "/dev/zero"',
                "number": "folder = 5",
                "escape": 'folder = "\\u001b[2J\\u202e"',
                "long": f'folder = "{"a" * 5_000}"',
            },
        ),
        (
            "subsets",
            'subsets.base = [{ folder = "pictures" }]',
            {
                "number": "subsets = 5",
                "list": "subsets = []",
                "empty": "subsets = {}",
                "rows": "subsets.base = [5]",
                "toon": "subsets.base = [{ toon = 'gone', count = 3 }]",
                "toon-huge": "subsets.base = [{ toon = 'backgwa_base', count = 99999999999 }]",
                "both": 'subsets.base = [{ folder = "pictures", toon = "x" }]',
            },
        ),
        (
            "date",
            'date = "2026-11-22"',
            {"date": "date = 2026-11-22", "number": "date = 5", "none": ""},
        ),
        (
            "character",
            '"toon:backgwa"',
            {
                "number": "5",
                "up": '"toon:../../../../../elsewhere/secret"',
                "gone": '"gone.toml"',
                "nul": '"a\\u0000"',
                "toon-gone": '"toon:nobody"',
                "folder": '"pictures"',
                "itself": '"r.toml"',
            },
        ),
        (
            "needs",
            'dataset = "data"',
            {
                "itself": 'dataset = "look"',
                "later": 'dataset = "out"',
                "gone": 'dataset = "gone"',
                "list": "dataset = []",
            },
        ),
        ("do", 'do = "train"', {"unknown": 'do = "exec"', "list": "do = []", "none": ""}),
        (
            "head",
            "[recipe]",
            {
                "none": "",
                "list": "[[recipe]]",
                "unknown": "[recipe]\n'\\u001b[31m' = 1",
                "escape": '[recipe]\n"\\u001b[31m\\u2028" = 1',
                "base-number": "[recipe]\nbase = 5",
                "base-list": "[recipe]\nbase = []",
                "base-gone": "[recipe]\nbase = 'gone'",
                "base-table": "[recipe]\nbase = { folder = 5 }",
                "base-empty": "[recipe]\nbase = {}",
                "base-hub": "[recipe]\nbase = { hub = '../../x' }",
                "base-family": "[recipe]\nbase = { family = [] }",
            },
        ),
        (
            "defaults",
            "[defaults.train]\nbatch = 2",
            {
                "number": "[defaults]\ntrain = 5",
                "unknown": "[defaults.exec]\na = 1",
                "list": "[[defaults]]\na = 1",
            },
        ),
        ("title", 'title = "Tiny"', {"number": "title = 5", "list": "title = []"}),
    )
    for id, new in values.items()
}
# Odd, and nothing speaks against it: a plan is as right as a refusal.
EITHER = {
    "epochs-huge",
    "epochs-20-digits",
    "samples-huge",
    "seed-2-200",
    "threads-huge",
    "threads-zero",
    "seeds-huge",
    "steps-huge",
    "repeats-huge",
    "batch-huge",
    "alpha-zero",
    "subsets-toon-huge",
    "resolution-many",
    "rank-huge",
    "rate-minus",
    "alpha-minus",
    "resolution-huge",
    "resolution-odd",
    "models-stars",
    "folder-gone",
    "folder-nul",
    "folder-escape",
    "folder-long",
}
WHOLE: dict[str, str | bytes] = {
    "empty": "",
    "blank": "\n\n",
    "text": "no recipe",
    "utf-16-cut": RECIPE.encode("utf-16")[:-1],
    "latin-1": RECIPE.replace("Tiny", "à").encode("latin-1"),
    "nul": RECIPE + "\0",
    "binary": bytes(range(256)),
    "png": encoded(),
    "deep-list": RECIPE.replace("epochs = 2", "epochs = " + "[" * 100_000),
    "deep-closed": RECIPE.replace("epochs = 2", f"epochs = {'[' * 400}{']' * 400}"),
    "deep-table": RECIPE.replace("epochs = 2", "epochs = " + "{a = " * 3_000),
    "deep-key": RECIPE + ".".join(["a"] * 3_000) + " = 1",
    "deep-header": RECIPE + f"[stages.{'.'.join(['a'] * 3_000)}]\n",
    "stages-list": "[recipe]\nname = 'a'\ncharacter = 'toon:backgwa'\ndate = 'x'\n[[stages]]\na=1",
    "stages-number": "stages = 5\n[recipe]\nname = 'a'\ncharacter = 'toon:backgwa'\ndate = 'x'",
    "stage-number": RECIPE + "[stages]\nx = 5",
    "stage-twice": RECIPE + "[stages.data]\ndo = 'curate'",
    "many-stages": RECIPE
    + "".join(f"[stages.s{i}]\ndo = 'train'\ndataset = 'gone{i}'\n" for i in range(2_000)),
    "key-surrogate": RECIPE + '"\\ud800" = 1',
    "circle": RECIPE
    + "".join(
        f"[stages.c{i}]\ndo = 'curate'\nsubsets.a = [{{ dataset = 'c{1 - i}', subset = 'a' }}]\n"
        for i in range(2)
    ),
    "long-key": RECIPE + "a" * 100_000 + " = 1\n",
    "64-mb-text": "#" + "x" * 40_000_000,
}
GOOD: dict[str, str | bytes] = {
    "bom": b"\xef\xbb\xbf" + RECIPE.encode(),
    "windows": RECIPE.replace("\n", "\r\n"),
    "as-it-is": RECIPE,
}
SHEETS: dict[str, tuple[str, str]] = {
    "trigger-empty": ('trigger = "backgwa"', 'trigger = ""'),
    "trigger-blank": ('trigger = "backgwa"', 'trigger = "  "'),
    "trigger-newline": ('trigger = "backgwa"', 'trigger = "a\\nb"'),
    "trigger-escape": ('trigger = "backgwa"', 'trigger = "\\u001b[31m"'),
    "trigger-number": ('trigger = "backgwa"', "trigger = 5"),
    "trigger-bidi": ('trigger = "backgwa"', 'trigger = "\\u202ea"'),
    "trigger-none": ('trigger = "backgwa"', ""),
    "name-empty": ("name = ", 'name = "" #'),
    "name-separator": ("name = ", 'name = "a\\u2028b" #'),
    "rating": ("rating = ", 'rating = "all" #'),
    "tags-number": ('tags = ["blue jacket"', 'tags = 5 # ["blue jacket"'),
    "severity": ("[character]", "[character]\nseverity = { nobody = 1.0 }"),
    "severity-nan": ("[character]", "[character]\nseverity = { nobody = nan }"),
    "unknown": ("[character]", "[character]\n'\\u001b' = 1"),
    "policy": ('count_tag = "1girl"', 'count_tag = "nude child"'),
}
SHEET_FILES: dict[str, str | bytes] = {
    "empty": "",
    "deep": "a = " + "[" * 100_000,
    "utf-16": "[character]".encode("utf-16"),
    "latin-1": b'[character]\nname = "\xe9"',
    "list": "[[character]]\na = 1",
    "number": "character = 5",
    "png": encoded(),
}
DRY = ("run", "{in}/r.toml", "--project", "{out}/p", "--dry-run")


def _recipe(text: str | bytes, sheet: str | bytes | None = None) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        for i in range(3):
            place.put(f"{i}.png", encoded(size=(32, 32 + i)), below="pictures")
            place.put(f"{i}.txt", "1girl, backgwa, smile", below="pictures")
        place.put("r.toml", text)
        if sheet is not None:
            place.put("c.toml", sheet)

    return build


def _changed(old: str, new: str) -> Callable[[Place], None]:
    assert old in RECIPE, old
    return _recipe(RECIPE.replace(old, new, 1))


def _with_sheet(sheet: str | bytes) -> Callable[[Place], None]:
    return _recipe(RECIPE.replace("toon:backgwa", "c.toml"), sheet)


def _sheet(old: str, new: str) -> Callable[[Place], None]:
    text = SHEET.read_text(encoding="utf-8")
    assert old in text, old
    return _with_sheet(text.replace(old, new, 1))


def _special(name: str, make: Callable[[str], object]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _with_sheet("")(place)
        (place.given / name).unlink()
        make(str(place.given / name))

    return build


def _sparse(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(4 * 2**30)


SPECIAL: dict[str, Callable[[str], object]] = {
    "missing": lambda path: None,
    "folder": os.mkdir,
    "pipe": os.mkfifo,
    "device": lambda path: os.symlink("/dev/zero", path),
    "link-to-itself": lambda path: os.symlink(path, path),
    "4-gib": _sparse,
}

CASES = (
    *(
        Case(f"recipe-{key}-{id}", _recipe(text(name)), (run(*DRY),))
        for key, text in NAMED.items()
        for id, name in NAMES.items()
    ),
    *(
        Case(
            f"recipe-run-{key}-{id}",
            _recipe(NAMED[key](NAMES[id])),
            (run("run", "{in}/r.toml", "--project", "{out}/p"),),
        )
        for key in ("stage", "subset")
        for id in ("up", "far-up", "absolute", "device", "escape")
    ),
    *(
        Case(
            f"recipe-{id}",
            _changed(old, new),
            (run(*DRY, codes=(0, 2) if id in EITHER else (2,)),),
        )
        for id, (old, new) in CHANGED.items()
    ),
    *(Case(f"recipe-{id}", _recipe(text), (run(*DRY),)) for id, text in WHOLE.items()),
    *(
        Case(f"recipe-good-{id}", _recipe(text), (run(*DRY, codes=(0,)),))
        for id, text in GOOD.items()
    ),
    *(Case(f"recipe-{id}", _special("r.toml", make), (run(*DRY),)) for id, make in SPECIAL.items()),
    *(Case(f"sheet-{id}", _sheet(old, new), (run(*DRY),)) for id, (old, new) in SHEETS.items()),
    *(
        Case(f"sheet-outfit-{id}", _sheet('id = "default"', f'id = "{name}"'), (run(*DRY),))
        for id, name in NAMES.items()
    ),
    *(Case(f"sheet-{id}", _with_sheet(text), (run(*DRY),)) for id, text in SHEET_FILES.items()),
    *(
        Case(f"sheet-{id}", _special("c.toml", make), (run(*DRY, says=("c.toml",)),))
        for id, make in SPECIAL.items()
    ),
    Case(
        "recipes-in-doctor",
        _recipe(WHOLE["deep-list"]),
        (run("doctor", "{in}/r.toml", codes=(1,), findings=True),),
    ),
)
