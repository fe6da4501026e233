"""The files of each observer, and the toon world's own."""

from pathlib import Path

TOON_ASSETS = Path(__file__).parents[2] / "toon" / "assets"
FILES: dict[str, tuple[str, ...]] = {
    "tagger": ("model.onnx", "selected_tags.csv"),
    "identity": ("model_feat.onnx", "model_metrics.onnx"),
    "detectors": ("model.onnx",),
    "corruption": ("model.onnx", "meta.json"),
    "aesthetic": ("model.onnx", "meta.json"),
    "style_embedding": ("model.onnx", "preprocessor_config.json"),
    "copy_embedding": ("model.onnx", "preprocessor_config.json"),
    "content_embedding": ("model.onnx", "preprocessor_config.json"),
}
TOON_OWN = {
    "tagger": "tagger",
    "identity": "identity",
    "detectors": "detector",
    "corruption": "corruption",
}
