"""LoRA files with false headers, values that are not finite, or other content."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.hostile.case import Case, Place, Run, run
from tests.support.lora_files import SHAPES, write

Tensors = dict[str, tuple[str, list[int], bytes]]  # name → dtype, shape, bytes
Words = dict[str, str]
LAYER = "blocks.0.self_attn.q_proj"
PICKLE = b"\x80\x04cposix\nsystem\n(V touch pwned\ntR."


@cache
def good(layout: str = "common") -> bytes:
    with TemporaryDirectory() as folder:
        return write(Path(folder) / "a.safetensors", 1, layout=layout).read_bytes()  # type: ignore[arg-type]


def taken_apart(data: bytes) -> tuple[Tensors, Words]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    words = header.pop("__metadata__", {})
    body = data[8 + length :]
    return {
        name: (row["dtype"], row["shape"], body[slice(*row["data_offsets"])])
        for name, row in header.items()
    }, words


def put_together(tensors: Tensors, words: Mapping[str, Any] | None = None) -> bytes:
    header: dict[str, Any] = {} if words is None else {"__metadata__": words}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    return raw(json.dumps(header), body)


def raw(header: str | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def changed(change: Callable[[Tensors, Words], object], layout: str = "common") -> bytes:
    """A good file after `change` of its tensors and words."""
    tensors, words = taken_apart(good(layout))
    change(tensors, words)
    return put_together(tensors, words)


def key_of(role: str, tensors: Mapping[str, object]) -> str:
    """The tensor of the first layer that plays a role."""
    flat = LAYER.replace(".", "_")
    return next(key for key in sorted(tensors) if role in key and (LAYER in key or flat in key))


def set_tensor(
    role: str, dtype: str, shape: list[int], data: bytes, layout: str = "common"
) -> bytes:
    return changed(
        lambda tensors, words: tensors.update({key_of(role, tensors): (dtype, shape, data)}), layout
    )


def numbers(value: float, role: str = "lora_B") -> bytes:
    """One number of a tensor is `value`."""

    def change(tensors: Tensors, words: Words) -> None:
        key = key_of(role, tensors)
        dtype, shape, data = tensors[key]
        array = np.frombuffer(data, np.float32).copy()
        array[3] = value
        tensors[key] = (dtype, shape, array.tobytes())

    return changed(change)


def header_of(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A good file whose header was changed while its data stay."""
    data = good()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    return raw(json.dumps(header), data[8 + length :])


def row(**facts: object) -> bytes:
    """The facts of one tensor in the header are these."""
    return header_of(lambda header: header[key_of("lora_A", header)].update(facts))


def named(*keys: str) -> bytes:
    return put_together({key: ("F32", [4, 4], bytes(64)) for key in keys}, {})


def worded(**words: str) -> bytes:
    return changed(lambda tensors, old: old.update(words))


def renamed(old: str, new: str) -> bytes:
    """Keys in which something stands for something else."""
    tensors, words = taken_apart(good())
    return put_together({key.replace(old, new): row for key, row in tensors.items()}, words)


def without(*roles: str) -> bytes:
    return changed(lambda tensors, words: [tensors.pop(key_of(role, tensors)) for role in roles])


def doubled() -> bytes:
    tensors, words = taken_apart(good())
    return put_together(taken_apart(good("kohya"))[0] | tensors, words)


def repeated_key() -> bytes:
    data = good()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].rstrip()
    header = json.loads(text)
    key = key_of("lora_A", header)
    return raw(
        text[:-1] + f",{json.dumps(key)}:{json.dumps(header[key])}}}".encode(), data[8 + length :]
    )


