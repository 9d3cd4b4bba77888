"""What transformers' own InternVL calls a tensor that was saved under another name.

The rules are those by which whole checkpoints are loaded; here they are used for tensors that do
not come through transformers, as those of adapters.
"""

import re

import torch

from backend.local.original import INTERNLM2_RENAMINGS, VISION_RENAMINGS, SplitGrouped
from backend.planner.shapes import TextShape

Parts = dict[str, torch.Tensor]
# peft wraps a model, or each of its parts, in two more layers of names.
WRAPPED = re.compile(r"(?<![^.])base_model\.model\.")
# In the original layout, and as transformers saves the -hf one: as versions before 4.52 had it.
PARTS = {
    r"^language_model\.model\.": "model.language_model.",
    r"^language_model\.lm_head\.": "lm_head.",
    r"^vision_tower\.": "model.vision_tower.",
    r"^multi_modal_projector\.": "model.multi_modal_projector.",
}
RENAMINGS = INTERNLM2_RENAMINGS | VISION_RENAMINGS | PARTS
VISION_FUSED, LANGUAGE_FUSED = ".attn.qkv.", ".attention.wqkv."
VISION_SPLIT = [f".attention.{name}_proj." for name in "qkv"]
LANGUAGE_SPLIT = [f".self_attn.{name}_proj." for name in "qkv"]


def rename(name: str, tensor: torch.Tensor, text: TextShape) -> Parts:
    """A saved tensor by transformers' names: one, or the three that it fuses along its rows.

    Raises `ValueError` if its rows do not divide as the fused ones do.
    """
    name = WRAPPED.sub("", name)
    for old, new in RENAMINGS.items():
        name = re.sub(old, new, name)
    if VISION_FUSED in name:
        names = [name.replace(VISION_FUSED, new) for new in VISION_SPLIT]
        return dict(zip(names, tensor.chunk(3), strict=True))
    if LANGUAGE_FUSED in name:
        names = [name.replace(LANGUAGE_FUSED, new) for new in LANGUAGE_SPLIT]
        split = SplitGrouped(text.kv_heads, text.heads // text.kv_heads)
        return split.convert({name: tensor}, [name], names)
    return {name: tensor}
