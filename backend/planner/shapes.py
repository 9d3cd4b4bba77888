"""The shape of a checkpoint: every parameter's size, computed from a few numbers of its config.

Names are those of transformers' own `InternVLForConditionalGeneration` (5.24), in which both
layouts are loaded, so that a test can lay this list beside a real model. Knows nothing of bytes,
devices or files.
"""

from dataclasses import dataclass
from math import prod

VISION = "model.vision_tower"
PROJECTOR = "model.multi_modal_projector"
EMBEDDINGS = "model.language_model.embed_tokens"
LAYERS = "model.language_model.layers"
NORM = "model.language_model.norm"
ROTARY = "model.language_model.rotary_emb"
HEAD = "lm_head"

Parameters = dict[str, tuple[int, ...]]  # name → size of each dimension


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The vision tower. `tile` and `patch` are sides in px."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    rms_norm: bool = False  # else LayerNorm, which has biases
    qkv_bias: bool = False
    qk_norm: bool = False
    tile: int = 448
    patch: int = 14
    channels: int = 3
    positions: bool = True  # learned position embeddings
    mask_token: bool = False
    final_norm: bool = False

    @property
    def patches(self) -> int:
        """Patches of one tile."""
        return (self.tile // self.patch) ** 2


@dataclass(frozen=True, slots=True)
class TextShape:
    """The language part: a decoder with grouped key/value heads."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int  # rows of the embedding
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norm: bool = False  # Qwen3 norms each head of queries and keys

    @property
    def kv_width(self) -> int:
        """Numbers in the key, and again in the value, of one token in one layer."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Shape:
    """A whole checkpoint. `context` is the most tokens it was made for."""

    name: str
    vision: VisionShape
    text: TextShape
    context: int = 32_768
    shrink: int = 2  # patches merged per side on the way to tokens: 1 / downsample_ratio
    tied: bool = False  # lm_head is the embedding itself
    saved_as: str = "bfloat16"  # dtype of the files
    unconfirmed: bool = False  # the numbers were never seen in a published config
    own_rank: int = 0  # of a LoRA that fine-tuning left unmerged in the language part
    own_vision_rank: int = 0  # and in the vision tower

    @property
    def modules(self) -> dict[str, Parameters]:
        """What a device map places, in the order of a forward pass, with its parameters."""
        hidden, vocabulary = self.text.hidden, self.text.vocabulary
        layer = list_decoder_layer(self.text)
        layers = {f"{LAYERS}.{index}": layer for index in range(self.text.layers)}
        return {
            EMBEDDINGS: {"weight": (vocabulary, hidden)},
            ROTARY: {},
            VISION: list_vision_tower(self.vision),
            PROJECTOR: list_projector(self),
            **layers,
            NORM: {"weight": (hidden,)},
            HEAD: {} if self.tied else {"weight": (vocabulary, hidden)},
        }

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint has, a tied head not counted twice."""
        return sum(count(parameters) for parameters in self.modules.values())

    @property
    def saved_bytes(self) -> int:
        """Of the published files, which are in bfloat16."""
        return 2 * self.parameters

    @property
    def tokens_per_tile(self) -> int:
        """Tokens the language part reads for one tile."""
        return self.vision.patches // self.shrink**2


def count(parameters: Parameters) -> int:
    """Numbers in all of them."""
    return sum(prod(size) for size in parameters.values())


def list_vision_tower(vision: VisionShape) -> Parameters:
    """Parameters of InternViT, names relative to the tower."""
    hidden, patch = vision.hidden, vision.patch
    embeddings = "embeddings.patch_embeddings.projection"
    found: Parameters = {
        "embeddings.cls_token": (1, 1, hidden),
        f"{embeddings}.weight": (hidden, vision.channels, patch, patch),
        f"{embeddings}.bias": (hidden,),
    }
    if vision.mask_token:
        found["embeddings.mask_token"] = (1, 1, hidden)
    if vision.positions:
        found["embeddings.position_embeddings"] = (1, vision.patches + 1, hidden)
    layer = list_vision_layer(vision)
    for index in range(vision.layers):
        found |= {f"encoder.layer.{index}.{name}": size for name, size in layer.items()}
    if vision.final_norm:
        found |= _norm("layernorm", hidden, bias=True)
    return found


def list_vision_layer(vision: VisionShape) -> Parameters:
    """Parameters of one encoder layer."""
    hidden, ffn = vision.hidden, vision.ffn
    found: Parameters = {"lambda_1": (hidden,), "lambda_2": (hidden,)}
    for name in ("q_proj", "k_proj", "v_proj"):
        found |= _linear(f"attention.{name}", hidden, hidden, vision.qkv_bias)
    found |= _linear("attention.projection_layer", hidden, hidden, bias=True)
    if vision.qk_norm:
        found |= {"attention.q_norm.weight": (hidden,), "attention.k_norm.weight": (hidden,)}
    found |= _linear("mlp.fc1", hidden, ffn, bias=True)
    found |= _linear("mlp.fc2", ffn, hidden, bias=True)
    found |= _norm("layernorm_before", hidden, bias=not vision.rms_norm)
    return found | _norm("layernorm_after", hidden, bias=not vision.rms_norm)


def list_projector(shape: Shape) -> Parameters:
    """Parameters of the two-layer bridge from merged patches to tokens."""
    merged = shape.vision.hidden * shape.shrink**2
    hidden = shape.text.hidden
    return (
        _norm("layer_norm", merged, bias=True)
        | _linear("linear_1", merged, hidden, bias=True)
        | _linear("linear_2", hidden, hidden, bias=True)
    )


def list_decoder_layer(text: TextShape) -> Parameters:
    """Parameters of one decoder layer: Qwen2, Qwen3 and Llama differ in biases and norms only."""
    hidden, ffn, width = text.hidden, text.ffn, text.heads * text.head_dim
    found = _linear("self_attn.q_proj", hidden, width, text.qkv_bias)
    found |= _linear("self_attn.k_proj", hidden, text.kv_width, text.qkv_bias)
    found |= _linear("self_attn.v_proj", hidden, text.kv_width, text.qkv_bias)
    found |= _linear("self_attn.o_proj", width, hidden, text.output_bias)
    if text.head_norm:
        for name in ("q_norm", "k_norm"):
            found[f"self_attn.{name}.weight"] = (text.head_dim,)
    found |= _linear("mlp.gate_proj", hidden, ffn, text.mlp_bias)
    found |= _linear("mlp.up_proj", hidden, ffn, text.mlp_bias)
    found |= _linear("mlp.down_proj", ffn, hidden, text.mlp_bias)
    found |= _norm("input_layernorm", hidden, bias=False)
    return found | _norm("post_attention_layernorm", hidden, bias=False)


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Parameters:
    weight: Parameters = {f"{name}.weight": (outputs, inputs)}
    return weight | {f"{name}.bias": (outputs,)} if bias else weight


def _norm(name: str, width: int, bias: bool) -> Parameters:
    weight: Parameters = {f"{name}.weight": (width,)}
    return weight | {f"{name}.bias": (width,)} if bias else weight