DEEP = "[" * 200_000
f32 = struct.Struct("<f").pack
WRONG: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "seven-bytes": lambda: b"1234567",
    "eight-zeros": lambda: bytes(8),
    "text": lambda: b"no LoRA at all, but a text",
    "cut": lambda: good()[:-9],
    "cut-header": lambda: good()[:100],
    "longer": lambda: good() + b"more",
    "header-2-63": lambda: raw("{}", b"", 2**63),
    "header-2-64": lambda: raw("{}", b"", 2**64 - 1),
    "header-100-gb": lambda: raw("{}", b"", 10**11),
    "header-beyond": lambda: raw("{}", b"", 3),
    "header-no-json": lambda: raw("{no json}"),
    "header-not-utf8": lambda: raw(b'{"\xff": 1}'),
    "header-list": lambda: raw("[]"),
    "header-number": lambda: raw("5"),
    "header-deep": lambda: raw('{"a":' + DEEP),
    "header-empty": lambda: raw("{}"),
    "words-deep": lambda: raw('{"__metadata__":{"a":' + DEEP + "}}"),
    "words-list": lambda: put_together(taken_apart(good())[0], [1, 2]),  # type: ignore[arg-type]
    "words-numbers": lambda: put_together(taken_apart(good())[0], {"a": 1}),
    "words-null": lambda: header_of(lambda header: header.update(__metadata__="x")),
    "layer-twice": doubled,
    "offsets-beyond": lambda: row(data_offsets=[0, 10**9]),
    "offsets-negative": lambda: row(data_offsets=[-8, 0]),
    "offsets-turned": lambda: row(data_offsets=[64, 0]),
    "offsets-text": lambda: row(data_offsets="0,64"),
    "offsets-one": lambda: row(data_offsets=[0]),
    "offsets-2-70": lambda: row(data_offsets=[2**70, 2**70 + 8]),
    "shape-lies": lambda: row(shape=[4, 25]),
    "shape-negative": lambda: row(shape=[-4, -24]),
    "shape-overflow": lambda: row(shape=[2**32, 2**32]),
    "shape-text": lambda: row(shape="4x24"),
    "shape-nested": lambda: row(shape=[[4], [24]]),
    "shape-deep": lambda: set_tensor("lora_A", "F32", [1] * 40 + [4, 24], bytes(384)),
    "dtype-unknown": lambda: row(dtype="F31"),
    "dtype-number": lambda: row(dtype=32),
    "dtype-null": lambda: row(dtype=None),
    "all-share-bytes": lambda: header_of(
        lambda header: [
            one.update(data_offsets=[0, 384]) for name, one in header.items() if name[0] != "_"
        ]
    ),
    "nan": lambda: numbers(float("nan")),
    "inf": lambda: numbers(float("inf")),
    "minus-inf": lambda: numbers(float("-inf"), "lora_A"),
    "fp8": lambda: set_tensor("lora_A", "F8_E4M3", [4, 24], bytes(96)),
    "fp8-e5m2": lambda: set_tensor("lora_B", "F8_E5M2", [24, 4], bytes(96)),
    "int8": lambda: set_tensor("lora_A", "I8", [4, 24], bytes(96)),
    "bool": lambda: set_tensor("lora_A", "BOOL", [4, 24], bytes(96)),
    "int64": lambda: set_tensor("lora_A", "I64", [4, 24], bytes(768)),
    "complex": lambda: set_tensor("lora_A", "C64", [4, 24], bytes(768)),
    "0-d": lambda: set_tensor("lora_A", "F32", [], bytes(4)),
    "1-d": lambda: set_tensor("lora_A", "F32", [96], bytes(384)),
    "3-d": lambda: set_tensor("lora_A", "F32", [4, 24, 1], bytes(384)),
    "4-d": lambda: set_tensor("lora_A", "F32", [4, 24, 1, 1], bytes(384)),
    "rank-0": lambda: changed(
        lambda t, w: t.update(
            {key_of("lora_A", t): ("F32", [0, 24], b""), key_of("lora_B", t): ("F32", [24, 0], b"")}
        )
    ),
    "ranks-differ": lambda: set_tensor("lora_A", "F32", [3, 24], bytes(288)),
    "width-0": lambda: set_tensor("lora_A", "F32", [4, 0], b""),
    "other-width": lambda: set_tensor("lora_A", "F32", [4, 23], bytes(368)),
    "other-height": lambda: set_tensor("lora_B", "F32", [25, 4], bytes(400)),
    "no-up": lambda: without("lora_B"),
    "no-down": lambda: without("lora_A"),
    "nothing": lambda: put_together({}, {}),
    "alpha-many": lambda: set_tensor("alpha", "F32", [3], bytes(12), "kohya"),
    "alpha-none": lambda: set_tensor("alpha", "F32", [0], b"", "kohya"),
    "alpha-2-d": lambda: set_tensor("alpha", "F32", [2, 2], bytes(16), "kohya"),
    "alpha-nan": lambda: set_tensor("alpha", "F32", [], f32(float("nan")), "kohya"),
    "alpha-inf": lambda: set_tensor("alpha", "F32", [], f32(float("inf")), "kohya"),
    "alpha-bool": lambda: set_tensor("alpha", "BOOL", [], b"\x01", "kohya"),
    "alpha-alone": lambda: named("lora_unet_blocks_0_self_attn_q_proj.alpha"),
    "empty-key": lambda: named(""),
    "sdxl": lambda: named(
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight"
    ),
    "sd15": lambda: named(
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    ),
    "flux": lambda: named("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"),
    "text-encoder": lambda: named("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"),
    "key-escape": lambda: named(
        "diffusion_model.blocks.0.\x1b[31m\nonmodel: \u202e\u2028.lora_A.weight"
    ),
    "key-long": lambda: named("a" * 300_000),
    "key-surrogate": lambda: raw(
        '{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "many-keys": lambda: named(*(f"a.{i}" for i in range(3_000))),
    "block-999999999": lambda: renamed("blocks.2.", "blocks.999999999."),
    "block-minus": lambda: renamed("blocks.2.", "blocks.-2."),
    "block-digits": lambda: renamed("blocks.2.", "blocks.\u0663."),
    "block-long": lambda: renamed("blocks.2.", f"blocks.{'9' * 5_000}."),
    "block-02": lambda: renamed("blocks.2.", "blocks.02."),
    "stray-key": lambda: changed(lambda t, w: t.update({"../../x": ("F32", [1], bytes(4))})),
    "dora-columns": lambda: changed(
        lambda t, w: t.update(
            {
                key_of("lora_A", t).replace("lora_A.weight", "dora_scale"): (
                    "F32",
                    [1, 24],
                    bytes(96),
                )
            }
        )
    ),
    "loha-torn": lambda: changed(
        lambda t, w: t.update({f"diffusion_model.{LAYER}.hada_w1_a": ("F32", [24, 4], bytes(384))})
    ),
    "conditioner": lambda: renamed("blocks.2.self_attn.q_proj", "llm_adapter.blocks.2.nowhere"),
    "pickle": lambda: PICKLE,
    "torch-zip": lambda: b"PK\x03\x04" + bytes(60),
    "gguf": lambda: b"GGUF\x03\0\0\0" + bytes(60),
    "html": lambda: b"<!doctype html><html>not found</html>",
    "png": lambda: b"\x89PNG\r\n\x1a\n" + bytes(60),
    "lfs": lambda: b"version https://git-lfs.github.com/spec/v1\n",
    "zip-bomb": lambda: b"PK\x05\x06" + bytes(18),
    "peft-words-deep": lambda: worded(lora_adapter_metadata=DEEP),
    "peft-words-list": lambda: worded(lora_adapter_metadata="[]"),
    "peft-words-alpha": lambda: worded(lora_adapter_metadata='{"transformer.lora_alpha": "much"}'),
    "peft-words-nan": lambda: worded(lora_adapter_metadata='{"transformer.lora_alpha": NaN}'),
}
# The weights of these are whole, their metadata is odd. To read, refuse or warn is right.
ODD: dict[str, Callable[[], bytes]] = {
    "key-twice": repeated_key,
    "zeros": lambda: changed(
        lambda t, w: [t.update({k: (d, s, bytes(len(b)))}) for k, (d, s, b) in list(t.items())]
    ),
    "large": lambda: numbers(3e38),
    "denormal": lambda: numbers(1e-45),
    "alpha-0": lambda: set_tensor("alpha", "F32", [], f32(0), "kohya"),
    "alpha-minus": lambda: set_tensor("alpha", "F32", [], f32(-8), "kohya"),
    "alpha-1e30": lambda: set_tensor("alpha", "F32", [], f32(1e30), "kohya"),
    "alpha-one-of-1-d": lambda: set_tensor("alpha", "F32", [1], f32(2), "kohya"),
    "words-escape": lambda: worded(
        **{"modelspec.title": "\x1b[2J\u202e\u2028\nonmodel: x", "\x1b[0m": "y"}
    ),
    "words-alpha-nan": lambda: worded(ss_network_alpha="nan"),
    "words-alpha-text": lambda: worded(ss_network_alpha="much"),
    "words-alpha-inf": lambda: worded(ss_network_alpha="1e999"),
    "words-1-mb": lambda: worded(ss_tag_frequency="x" * 1_000_000),
    "words-tags-deep": lambda: worded(ss_tag_frequency=DEEP),
    "words-blocks": lambda: worded(
        **{"onmodel.blocks": "\x1b[1m", "modelspec.architecture": "[/x]"}
    ),
    "words-markup": lambda: worded(**{"modelspec.title": "[/nothing][bold]"}),
    "history-deep": lambda: worded(
        **{"onmodel.recipe": DEEP, "onmodel.schema": "1", "onmodel.payload_sha256": "0"}
    ),
    "history-list": lambda: worded(**{"onmodel.recipe": "[]", "onmodel.schema": "1"}),
    "history-text": lambda: worded(**{"onmodel.recipe": "no json"}),
    "history-odd-nodes": lambda: worded(
        **{"onmodel.recipe": '{"a": 5, "b": {"used": 7}, "c": null}', "onmodel.schema": "1"}
    ),
    "history-cycle": lambda: worded(
        **{"onmodel.recipe": '{"a":{"type":"run","used":["b"]},"b":{"type":"run","used":["a"]}}'}
    ),
    "history-number": lambda: worded(**{"onmodel.recipe": "5"}),
    "history-nan": lambda: worded(**{"onmodel.recipe": '{"a":{"type":"run","used":[],"x":NaN}}'}),
    "hash-lies": lambda: worded(sshs_model_hash="0" * 64),
    "licence-html": lambda: worded(**{"modelspec.license": "<script>alert(1)</script>"}),
}


