"""Models that look at pictures, in files that are broken or not what their folder says."""

import os
from collections.abc import Callable
from functools import cache

from tests.hostile.case import ROOT, Case, Place, run
from tests.hostile.pictures import encoded

ASSETS = ROOT / "onmodel" / "toon" / "assets"


@cache
def asset(name: str) -> bytes:
    return (ASSETS / name).read_bytes()


TAGGER: dict[str, tuple[bytes | None, bytes | None]] = {  # model.onnx and selected_tags.csv
    "nothing": (None, None),
    "no-model": (None, asset("tagger/selected_tags.csv")),
    "no-labels": (asset("tagger/model.onnx"), None),
    "empty-model": (b"", asset("tagger/selected_tags.csv")),
    "garbage-model": (bytes(range(256)) * 40, asset("tagger/selected_tags.csv")),
    "cut-model": (asset("tagger/model.onnx")[:100_000], asset("tagger/selected_tags.csv")),
    "text-model": (b"<html>not found</html>", asset("tagger/selected_tags.csv")),
    "pickle-model": (
        b"\x80\x04cposix\nsystem\n(V touch pwned\ntR.",
        asset("tagger/selected_tags.csv"),
    ),
    "zeros-model": (bytes(100_000), asset("tagger/selected_tags.csv")),
    "lfs-model": (
        b"version https://git-lfs.github.com/spec/v1\n",
        asset("tagger/selected_tags.csv"),
    ),
    "flipped-head": (b"\xff" + asset("tagger/model.onnx")[1:], asset("tagger/selected_tags.csv")),
    "empty-labels": (asset("tagger/model.onnx"), b""),
    "binary-labels": (asset("tagger/model.onnx"), bytes(range(256))),
    "utf-16-labels": (asset("tagger/model.onnx"), "tag_id,name".encode("utf-16")),
    "other-labels": (asset("tagger/model.onnx"), b"a,b\n1,2\n"),
    "few-labels": (
        asset("tagger/model.onnx"),
        b"".join(asset("tagger/selected_tags.csv").splitlines(True)[:9]),
    ),
    "many-labels": (
        asset("tagger/model.onnx"),
        asset("tagger/selected_tags.csv") + b"999,more,0,1\n",
    ),
    "label-limit": (
        asset("tagger/model.onnx"),
        asset("tagger/selected_tags.csv") + b"9," + b"x" * 200_000 + b",0,1\n",
    ),
    "label-category": (
        asset("tagger/model.onnx"),
        asset("tagger/selected_tags.csv").replace(b",0,", b",x,"),
    ),
    "label-rows": (
        asset("tagger/model.onnx"),
        asset("tagger/selected_tags.csv").replace(b",", b";"),
    ),
    "other-model": (asset("corruption/model.onnx"), asset("tagger/selected_tags.csv")),
    "detector-model": (asset("detector/model.onnx"), asset("tagger/selected_tags.csv")),
}
IDENTITY: dict[str, tuple[bytes | None, bytes | None]] = {  # model_feat.onnx and model_metrics.onnx
    "garbage-features": (b"garbage" * 99, asset("identity/model_metrics.onnx")),
    "empty-metrics": (asset("identity/model_feat.onnx"), b""),
    "cut-features": (
        asset("identity/model_feat.onnx")[:5_000],
        asset("identity/model_metrics.onnx"),
    ),
    "turned": (asset("identity/model_metrics.onnx"), asset("identity/model_feat.onnx")),
    "tagger-features": (asset("tagger/model.onnx"), asset("identity/model_metrics.onnx")),
    "no-metrics": (asset("identity/model_feat.onnx"), None),
}
IMPORT = ("dataset", "import", "{in}/pictures", "--out", "{out}/work")


def _folder(
    names: tuple[str, str], files: tuple[bytes | None, bytes | None]
) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _pictures(place)
        (place.given / "odd").mkdir()
        for name, data in zip(names, files, strict=True):
            if data is not None:
                place.put(name, data, below="odd")

    return build


def _pictures(place: Place) -> None:
    for i in range(2):
        place.put(f"{i}.png", encoded(size=(64, 64 + i)), below="pictures")
        place.put(f"{i}.txt", "1girl, backgwa, smile", below="pictures")


def _special(make: Callable[[str], object]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _pictures(place)
        place.put("selected_tags.csv", asset("tagger/selected_tags.csv"), below="odd")
        make(str(place.given / "odd" / "model.onnx"))

    return build


def _elsewhere(place: Place) -> None:
    """A network whose weights lie, so it says, in a file outside of its folder."""
    import onnx
    from onnx import TensorProto, helper

    weights = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../../elsewhere/secret.txt"
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "odd", sides[:1], sides[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    _folder(("model.onnx", "selected_tags.csv"), (None, asset("tagger/selected_tags.csv")))(place)
    place.put("model.onnx", onnx.ModelProto.SerializeToString(model), below="odd")


def _audit(option: str) -> tuple[str, ...]:
    return ("dataset", "audit", "{out}/work", "-c", "{sheet}", option, "{in}/odd")


CASES = (
    *(
        Case(
            f"tagger-{id}",
            _folder(("model.onnx", "selected_tags.csv"), files),
            (run(*IMPORT, codes=(0,)), run(*_audit("--tagger"), says=("odd",))),
        )
        for id, files in TAGGER.items()
    ),
    *(
        Case(
            f"identity-{id}",
            _folder(("model_feat.onnx", "model_metrics.onnx"), files),
            (run(*IMPORT, codes=(0,)), run(*_audit("--identity"), says=("odd",))),
        )
        for id, files in IDENTITY.items()
    ),
    *(
        Case(
            f"tagger-{id}",
            _special(make),
            (run(*IMPORT, codes=(0,)), run(*_audit("--tagger"), says=("odd",))),
        )
        for id, make in {
            "folder": os.mkdir,
            "pipe": os.mkfifo,
            "device": lambda path: os.symlink("/dev/zero", path),
            "link-to-itself": lambda path: os.symlink(path, path),
        }.items()
    ),
    Case(
        "tagger-weights-elsewhere",
        _elsewhere,
        (run(*IMPORT, codes=(0,)), run(*_audit("--tagger"), says=("odd",))),
    ),
)
