"""Data sets described for other trainers: every option is read, or named."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.curate.ingest import Reading, scan_folder
from onmodel.curate.other_tools.options import ForeignDataset, ForeignSubset, ToolOptions
from onmodel.curate.other_tools.registry import TOOLS, read_config
from onmodel.curate.other_tools.sd_scripts import read_numbered_folders
from onmodel.curate.sources import folder_pictures
from onmodel.dataset.rules import SubsetConfig
from onmodel.errors import InputError

SD_SCRIPTS = """
[general]
shuffle_caption = true
caption_extension = '.txt'
keep_tokens = 1
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
resolution = [832, 1216]
batch_size = 4
keep_tokens = 2
bucket_reso_steps = 32
validation_split = 0.1

  [[datasets.subsets]]
  image_dir = 'mine'
  class_tokens = 'hoge girl'
  num_repeats = 10
  flip_aug = true
  caption_tag_dropout_rate = 0.1
  caption_dropout_rate = 0.05
  caption_dropout_every_n_epochs = 4
  conditioning_data_dir = 'masks'

  [[datasets.subsets]]
  image_dir = 'more'
  keep_tokens = 3
  keep_tokens_separator = '|||'
  caption_prefix = '1girl, hoge |||'
  caption_suffix = 'masterpiece'
  color_aug = false

  [[datasets.subsets]]
  is_reg = true
  image_dir = 'reg'
  alpha_mask = true
"""
DIFFUSION_PIPE = """
resolutions = [512, [832, 1216]]
enable_ar_bucket = true
min_ar = 0.5
frame_buckets = [1]
cache_shuffle_num = 10

[[directory]]
path = 'a'
num_repeats = 5
mask_path = 'a/masks'

[[directory]]
path = '/somewhere/b'
resolutions = [768]
"""
AI_TOOLKIT = """
job: extension
config:
  name: mine
  process:
    - type: sd_trainer
      trigger_word: hoge
      network: {type: lora, linear: 16}
      datasets:
        - folder_path: pictures
          caption_ext: txt
          caption_dropout_rate: 0.05
          shuffle_tokens: true
          keep_tokens: 1
          cache_latents_to_disk: true
          flip_x: true
          flip_y: false
          resolution: [512, 768]
        - folder_path: reg
          is_reg: true
          num_repeats: 2
          control_path: null
