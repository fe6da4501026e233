"""LoRA files that no reader may take, as strangers and broken disks make them. Each is for the toon
base but one fault.

`FILES` maps a fault's name to what writes it; a writer gets the path of a file that is not there
yet.
"""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onmodel.lora.layouts import BLOCKS_KEY

LAYER = "blocks.7.self_attn.q_proj"
WIDTH = 192
DOTTED = f"diffusion_model.{LAYER}"
FLAT = "lora_unet_blocks_7_self_attn_q_proj"
SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
}

Tensors = dict[str, tuple[str, list[int], bytes]]
Writer = Callable[[Path], object]


def floats(*shape: int, fill: float = 0.1) -> tuple[str, list[int], bytes]:
    return "F32", list(shape), np.full(shape, fill, np.float32).tobytes()


def of_type(dtype: str, *shape: int) -> tuple[str, list[int], bytes]:
    return dtype, list(shape), b"\1" * (SIZES.get(dtype, 1) * int(np.prod(shape)))


def plain(**changed: Any) -> Tensors:
    """A sound LoRA in the common layout; `changed` replaces or adds tensors by a short name, None
    takes one out."""
    short = {
        "down": f"{DOTTED}.lora_A.weight",
        "up": f"{DOTTED}.lora_B.weight",
        "alpha": f"{DOTTED}.alpha",
    }
    tensors: Tensors = {short["down"]: floats(4, WIDTH), short["up"]: floats(WIDTH, 4)}
    for key, value in changed.items():
        tensors.pop(short.get(key, key), None)
        if value is not None:
            tensors[short.get(key, key)] = value
    return tensors


def pack(tensors: Tensors, words: dict[str, Any] | None = None) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": words} if words is not None else {}
    payload = b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(payload), len(payload) + len(data)],
        }
        payload += data
    return header, payload