def commands(path: str, codes: tuple[int, ...]) -> tuple[Run, ...]:
    return (
        run(
            "lora",
            "merge",
            "run",
            "{in}/good.safetensors",
            path,
            "-o",
            "{out}/merged.safetensors",
            codes=codes,
        ),
        run("lora", "convert", path, "-o", "{out}/converted.safetensors", codes=codes),
        run("release", "check", path, codes=(*codes, 1), findings=True),
        *([run("release", "lineage", path, codes=(0, 1, 2))] if 0 in codes else []),
    )


def _all_at_once(place: Place) -> None:
    for i, data in enumerate((*WRONG.values(), *ODD.values())):
        place.put(f"{i}.safetensors", data())


def _put(data: Callable[[], bytes]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        place.put("good.safetensors", good())
        place.put("odd.safetensors", data())

    return build


def _special(make: Callable[[Place, Path], object]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        place.put("good.safetensors", good())
        make(place, place.given / "odd.safetensors")

    return build


def _sparse(place: Place, path: Path) -> None:
    path.write_bytes(raw("{}", b"", 2**33))
    os.truncate(path, 2**34)


SPECIAL: dict[str, Callable[[Place, Path], object]] = {
    "missing": lambda place, path: None,
    "folder": lambda place, path: path.mkdir(),
    "pipe": lambda place, path: os.mkfifo(path),
    "link-to-itself": lambda place, path: path.symlink_to(path.name),
    "link-to-nothing": lambda place, path: path.symlink_to("gone"),
    "device": lambda place, path: path.symlink_to("/dev/zero"),
    "16-gib": _sparse,
}
PEFT: dict[str, str | bytes | None] = {
    "no-config": None,
    "text": "no json",
    "list": "[]",
    "number": "5",
    "null": "null",
    "deep": DEEP,
    "not-utf8": b"\xff\xfe",
    "alpha-text": '{"lora_alpha": "much"}',
    "alpha-nan": '{"lora_alpha": NaN}',
    "alpha-list": '{"lora_alpha": [1]}',
    "alpha-1e999": '{"lora_alpha": 1e999}',
    "alpha-null": '{"lora_alpha": null}',
    "pattern": '{"lora_alpha": 4, "alpha_pattern": {"(a+)+": 1}}',
    "dora": '{"lora_alpha": 4, "use_dora": true}',
    "alpha-digits": '{"lora_alpha": ' + "9" * 5_000 + "}",
}


def _peft(config: str | bytes | None) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        place.put("good.safetensors", good())
        place.put("adapter_model.safetensors", good(), below="odd")
        if config is not None:
            place.put("adapter_config.json", config, below="odd")

    return build


def _peft_pickle(place: Place) -> None:
    place.put("good.safetensors", good())
    place.put("adapter_model.bin", PICKLE, below="odd")
    place.put("adapter_config.json", '{"lora_alpha": 4}', below="odd")


FILE, FOLDER = "{in}/odd.safetensors", "{in}/odd"
assert LAYER in SHAPES
CASES = (
    *(Case(f"lora-{id}", _put(data), commands(FILE, (2,))) for id, data in WRONG.items()),
    *(Case(f"lora-odd-{id}", _put(data), commands(FILE, (0, 1, 2))) for id, data in ODD.items()),
    *(Case(f"lora-{id}", _special(make), commands(FILE, (2,))) for id, make in SPECIAL.items()),
    *(
        Case(f"lora-peft-{id}", _peft(config), commands(FOLDER, (2,))[:2])
        for id, config in PEFT.items()
    ),
    Case("lora-peft-pickle", _peft_pickle, commands(FOLDER, (2,))[:2]),
    Case(
        "loras-all-at-once",
        _all_at_once,
        (
            run(
                "doctor",
                "--base",
                "toon",
                *(f"--lora={{in}}/{i}.safetensors" for i in range(len(WRONG) + len(ODD))),
                codes=(1,),
                findings=True,
            ),
        ),
    ),
    Case(
        "lora-pickle-by-name",
        lambda place: place.put("odd.pt", PICKLE),
        (
            run("release", "check", "{in}/odd.pt", codes=(1, 2), findings=True),
            run("lora", "convert", "{in}/odd.pt", "-o", "{out}/x.safetensors"),
            run("doctor", "--base", "toon", "--lora", "{in}/odd.pt", codes=(1,), findings=True),
        ),
    ),
)