"""


def read(folder: Path, name: str, text: str) -> ForeignDataset:
    (folder / name).write_text(text, encoding="utf-8")
    return read_config(folder / name)


def said(subset: ForeignSubset) -> dict[str, Any]:
    return subset.config.model_dump(mode="json")


def test_sd_scripts(tmp_path: Path) -> None:
    foreign = read(tmp_path, "dataset.toml", SD_SCRIPTS)
    mine, more, reg = foreign.subsets
    assert [subset.name for subset in foreign.subsets] == ["mine", "more", "reg"]
    assert mine.folder == tmp_path / "mine" and mine.reading.masks == tmp_path / "masks"
    common = {
        "resolution": 1006,
        "enlarge": False,
        "buckets": True,
        "bucket_step": 32,
        "shuffle_tags": True,
    }
    assert said(mine) == common | {
        "keep_tokens": 2,
        "repeats": 10,
        "flip": True,
        "tag_dropout": 0.1,
        "caption_dropout": 0.05,
        "caption_dropout_every": 4,
    }
    assert said(more) == common | {"keep_tokens": 3}
    assert said(reg) == common | {"keep_tokens": 2, "regularisation": True}
    assert mine.reading.default_caption == "hoge girl" and more.reading.default_caption is None
    assert (more.reading.keep_separator, more.reading.caption_prefix) == ("|||", "1girl, hoge |||")
    assert reg.reading.alpha_mask
    assert [subset.heldout for subset in foreign.subsets] == [0.1, 0.1, 0.0]
    assert foreign.even_regularisation
    assert foreign.notes[0] == "batch_size has no effect: the recipe's `batch` holds for all data"
    assert len(foreign.notes) == 2 and foreign.notes[1].startswith(
        "regularisation pictures are repeated"
    )


def test_what_sd_scripts_would_do_otherwise_is_told(tmp_path: Path) -> None:
    foreign = read(
        tmp_path,
        "d.toml",
        "[[datasets]]\nmax_bucket_reso = 1024\n[[datasets.subsets]]\nimage_dir = 'a'",
    )
    assert said(foreign.subsets[0]) == {"shuffle_tags": False, "keep_tokens": 0}
    for word in ("enable_bucket", "bucket_no_upscale", "caption_extension", "max_bucket_reso"):
        assert sum(word in note for note in foreign.notes) == 1, word
    asked = (
        "[[datasets]]\nmax_bucket_reso = 1536\nbucket_no_upscale ="
        " false\n[[datasets.subsets]]\nimage_dir = 'a'"
    )
    assert said(read(tmp_path, "d.toml", asked).subsets[0]) == {
        "shuffle_tags": False,
        "keep_tokens": 0,
        "enlarge": True,
        "bucket_sides": [256, 1536],
    }


def test_a_number_in_a_name_is_told_when_it_is_not_read(tmp_path: Path) -> None:
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = '10_girl'\n"
    assert any("write num_repeats = 10" in note for note in read(tmp_path, "d.toml", text).notes)
    foreign = read(tmp_path, "d.toml", text + "num_repeats = 3")
    assert foreign.subsets[0].config.repeats == 3 and not any(
        "10_girl" in note for note in foreign.notes
    )


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.tool)
def test_every_option_is_read_in_one_way(tool: ToolOptions) -> None:
    tables = [tool.config, tool.reading, tool.special, tool.harmless, tool.inactive]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert set(tool.config.values()) <= SubsetConfig.model_fields.keys()
    assert set(tool.reading.values()) <= Reading.model_fields.keys()


def test_data_sets_of_several_resolutions_are_one(tmp_path: Path) -> None:
    one = "[[datasets]]\nresolution = {}\n[[datasets.subsets]]\nimage_dir = 'a'\nnum_repeats = {}\n"
    foreign = read(
        tmp_path, "d.toml", one.format(512, 2) + one.format(768, 2) + one.format(1024, 3)
    )
    assert [
        (subset.name, subset.config.resolution, subset.config.repeats) for subset in foreign.subsets
    ] == [("a", (512, 768), 2), ("a-3", 1024, 3)]
    skipped = one.format(1024, 2).replace(
        "[[datasets.subsets]]", "skip_image_resolution = 768\n[[datasets.subsets]]"
    )
    assert [
        s.reading.larger_than
        for s in read(tmp_path, "d.toml", one.format(768, 2) + skipped).subsets
    ] == [0, 768]


def test_json_is_read_too(tmp_path: Path) -> None:
    text = '{"datasets": [{"resolution": 512, "subsets": [{"image_dir": "a", "num_repeats": 3}]}]}'
    assert read(tmp_path, "d.json", text).subsets[0].config.repeats == 3


def test_diffusion_pipe(tmp_path: Path) -> None:
    foreign = read(tmp_path, "dataset.toml", DIFFUSION_PIPE)
    a, b = foreign.subsets
    assert (a.folder, b.folder) == (tmp_path / "a", Path("/somewhere/b"))
    assert a.reading.masks == tmp_path / "a/masks" and b.reading.masks is None
    assert said(a) == {
        "resolution": [512, 1006],
        "buckets": True,
        "shuffle_tags": True,
        "keep_tokens": 0,
        "caption": "tags",
        "repeats": 5,
    }
    assert said(b)["resolution"] == [768] and b.config.repeats == 1
    assert [note.split()[0] for note in foreign.notes] == ["min_ar", "frame_buckets"]


def test_ai_toolkit(tmp_path: Path) -> None:
    foreign = read(tmp_path, "job.yaml", AI_TOOLKIT)
    pictures, reg = foreign.subsets
    assert pictures.folder == tmp_path / "pictures" and pictures.reading.trigger == "hoge"
    assert pictures.reading.caption_extension == ".txt"
    assert said(pictures) == {
        "resolution": [512, 768],
        "caption_dropout": 0.05,
        "shuffle_tags": True,
        "keep_tokens": 1,
        "flip": True,
        "caption": "tags",
    }
    assert reg.config.regularisation and reg.config.repeats == 2 and reg.heldout == 0.0
    assert not foreign.even_regularisation
    assert any(note.startswith("cache_latents_to_disk") for note in foreign.notes)
    bare = read(tmp_path, "sets.yaml", "- {folder_path: a, resolution: 512}\n- {dataset_path: b}")
    assert [subset.name for subset in bare.subsets] == ["a", "b"]


def test_a_job_of_ai_toolkits_web_page_is_read(tmp_path: Path) -> None:
    of_masks = (
        "          mask_path: null\n          mask_min_value: 0.1\n          invert_mask: true\n"
    )
    of_video = "          do_audio: false\n          auto_frame_count: false\n"
    text = AI_TOOLKIT.replace(
        "          caption_ext", of_masks + of_video + "          caption_ext"
    )
    assert said(read(tmp_path, "job.yaml", text).subsets[0])["flip"] is True
    with pytest.raises(InputError, match=r"mask_min_value = 0\.1, invert_mask = True"):
        read(tmp_path, "job.yaml", text.replace("mask_path: null", "mask_path: masks"))


@pytest.mark.parametrize("name", ["dataset", "dataset.cfg"])
def test_sd_scripts_file_is_known_by_its_subsets(tmp_path: Path, name: str) -> None:
    (subset,) = read(tmp_path, name, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'").subsets
    assert subset.name == "a"


MUSUBI = """
[general]
resolution = [960, 544]
caption_extension = ".txt"
batch_size = 1
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
image_directory = 'heap'
cache_directory = 'cache'
num_repeats = 2