def write(path: Path, header: Any, payload: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(
        (len(text) if length is None else length).to_bytes(8, "little") + text + payload
    )


def tensors(**changed: Any) -> Writer:
    return lambda path: write(path, *pack(plain(**changed)))


def words(**said: Any) -> Writer:
    return lambda path: write(path, *pack(plain(), said))


def lycoris(**shapes: tuple[int, int]) -> Writer:
    return lambda path: write(
        path, *pack({f"{FLAT}.{role}": floats(*shape) for role, shape in shapes.items()})
    )


def header(change: Callable[[dict[str, Any]], object]) -> Writer:
    """A sound file whose header was changed afterwards."""

    def writer(path: Path) -> None:
        table, payload = pack(plain(), {})
        change(table)
        write(path, table, payload)

    return writer


def row(table: dict[str, Any]) -> dict[str, Any]:
    return table[f"{DOTTED}.lora_A.weight"]  # type: ignore[no-any-return]


def peft(config: Any, **changed: Any) -> Writer:
    """A PEFT folder; a config that is bytes is written as it is, None leaves it out."""

    def writer(path: Path) -> None:
        path.mkdir()
        write(path / "adapter_model.safetensors", *pack(plain(**changed)))
        if config is not None:
            text = config if isinstance(config, bytes) else json.dumps(config).encode()
            (path / "adapter_config.json").write_bytes(text)

    return writer


def data(content: bytes) -> Writer:
    return lambda path: path.write_bytes(content)


class Spy:
    """A pickle of it makes a folder where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Spy(path.with_name("executed")), protocol=4))


def cut(path: Path) -> None:
    table, payload = pack(plain())
    write(path, table, payload[:-4])


SHORT = floats(4, WIDTH)
# Sound by themselves, and for another base.
MISFITS: dict[str, Writer] = {
    "wrong columns": tensors(down=floats(4, WIDTH + 1)),
    "wrong rows": tensors(up=floats(WIDTH // 2, 4)),
    "columns of the published base": tensors(down=floats(4, 2048)),
    "rank for width": tensors(down=floats(WIDTH, 4), up=floats(4, WIDTH)),
}
FILES: dict[str, Writer] = {
    "0-d down": tensors(down=floats()),
    "1-d down": tensors(down=floats(WIDTH)),
    "3-d down": tensors(down=floats(4, WIDTH, 1)),
    "4-d both": tensors(down=floats(4, WIDTH, 1, 1), up=floats(WIDTH, 4, 1, 1)),
    "rank 0": tensors(down=floats(0, WIDTH), up=floats(WIDTH, 0)),
    "no columns": tensors(down=floats(4, 0)),
    "no rows": tensors(up=floats(0, 4)),
    "rank mismatch": tensors(down=floats(8, WIDTH)),
    "no up": tensors(up=None),
    "no down": tensors(down=None),
    "alpha alone": tensors(down=None, up=None, alpha=floats()),
    "no tensors": lambda path: write(path, {}),
    "alpha of several": tensors(alpha=floats(4)),
    "alpha of none": tensors(alpha=floats(0)),
    "alpha NaN": tensors(alpha=floats(fill=float("nan"))),
    "alpha infinite": tensors(alpha=floats(fill=float("inf"))),
    "alpha negative": tensors(alpha=floats(fill=-4.0)),
    "alpha huge": tensors(alpha=floats(fill=3e38), up=floats(WIDTH, 4, fill=1e3)),
    "alpha bool": tensors(alpha=of_type("BOOL")),
    "alpha fp8": tensors(alpha=of_type("F8_E4M3")),
    "NaN": tensors(up=floats(WIDTH, 4, fill=float("nan"))),
    "infinite": tensors(down=floats(4, WIDTH, fill=float("-inf"))),
    "product overflows": tensors(down=floats(4, WIDTH, fill=1e30), up=floats(WIDTH, 4, fill=1e30)),
    "beyond float32": tensors(up=("F64", [WIDTH, 4], np.full((WIDTH, 4), 1e300).tobytes())),
    **{
        dtype: tensors(up=of_type(dtype, WIDTH, 4))
        for dtype in ("I64", "I32", "I8", "U8", "BOOL", "F8_E4M3")
    },
    "unknown dtype": tensors(up=of_type("Q4", WIDTH, 4)),
    "exotic dtype": tensors(up=of_type("F8_E8M0", WIDTH, 4)),
    "kohya and dotted": tensors(
        **{f"{FLAT}.lora_down.weight": SHORT, f"{FLAT}.lora_up.weight": floats(WIDTH, 4)}
    ),
    "two spellings of down": tensors(**{f"{DOTTED}.lora_down.weight": SHORT}),
    "control characters": tensors(**{"\x1b[2J\u202ered\n.lora_A.weight": SHORT}),
    "long key": tensors(**{"x" * 10_000: SHORT}),
    "slow key": tensors(**{"input_blocks_1_" * 600: SHORT}),
    "empty key": tensors(**{"": SHORT}),
    "stray key": tensors(**{"model.norm.weight": SHORT}),
    "far block": tensors(**{"diffusion_model.blocks.999999999.mlp.layer1.lora_A.weight": SHORT}),
    "block of digits": tensors(
        **{f"diffusion_model.blocks.{'9' * 900}.mlp.layer1.lora_A.weight": SHORT}
    ),
    "loha of two sizes": lycoris(
        hada_w1_a=(192, 2), hada_w1_b=(2, 192), hada_w2_a=(96, 2), hada_w2_b=(2, 192)
    ),
    "loha without product": lycoris(
        hada_w1_a=(192, 3), hada_w1_b=(2, 192), hada_w2_a=(192, 2), hada_w2_b=(2, 192)
    ),
    "loha with a part missing": lycoris(hada_w1_a=(192, 2), hada_w1_b=(2, 192), hada_w2_a=(192, 2)),
    "loha that swells": lycoris(
        hada_w1_a=(192, 1200), hada_w1_b=(1200, 192), hada_w2_a=(192, 1200), hada_w2_b=(1200, 192)
    ),
    "lokr without product": lycoris(lokr_w1=(12, 12), lokr_w2_a=(16, 3), lokr_w2_b=(2, 16)),
    "lokr of two kinds": lycoris(
        lokr_w1=(12, 12), lokr_w1_a=(12, 1), lokr_w1_b=(1, 12), lokr_w2=(16, 16)
    ),
    "lokr alone": lycoris(lokr_w1=(12, 12)),
    "SDXL": lambda path: write(
        path,
        *pack(
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (
                    floats(1, 2048)
                )
            }
        ),
    ),
    "text encoder alone": lambda path: write(
        path, *pack({"lora_te_layers_0_self_attn_q_proj.lora_down.weight": floats(1, 1024)})
    ),
    "text conditioner": tensors(
        **{"lora_unet_llm_adapter_blocks_0_self_attn_q_proj.lora_down.weight": SHORT}
    ),
    "OFT": tensors(**{f"{DOTTED}.oft_blocks": SHORT}),
    "bias difference": tensors(**{"diffusion_model.blocks.0.self_attn.q_proj.diff_b": floats(32)}),
    "norm of two sides": tensors(**{"diffusion_model.t_embedding_norm.diff": floats(3, 4, 5)}),
    "blocks that are no number": words(**{BLOCKS_KEY: "x" * 9_000}),
    "blocks of many digits": words(**{BLOCKS_KEY: "9" * 9_000}),
    "blocks in another script": words(**{BLOCKS_KEY: "²"}),
    "another payload": words(**{"onmodel.payload_sha256": "0" * 64}),
    "peft words": words(
        lora_adapter_metadata=json.dumps({"transformer.r": "x", "transformer.lora_alpha": 1})
    ),
    "words that are no text": words(a=3),
    "words that are a list": header(lambda table: table.update(__metadata__=[1])),
    "shape of text": header(lambda table: row(table).update(shape="x")),
    "shape of floats": header(lambda table: row(table).update(shape=[4.0, WIDTH])),
    "negative size": header(lambda table: row(table).update(shape=[-4, -WIDTH])),
    "sizes that overflow": header(lambda table: row(table).update(shape=[2**40, 2**40])),
    "dtype of a number": header(lambda table: row(table).update(dtype=32)),
    "no dtype": header(lambda table: row(table).pop("dtype")),
    "row of a list": header(lambda table: table.update(x=[1, 2])),
    "offsets that overlap": header(
        lambda table: row(table).update(data_offsets=[4, 4 + 16 * WIDTH])
    ),
    "offsets backwards": header(lambda table: row(table).update(data_offsets=[16 * WIDTH, 0])),
    "offsets beyond the end": header(lambda table: row(table).update(data_offsets=[0, 2**62])),
    "three offsets": header(lambda table: row(table).update(data_offsets=[0, 1, 2])),
    "gap": header(lambda table: table.pop(f"{DOTTED}.lora_A.weight")),
    "trailing bytes": lambda path: write(path, pack(plain())[0], pack(plain())[1] + b"more"),
    "truncated": cut,
    "header is a list": lambda path: write(path, [1]),
    "header is null": lambda path: write(path, b"null"),
    "header is no JSON": lambda path: write(path, b'{"a": '),
    "header is no UTF-8": lambda path: write(path, b'{"\xff": 1}'),
    "header of half a pair": lambda path: write(path, b'{"__metadata__":{"a":"\\ud800"}}'),
    "header nested deep": lambda path: write(path, b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "header of too many bytes": lambda path: write(path, b"{}", length=200 * 2**20),
    "header of all bytes": lambda path: write(path, b"{}", length=2**64 - 1),
    "empty": data(b""),
    "eight bytes": data(b"\0" * 8),
    "GGUF": data(b"GGUF" + b"\0" * 100),
    "zip pickle": data(b"PK\x03\x04" + b"\0" * 100),
    "pickle": old_pickle,
    "web page": data(b"<!DOCTYPE html><title>404</title>"),
    "LFS pointer": data(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "nothing": lambda path: None,
    "peft without config": peft(None),
    "peft config deep": peft(b'{"a":' + b"[" * 100_000),
    "peft config torn": peft(b'{"r": 4'),
    "peft config a list": peft([1]),
    "peft r text": peft({"r": "x", "lora_alpha": 4}),
    "peft r 0": peft({"r": 0, "lora_alpha": 4}),
    "peft r 1e9": peft({"r": 1e9, "lora_alpha": 4}),
    "peft another r": peft({"r": 8, "lora_alpha": 4}),
    "peft alpha text": peft({"r": 4, "lora_alpha": "x" * 9_000}),
    "peft alpha NaN": peft(b'{"r": 4, "lora_alpha": NaN}'),
    "peft alpha negative": peft({"r": 4, "lora_alpha": -1}),
    "peft target_modules": peft({"r": 4, "lora_alpha": 4, "target_modules": 3}),
    "peft rank_pattern": peft({"r": 4, "lora_alpha": 4, "rank_pattern": {".*": 2}}),
    "peft LoKr without r": peft({"peft_type": "LOKR", "alpha": 4}),
    "peft VeRA": peft({"peft_type": "VERA", "r": 4}),
}
