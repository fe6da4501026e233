"""Configuration files of others with wrong types anywhere: read, or one InputError line."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from onmodel.curate.other_tools.registry import read_config
from onmodel.curate.other_tools.sd_scripts import read_numbered_folders
from onmodel.curate.provenance import own_models, read_known
from onmodel.curate.scene import scenes_in
from onmodel.errors import InputError
from onmodel.hashing import hash_json

VALID: dict[str, Any] = {
    "sd-scripts.json": {
        "general": {
            "shuffle_caption": True,
            "caption_extension": ".txt",
            "color_aug": False,
            "batch_size": 1,
        },
        "datasets": [
            {
                "resolution": [512, 768],
                "min_bucket_reso": 256,
                "max_bucket_reso": 1024,
                "bucket_no_upscale": False,
                "validation_split": 0.1,
                "skip_image_resolution": 64,
                "subsets": [
                    {
                        "image_dir": "a",
                        "num_repeats": 2,
                        "class_tokens": "x",
                        "conditioning_data_dir": "m",
                        "caption_tag_dropout_rate": 0.1,
                        "keep_tokens_separator": "|||",
                        "is_reg": False,
                    }
                ],
            }
        ],
    },
    "diffusion-pipe.json": {
        "resolutions": [512],
        "min_ar": 0.5,
        "directory": [
            {
                "path": "a",
                "num_repeats": 1,
                "mask_path": "m",
                "cache_shuffle_num": 3,
                "shuffle_tags": True,
                "skip_empty_caption": False,
                "caption_prefix": "x, ",
            }
        ],
    },
    "ai-toolkit.yaml": {
        "config": {
            "process": [
                {
                    "trigger_word": "x",
                    "datasets": [
                        {
                            "folder_path": "a",
                            "resolution": [512, 768],
                            "caption_ext": "txt",
                            "mask_path": "m",
                            "token_dropout_rate": 0.1,
                            "loss_multiplier": 1.0,
                            "is_reg": False,
                            "replacements": [],
                        }
                    ],
                }
            ]
        },
    },
}
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    3,
    10**30,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "a\x00b",
    "x" * 5000,
    "\n",
    [],
    [[]],
    [3],
    [None],
    {},
    {"x": 1},
    [{"x": 1}],
    [[{}]],
    {"": {}},
    "../../..",
    "~",
    "9" * 5000,
    [1, 2, 3],
    "1,2,3",
    {"x" * 5000: 1},
]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield from places(one, (*way, key))


def changed(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    if not way:
        return new
    value = copy.copy(value)
    value[way[0]] = changed(value[way[0]], way[1:], new)
    return value


def read_or_refused(path: Path) -> None:
    try:
        read_config(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, str(error)[:2000]


def write(path: Path, value: Any) -> None:
    path.write_text(
        yaml.safe_dump(value) if path.suffix == ".yaml" else json.dumps(value), encoding="utf-8"
    )


@pytest.mark.parametrize("name", VALID)
def test_any_value_at_any_place_is_read_or_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, VALID[name])
    assert len(read_config(path).subsets) == 1
    for way in places(VALID[name]):
        for odd in ODD:
            write(path, changed(VALID[name], way, odd))
            read_or_refused(path)


@pytest.mark.parametrize("key", [1, 2.5, None, True, "", "x" * 5000, "a\nb", "nüm_repeats"])
@pytest.mark.parametrize("name", VALID)
def test_any_name_of_an_option_is_one_line(tmp_path: Path, name: str, key: Any) -> None:
    for way in places(VALID[name]):
        value = copy.deepcopy(VALID[name])
        inner = value
        for step in way:
            inner = inner[step]
        if isinstance(inner, dict):
            inner[key] = 1
            (tmp_path / "set.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
            read_or_refused(tmp_path / "set.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: !!python/object/apply:os.system [ls]",
        "? [1]\n: 2",
        "- " * 5000 + "x",
        "[" * 5000,
        "{" * 5000,
        "a: 2026-11-30",
        "datasets: 2026-11-30",
        "datasets: [{folder_path: 2026-11-30}]",
        "\x00",
        "a: 1\na: 2",
        (
            "x: &x [1,1,1,1,1,1,1,1,1]\ny: &y [*x,*x,*x,*x,*x,*x,*x,*x,*x]\nz: &z"
            " [*y,*y,*y,*y,*y,*y,*y,*y,*y]\nw: &w [*z,*z,*z,*z,*z,*z,*z,*z,*z]\nv: &v"
            " [*w,*w,*w,*w,*w,*w,*w,*w,*w]\nu: &u [*v,*v,*v,*v,*v,*v,*v,*v,*v]\ndatasets:"
            " [*u,*u,*u,*u,*u,*u,*u,*u,*u]"
        ),
    ],
)
def test_yaml_that_is_a_trap_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_config(tmp_path / "a.yaml")


def test_folders_of_odd_numbers_are_read_or_left(tmp_path: Path) -> None:
    for name in ("0_x", "3_a\nb", "999999999999_x", "٣_x", "²_x", "_x", "3_", "4_ok"):
        (tmp_path / name).mkdir()
    found = read_numbered_folders(tmp_path, regularisation=False)
    assert [(row.name, row.config.repeats) for row in found.subsets] == [
        ("3_", 3),
        ("a_b", 3),
        ("ok", 4),
        ("x", 3),
    ]
    assert found.notes[0].count(",") == 1 + 3


NODE = {"type": "model", "used": [], "sha256": "a" * 64, "name": "x"}
GOOD = {
    "pictures": {
        "set/a.png": {
            "sha256": "0" * 64,
            "origin": "o",
            "rights": "r",
            "told": "file",
            "paper": "",
            "tags": {"1girl": "file"},
            "made": {},
            "profile": "",
            "kept": "audit",
        }
    },
    "models": {"a" * 64: {hash_json(NODE): NODE}},
}


def test_any_value_at_any_place_of_a_provenance_is_read_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "set" / "provenance.json"
    path.parent.mkdir()
    path.write_text(json.dumps(GOOD))
    assert len(read_known(path.parent).pictures) == 1
    for way in places(GOOD):
        for odd in [*ODD, "\ud800"]:
            path.write_text(json.dumps(changed(GOOD, way, odd)))
            try:
                own_models(read_known(path.parent).models, "x")
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize(
    "node",
    [
        {"sheet": "x"},
        {"sheet": []},
        {"claims": 3},
        {"sha256": 4},
        {"used": "ab"},
        {"used": [[]]},
        {"type": 3},
        {"name": {}},
    ],
)
def test_a_history_whose_hash_is_right_and_whose_node_is_none_is_refused(
    tmp_path: Path, node: dict[str, Any]
) -> None:
    bad = {**NODE, **node}
    (tmp_path / "provenance.json").write_text(
        json.dumps({**GOOD, "models": {"a" * 64: {hash_json(bad): bad}}})
    )
    with pytest.raises(InputError, match="is damaged"):
        read_known(tmp_path)


@pytest.mark.parametrize(
    "value", [*ODD, {"description": 3}, {"object": 3}, {"description": "x" * 30, "object": [3]}]
)
def test_any_scene_is_read_or_one_line(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="scenes: "):
        scenes_in(tmp_path)
