"""The seven sizes of InternVL3 as shapes, so that a plan needs neither network nor weights.

Language part and vision tower of each size are the model card's; the numbers are those of the
base models' configs, and the totals equal the published files. The 9B's numbers are InternLM3's
defaults in the InternLM2 layout and were never seen in a published config: unconfirmed.
"""

import re

from backend.planner.shapes import Shape, TextShape, VisionShape

VIT_300M = VisionShape(layers=24, hidden=1024, heads=16, ffn=4096, qkv_bias=True)
VIT_6B = VisionShape(layers=45, hidden=3200, heads=25, ffn=12_800, rms_norm=True, qk_norm=True)
QWEN_ROWS = 151_674  # Qwen2.5's vocabulary and nine tokens for pictures, references and boxes
INTERNLM_ROWS = 128_521


def _qwen(layers: int, hidden: int, heads: int, kv_heads: int, ffn: int) -> TextShape:
    return TextShape(
        layers, hidden, heads, kv_heads, hidden // heads, ffn, QWEN_ROWS, qkv_bias=True
    )


SIZES = (
    Shape("1B", VIT_300M, _qwen(24, 896, 14, 2, 4864)),
    Shape("2B", VIT_300M, _qwen(28, 1536, 12, 2, 8960)),
    Shape("8B", VIT_300M, _qwen(28, 3584, 28, 4, 18_944)),
    Shape("9B", VIT_300M, TextShape(48, 4096, 32, 2, 128, 10_240, INTERNLM_ROWS), unconfirmed=True),
    Shape("14B", VIT_300M, _qwen(48, 5120, 40, 8, 13_824)),
    Shape("38B", VIT_6B, _qwen(64, 5120, 40, 8, 27_648)),
    Shape("78B", VIT_6B, _qwen(80, 8192, 64, 8, 29_568)),
)

_NAME = re.compile(
    r"(?:OpenGVLab/)?(?:InternVL3-)?(\d+B)(?:-Instruct|-Pretrained)?(?:-hf)?", re.IGNORECASE
)


def find_size(model: str) -> Shape | None:
    """The shape of `8B`, `8B-Instruct`, `InternVL3-8B-hf`, `OpenGVLab/InternVL3-8B`; else `None`.

    Training stages share their size's shape; quantised files (`-AWQ`) do not.
    """
    match = _NAME.fullmatch(model.strip())
    name = match[1].upper() if match else ""
    return next((shape for shape in SIZES if shape.name == name), None)
