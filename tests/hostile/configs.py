"""Files beside pictures: data set files of other trainers, provenance, lists of aliases."""

import json
import os
from collections.abc import Callable

from tests.hostile.case import Case, Place, Run, run
from tests.hostile.pictures import encoded

DEEP = 100_000


def _yaml_bomb(width: int = 10, depth: int = 9) -> str:
    rows = ["a0: &a0 [x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join([*rows, f"datasets: *a{depth - 1}"])


YAML: dict[str, str | bytes] = {
    "alias-bomb": _yaml_bomb(),
    "merge-bomb": "a: &a {x: 1}\n"
    + "".join(f"b{i}: &b{i} {{<<: [{', '.join(['*a'] * 200)}]}}\n" for i in range(200))
    + "datasets: 5",
    "deep-flow": "datasets: " + "[" * DEEP,
    "deep-block": "\n".join("  " * i + "a:" for i in range(3_000)),
    "deep-closed": "datasets: " + "[" * 3_000 + "]" * 3_000,
    "python-call": "datasets: !!python/object/apply:os.system ['touch pwned']",
    "python-name": "datasets: !!python/name:os.system ''",
    "python-new": "!!python/object/new:subprocess.Popen [['touch', 'pwned']]",
    "own-tag": "datasets: !mine 5",
    "binary": "datasets: !!binary 'AAAA'",
    "itself": "datasets: &a [*a]",
    "itself-table": "datasets:\n- &a {folder_path: pictures, b: *a}",
    "number": "5",
    "text": "pictures",
    "null": "~",
    "nothing": "",
    "list-of-lists": "[[1], [2]]",
    "keys-of-lists": "? [a, b]\n: 5",
    "key-number": "1: 2\ndatasets: [{folder_path: pictures, 7: 8}]",
    "two-documents": "a: 1\n---\nb: 2",
    "tab": "datasets:\n\t- a",
    "nul": "datasets: \0",
    "escape": "datasets: \x1b[31m",
    "utf-16": "datasets: []".encode("utf-16"),
    "not-utf8": b"datasets: \xff",
    "datasets-text": "datasets: many",
    "datasets-empty": "datasets: []",
    "datasets-null": "datasets: [~]",
    "set": "datasets: !!set {a, b}",
    "folder-number": "datasets: [{folder_path: 5}]",
    "folder-list": "datasets: [{folder_path: [pictures]}]",
    "folder-empty": "datasets: [{folder_path: ''}]",
    "folder-missing": "datasets: [{resolution: 512}]",
    "folder-gone": "datasets: [{folder_path: gone}]",
    "folder-nul": 'datasets: [{folder_path: "a\\0b"}]',
    "folder-escape": 'datasets: [{folder_path: "\\e[2J\\n\\u202e"}]',
    "folder-long": "datasets: [{folder_path: " + "a" * 5_000 + "}]",
    "folder-device": "datasets: [{folder_path: /dev}]",
    "repeats-nan": "datasets: [{folder_path: pictures, num_repeats: .nan}]",
    "repeats-inf": "datasets: [{folder_path: pictures, num_repeats: .inf}]",
    "repeats-text": "datasets: [{folder_path: pictures, num_repeats: many}]",
    "repeats-minus": "datasets: [{folder_path: pictures, num_repeats: -5}]",
    "repeats-list": "datasets: [{folder_path: pictures, num_repeats: [1]}]",
    "repeats-date": "datasets: [{folder_path: pictures, num_repeats: 2020-01-01}]",
    "resolution-0": "datasets: [{folder_path: pictures, resolution: 0}]",
    "resolution-table": "datasets: [{folder_path: pictures, resolution: {a: 1}}]",
    "resolution-inf": "datasets: [{folder_path: pictures, resolution: .inf}]",
    "resolution-nan": "datasets: [{folder_path: pictures, resolution: [.nan]}]",
    "resolution-3": "datasets: [{folder_path: pictures, resolution: '1,2,3'}]",
    "resolution-empty": "datasets: [{folder_path: pictures, resolution: []}]",
    "ending-path": "datasets: [{folder_path: pictures, caption_ext: ../../elsewhere/secret.txt}]",
    "ending-slash": "datasets: [{folder_path: pictures, caption_ext: /}]",
    "ending-empty": "datasets: [{folder_path: pictures, caption_ext: ''}]",
    "ending-nul": 'datasets: [{folder_path: pictures, caption_ext: ".\\0"}]',
    "ending-list": "datasets: [{folder_path: pictures, caption_ext: [a]}]",
    "masks-gone": "datasets: [{folder_path: pictures, mask_path: gone}]",
    "masks-file": "datasets: [{folder_path: pictures, mask_path: data.yaml}]",
    "masks-number": "datasets: [{folder_path: pictures, mask_path: 5}]",
    "unknown-key": "datasets: [{folder_path: pictures, '\\e[31m': 1}]",
    "dropout-2": "datasets: [{folder_path: pictures, caption_dropout_rate: 2}]",
    "trigger-list": "trigger_word: [a]\ndatasets: [{folder_path: pictures, trigger_word: [b]}]",
    "weight-nan": "datasets: [{folder_path: pictures, loss_multiplier: .nan}]",
    "two-processes": "config: {process: [{datasets: []}, {datasets: []}]}",
    "process-text": "config: {process: five}",
    "digits": "datasets: [{folder_path: pictures, num_repeats: " + "9" * 6_000 + "}]",
}
HEAD = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'pictures'\n"
TOML: dict[str, str | bytes] = {
    "empty": "",
    "broken": "[[datasets",
    "deep": "a = " + "[" * DEEP,
    "deep-keys": ".".join(["a"] * 5_000) + " = 1",
    "deep-tables": "a = " + "{a=" * 2_000,
    "utf-16-cut": HEAD.encode("utf-16")[:-1],
    "not-utf8": HEAD.encode() + b"# \xff",
    "nul": HEAD + "a = '\0'",
    "digits": HEAD + "num_repeats = " + "9" * 6_000,
    "datasets-number": "datasets = 5",
    "datasets-table": "[datasets]\na = 1",
    "subsets-number": "[[datasets]]\nsubsets = 5",
    "subsets-none": "[[datasets]]\nresolution = 512",
    "general-list": "general = [1]\n" + HEAD,
    "image-dir-list": "[[datasets]]\n[[datasets.subsets]]\nimage_dir = ['a']",
    "image-dir-empty": "[[datasets]]\n[[datasets.subsets]]\nimage_dir = ''",
    "image-dir-nul": '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a\\u0000b"',
    "image-dir-gone": "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone'",
    "repeats-text": HEAD + "num_repeats = 'x'",
    "repeats-inf": HEAD + "num_repeats = inf",
    "repeats-nan": HEAD + "num_repeats = nan",
    "repeats-0": HEAD + "num_repeats = 0",
    "repeats-date": HEAD + "num_repeats = 2020-01-01",
    "split-nan": HEAD + "validation_split = nan",
    "split-text": HEAD + "validation_split = 'half'",
    "split-true": HEAD + "validation_split = true\nresolution = true",
    "bucket-text": HEAD + "min_bucket_reso = 'a'",
    "bucket-turned": HEAD + "min_bucket_reso = 9999\nmax_bucket_reso = 1\nbucket_no_upscale = true",
    "step-0": HEAD + "bucket_reso_steps = 0",
    "keep-minus": HEAD + "keep_tokens = -1",
    "separator-list": HEAD + "keep_tokens_separator = []",
    "resolution-huge": HEAD + "resolution = 99999999999999999999",
    "resolution-bool": HEAD + "resolution = [true, false]",
    "masks-gone": HEAD + "conditioning_data_dir = 'gone'",
    "skip-text": HEAD + "skip_image_resolution = 'x'",
    "ending-up": HEAD + "caption_extension = '/../../../elsewhere/secret.txt'",
    "class-number": HEAD + "class_tokens = 5",
    "directory-number": "directory = 5",
    "directory-none": "resolutions = [512]\n[[directory]]\nnum_repeats = 2",
    "resolutions-nan": "resolutions = [nan]\n[[directory]]\npath = 'pictures'",
    "resolutions-text": "resolutions = 'x'\n[[directory]]\npath = 'pictures'",
    "resolutions-deep": "resolutions = [[[512]]]\n[[directory]]\npath = 'pictures'",
    "control": "[[directory]]\npath = 'pictures'\ncontrol_path = 'x'\nresolutions = [64]",
}
JSON: dict[str, str | bytes] = {
    "empty": "",
    "broken": "{",
    "deep": "[" * DEEP,
    "deep-table": '{"a":' * DEEP,
    "number": "5",
    "nan": '{"datasets": NaN}',
    "nul": "\0",
    "utf-16": "{}".encode("utf-16"),
    "datasets-null": '{"datasets": null}',
    "digits": '{"datasets": ' + "9" * 6_000 + "}",
    "surrogate": '{"datasets": [{"subsets": [{"image_dir": "\\ud800"}]}]}',
    "repeats-1e999": '{"datasets": [{"subsets": [{"image_dir": "p", "num_repeats": 1e999}]}]}',
}
# An import reads only the folders. What these say about training is refused when one is planned.
ACCEPTED = {"trigger-list", "datasets-empty", "bucket-text", "bucket-turned", "resolution-huge"}


def _pictures(place: Place) -> None:
    place.put("a.png", encoded(), below="pictures")
    place.put("a.txt", "1girl, smile", below="pictures")


def _config(name: str, data: str | bytes) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _pictures(place)
        place.put(name, data)

    return build


def _special(name: str, make: Callable[[Place, str], object]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _pictures(place)
        make(place, str(place.given / name))

    return build


def _sparse(place: Place, path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(4 * 2**30)


SPECIAL: dict[str, Callable[[Place, str], object]] = {
    "pipe": lambda place, path: os.mkfifo(path),
    "device": lambda place, path: os.symlink("/dev/zero", path),
    "link-to-itself": lambda place, path: os.symlink(path, path),
    "4-gib": _sparse,
    "missing": lambda place, path: None,
}
PROVENANCE: dict[str, str | bytes] = {
    "empty": "",
    "deep": "[" * DEEP,
    "list": "[]",
    "number": "5",
    "not-utf8": b"\xff",
    "pictures-list": '{"pictures": [], "models": {}}',
    "rows": '{"pictures": {"pictures/a.png": 5}, "models": {}}',
    "model-name": '{"pictures": {}, "models": {"../../../elsewhere/pwned": {}}}',
    "model-deep": json.dumps({"pictures": {}, "models": {"a" * 64: {}}}).replace(
        "{}}", '{"a":' + "[" * DEEP, 1
    ),
    "model-odd": json.dumps({"pictures": {}, "models": {"a" * 64: {"b": {"used": 5}}}}),
    "model-cycle": json.dumps(
        {"pictures": {}, "models": {"a" * 64: {"b": {"type": "run", "used": ["b"]}}}}
    ),
    "model-null": json.dumps({"pictures": {}, "models": {"a" * 64: None}}),
    "model-nan": '{"pictures": {}, "models": {"'
    + "a" * 64
    + '": {"b": {"type": "run", "used": [], "x": NaN}}}}',
    "paper": json.dumps(
        {
            "pictures": {
                "pictures/a.png": {
                    **dict.fromkeys(("sha256", "origin", "rights", "told"), ""),
                    "paper": "red\x1b",
                    "tags": {},
                    "made": {},
                }
            },
            "models": {},
        }
    ),
}
ALIASES: dict[str, str | bytes] = {
    "empty": "",
    "binary": bytes(range(256)),
    "not-utf8": b"a,\xff",
    "nul": "a\0,b\n",
    "one-field": "a\nb\n",
    "field-limit": "a," + "b" * 200_000,
    "quotes": '"' * 9_999,
    "circle": "a,b\nb,a\n",
    "utf-16": "a,b".encode("utf-16"),
    "escape": "\x1b[31m,smile\n",
    "formula": "=cmd(),smile\n",
    "many-commas": "," * 100_000,
}
IMPORT = ("dataset", "import", "{in}/pictures", "--out", "{out}/work")


def _data_set(name: str, codes: tuple[int, ...] = (2,)) -> Run:
    return run("dataset", "import", f"{{in}}/{name}", "--out", "{out}/work", codes=codes)


CASES = (
    *(
        Case(
            f"config-{kind}-{id}",
            _config(f"data.{kind}", data),
            (_data_set(f"data.{kind}", (0, 2) if id in ACCEPTED else (2,)),),
        )
        for kind, table in (("yaml", YAML), ("toml", TOML), ("json", JSON))
        for id, data in table.items()
    ),
    *(
        Case(f"config-{kind}-{id}", _special(f"data.{kind}", make), (_data_set(f"data.{kind}"),))
        for kind in ("yaml", "toml")
        for id, make in SPECIAL.items()
    ),
    *(
        Case(
            f"provenance-{id}",
            lambda place, data=data: (
                _pictures(place),
                place.put("provenance.json", data, below="pictures"),
            )[0],
            (run(*IMPORT, says=("provenance.json",)),),
        )
        for id, data in PROVENANCE.items()
    ),
    *(
        Case(
            f"provenance-{id}",
            lambda place, make=make: (
                _pictures(place),
                make(place, str(place.given / "pictures" / "provenance.json")),
            )[0],
            (run(*IMPORT, codes=(0, 2)),),
        )
        for id, make in SPECIAL.items()
    ),
    *(
        Case(
            f"aliases-{id}",
            _config("aliases.csv", data),
            (
                run(*IMPORT, codes=(0,)),
                run(
                    "dataset", "labels", "{out}/work", "--aliases", "{in}/aliases.csv", codes=(0, 2)
                ),
            ),
        )
        for id, data in ALIASES.items()
    ),
    *(
        Case(
            f"aliases-{id}",
            _special("aliases.csv", make),
            (
                run(*IMPORT, codes=(0,)),
                run("dataset", "labels", "{out}/work", "--aliases", "{in}/aliases.csv"),
            ),
        )
        for id, make in SPECIAL.items()
    ),
)