[[datasets]]
image_directory = 'heap'
resolution = 512
num_repeats = 2
"""


def test_musubi_tuner(tmp_path: Path) -> None:
    foreign = read(tmp_path, "dataset.toml", MUSUBI)
    (heap,) = foreign.subsets
    assert (heap.folder, heap.reading.join_lines) == (tmp_path / "heap", " ")
    assert said(heap) == {
        "resolution": [723, 512],
        "enlarge": False,
        "buckets": True,
        "shuffle_tags": False,
        "keep_tokens": 0,
        "caption": "tags",
        "repeats": 2,
    }
    assert [note.split()[0] for note in foreign.notes] == ["batch_size", "cache_directory"]
    with pytest.raises(InputError, match="video_directory = 'v' — onmodel does not do this"):
        read(tmp_path, "d.toml", "[[datasets]]\nvideo_directory = 'v'")


def test_the_remedy_for_musubis_jsonl_file_works(tmp_path: Path) -> None:
    text = "[[datasets]]\nimage_jsonl_file = 'a.jsonl'"
    with pytest.raises(InputError, match="write image_directory, and name the file metadata"):
        read(tmp_path, "d.toml", text)
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    (folder / "metadata.jsonl").write_text('{"image_path": "/x/a.png", "caption": "1girl"}')
    foreign = read(tmp_path, "d.toml", "[[datasets]]\nimage_directory = 'set'")
    (found,) = scan_folder(folder, "x", foreign.subsets[0].reading).pictures
    assert found.tags == ("1girl",)


def test_captions_mean_what_they_mean_in_each_tool(tmp_path: Path) -> None:
    pipe = DIFFUSION_PIPE.replace("[[directory]]", "caption_prefix = 'hoge, '\n[[directory]]", 1)
    reading = read(tmp_path, "pipe.toml", pipe).subsets[0].reading
    assert (reading.caption_prefix, reading.prefix_stays) == ("hoge, ", True)
    assert (reading.join_lines, reading.table_first) == (" ", True)
    reading = read(tmp_path, "job.yaml", AI_TOOLKIT).subsets[0].reading
    assert (reading.join_lines, reading.table_first) == (", ", False)
    reading = read(tmp_path, "sd.toml", SD_SCRIPTS).subsets[0].reading
    assert (reading.join_lines, reading.prefix_stays) == (None, False)


@pytest.mark.parametrize("path", ["D:\\train", "D:\\new", "heap\\train", "C:\\Users\\me", "D:\\x"])
@pytest.mark.parametrize("kind", ["toml", "yaml"])
def test_a_path_whose_backslashes_are_escapes_is_told_with_the_cure(
    tmp_path: Path, path: str, kind: str
) -> None:
    text = {
        "toml": f'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "{path}"',
        "yaml": f'- folder_path: "{path}"',
    }[kind]
    with pytest.raises(InputError, match="write the path with / or in single quotes") as error:
        read(tmp_path, f"d.{kind}", text)
    assert str(error.value).count("write the path") == 1
    quoted = text.replace('"', "'")
    assert len(read(tmp_path, f"d.{kind}", quoted).subsets) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("keep_tokens = 1", "keep_token = 1"),
            r"dataset\.toml: general: keep_token — .*did you mean 'keep_tokens'",
        ),
        (
            ("color_aug = false", "color_aug = true"),
            r"subsets\[1\]: color_aug = True — onmodel does not do this",
        ),
        (
            ("color_aug = false", "random_crop = true\n  enable_wildcard = true"),
            "random_crop = True, enable_wildcard",
        ),
        (("color_aug = false", "metadata_file = 'meta.json'"), "metadata_file = 'meta.json'"),
        (
            ("num_repeats = 10", "num_repeats = -1"),
            r"subsets\[0\]\.num_repeats: -1 — .*greater than or equal to 1",
        ),
        (
            ("num_repeats = 10", "num_repeats = 'ten'"),
            r"num_repeats: ten — should be a valid integer",
        ),
        (("bucket_reso_steps = 32", "bucket_reso_steps = 8"), r"bucket_reso_steps: 8"),
        (
            ("resolution = [832, 1216]", "resolution = 'big'"),
            r"resolution: big — write a number of pixels",
        ),
        (
            ("validation_split = 0.1", "validation_split = 2"),
            r"validation_split: 2 — write a share",
        ),
        (("image_dir = 'more'", "# no folder"), r"subsets\[1\]\.image_dir: missing"),
        (("[general]", "[generel]"), r"dataset\.toml: generel — unknown"),
    ],
)
def test_what_cannot_be_followed_is_named(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in SD_SCRIPTS
    with pytest.raises(InputError, match=message):
        read(tmp_path, "dataset.toml", SD_SCRIPTS.replace(*change))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "x =", "not valid TOML"),
        ("a.toml", "x = 1", "describes no data set"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.yaml", "", "describes no data set"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a.json", "{", "not valid JSON"),
        ("a.toml", "[[datasets]]\nresolution = 512", r"datasets\[0\]\.subsets: missing"),
        ("a.toml", "datasets = 3", r"datasets: 3 — must be one or more tables"),
        ("a.toml", "[directory]\npath = 'a'", r"one table — .* write \[\[directory\]\]"),
        ("a.toml", "[[directory]]\npath = 'a'", r"directory\[0\]\.resolutions: missing"),
        (
            "a.toml",
            "resolutions = [512]\n[[directory]]\npath = 'a'\ncontrol_path = 'b'",
            "control_path = 'b'",
        ),
        (
            "a.toml",
            "resolutions = [512]\n[[directory]]\npath = 'a'\nmask = 'b'",
            "did you mean 'mask_path'",
        ),
        ("a.yaml", "- {folder_path: a, flip_y: true}", "flip_y = True"),
        (
            "a.yaml",
            "- {folder_path: a, resolution: [512, 512]}",
            r"datasets\[0\]\.resolution.*different numbers",
        ),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, text)


def test_numbered_folders(tmp_path: Path) -> None:
    for name in ("10_hoge girl", "2_style", "plain", "0_never"):
        (tmp_path / name).mkdir()
    (tmp_path / "3_file").touch()
    foreign = read_numbered_folders(tmp_path, regularisation=False)
    assert {subset.name: subset.config.repeats for subset in foreign.subsets} == {
        "hoge girl": 10,
        "style": 2,
    }
    assert {subset.reading.default_caption for subset in foreign.subsets} == {"hoge girl", "style"}
    assert [note.rpartition(": ")[2] for note in foreign.notes] == ["1 × 3_file", "0_never, plain"]
    reg = read_numbered_folders(tmp_path, regularisation=True)
    assert reg.notes[-1].startswith("regularisation pictures are repeated")
    assert reg.even_regularisation and all(subset.config.regularisation for subset in reg.subsets)


def test_a_folder_without_numbered_ones_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_data_dir: .* holds no folder such as 10_name"):
        read_numbered_folders(tmp_path, regularisation=False)
    with pytest.raises(InputError, match=r"reg_data_dir: .*gone"):
        read_numbered_folders(tmp_path / "gone", regularisation=True)


ONETRAINER: list[dict[str, Any]] = [
    {
        "name": "mine",
        "path": "pictures",
        "enabled": True,
        "type": "STANDARD",
        "include_subdirectories": False,
        "image_variations": 1,
        "balancing": 3.0,
        "balancing_strategy": "REPEATS",
        "loss_weight": 0.5,
        "image": {
            "enable_crop_jitter": True,
            "enable_random_flip": True,
            "enable_random_rotate": False,
            "random_rotate_max_angle": 5.0,
            "enable_resolution_override": True,
            "resolution_override": "768",
        },
        "text": {
            "prompt_source": "sample",
            "enable_tag_shuffling": True,
            "tag_delimiter": ",",
            "keep_tags_count": 2,
            "tag_dropout_enable": True,
            "tag_dropout_mode": "RANDOM",
            "tag_dropout_probability": 0.1,
        },
    },
    {"path": "off", "enabled": False, "image": {}, "text": {}},
    {"path": "check", "type": "VALIDATION", "image": {}, "text": {}},
]
SIMPLETUNER: list[dict[str, Any]] = [
    {
        "id": "mine",
        "type": "local",
        "dataset_type": "image",
        "instance_data_dir": "pictures",
        "caption_strategy": "textfile",
        "prepend_instance_prompt": True,
        "instance_prompt": "hoge",
        "repeats": 4,
        "resolution": 0.5625,
        "resolution_type": "area",
        "crop": True,
        "cache_dir_vae": "cache",
        "minimum_image_size": 0.25,
    },
    {
        "id": "reg",
        "type": "local",
        "instance_data_dir": "reg",
        "caption_strategy": "instanceprompt",
        "instance_prompt": "a girl",
        "resolution": 512,
        "is_regularisation_data": True,
    },
    {"id": "off", "type": "local", "instance_data_dir": "off", "disabled": True},
    {"id": "text", "type": "local", "dataset_type": "text_embeds", "cache_dir": "t"},
]


def changed(rows: list[dict[str, Any]], **values: Any) -> str:
    """The rows as JSON, with other values in the first."""
    first = json.loads(json.dumps(rows[0]))
    for key, value in values.items():
        place = next(
            (first[part] for part in ("image", "text") if key in first.get(part, {})), first
        )
        place[key] = value
    return json.dumps([first, *rows[1:]])


def test_onetrainer(tmp_path: Path) -> None:
    foreign = read(tmp_path, "concepts.json", changed(ONETRAINER))
    mine, check = foreign.subsets
    assert mine.folder == tmp_path / "pictures" and mine.reading.join_lines == ", "
    assert said(mine) == {
        "resolution": 768,
        "shuffle_tags": True,
        "keep_tokens": 2,
        "tag_dropout": 0.1,
        "flip": True,
        "loss_weight": 0.5,
        "caption": "tags",
        "repeats": 3,
    }
    assert (mine.heldout, check.heldout) == (None, 1.0)
    assert check.config.repeats == 1 and not check.config.shuffle_tags
    assert any("off is not enabled" in note for note in foreign.notes)
    (tmp_path / "prompt.txt").write_text("hoge girl\n")
    one = changed(ONETRAINER, prompt_source="concept", prompt_path="prompt.txt")
    assert read(tmp_path, "concepts.json", one).subsets[0].reading.default_caption == "hoge girl"


def test_simpletuner(tmp_path: Path) -> None:
    foreign = read(tmp_path, "multidatabackend.json", changed(SIMPLETUNER))
    mine, reg = foreign.subsets
    assert said(mine)["repeats"] == 5  # it counts from 0
    assert said(mine)["resolution"] == 768 and said(reg)["resolution"] == 512
    assert mine.reading.caption_prefix == "hoge" and mine.reading.prefix_stays
    assert reg.config.regularisation and reg.config.repeats == 1 and reg.heldout == 0.0
    assert reg.reading.default_caption == "a girl"
    assert any("off is disabled" in note for note in foreign.notes)
    assert any(note.startswith("minimum_image_size") for note in foreign.notes)


def test_the_prompt_alone_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "reg" / "1.png")
    (tmp_path / "reg" / "1.txt").write_text("other words")
    foreign = read(tmp_path, "multidatabackend.json", changed(SIMPLETUNER))
    reg = foreign.subsets[1]
    (picture,) = folder_pictures(reg.folder, reg.reading, "").pictures
    assert picture.tags == ("a girl",)


@pytest.mark.parametrize(
    ("rows", "values", "match"),
    [
        (ONETRAINER, {"balancing": 0.5}, r"\.balancing: 0\.5 — write a whole number"),
        (ONETRAINER, {"balancing_strategy": "SAMPLES"}, r"\.balancing_strategy: SAMPLES"),
        (ONETRAINER, {"type": "PRIOR_PREDICTION"}, r"\.type: PRIOR_PREDICTION"),
        (ONETRAINER, {"prompt_source": "filename"}, r"\.prompt_source: filename — is not read"),
        (ONETRAINER, {"tag_delimiter": ";"}, r"\.tag_delimiter"),
        (ONETRAINER, {"tag_dropout_mode": "FULL"}, r"\.tag_dropout_mode: FULL — write RANDOM"),
        (ONETRAINER, {"enable_random_rotate": True}, "enable_random_rotate = True"),
        (ONETRAINER, {"resolution_override": "big"}, r"\.resolution_override: big"),
        (ONETRAINER, {"path": "D:\train"}, r"\.path: D:"),
        (ONETRAINER, {"path": ""}, r"\.path: "),
        (ONETRAINER, {"loss_wieght": 2}, "did you mean 'loss_weight'"),
        (ONETRAINER, {"loss_weight": "much"}, r"\.loss_weight: much"),
        (ONETRAINER, {"image": 5}, r"\.image: 5 — must be a table"),
        (SIMPLETUNER, {"repeats": -1}, r"\.repeats: -1"),
        (SIMPLETUNER, {"repeats": "2"}, r"\.repeats: 2 — write a whole number"),
        (SIMPLETUNER, {"type": "aws"}, r"\.type: aws — is not read"),
        (SIMPLETUNER, {"dataset_type": "video"}, r"\.dataset_type: video"),
        (
            SIMPLETUNER,
            {"caption_strategy": "parquet"},
            r"\.caption_strategy: parquet — is not",
        ),
        (SIMPLETUNER, {"caption_strategy": "filename"}, r"\.caption_strategy: filename"),
        (SIMPLETUNER, {"only_instance_prompt": True, "instance_prompt": ""}, r"\.instance_prompt"),
        (SIMPLETUNER, {"resolution": 1024}, r"\.resolution: 1024 — write megapixels"),
        (SIMPLETUNER, {"resolution_type": "cm"}, r"\.resolution_type: cm"),
        (SIMPLETUNER, {"conditioning_data": "x"}, "conditioning_data = 'x'"),
        (SIMPLETUNER, {"instance_data_dir": None}, r"\.instance_data_dir"),
        (SIMPLETUNER, {"instance_dat_dir": "x"}, "did you mean 'instance_data_dir'"),
    ],
)
def test_a_wrong_value_of_a_list_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], values: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        read(tmp_path, "list.json", changed(rows, **values))


def test_a_list_without_pictures_is_refused(tmp_path: Path) -> None:
    for rows in (ONETRAINER[1:2], SIMPLETUNER[2:]):
        with pytest.raises(InputError, match="that is enabled"):
            read(tmp_path, "list.json", json.dumps(rows))
