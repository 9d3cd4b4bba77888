"""A lean twin of transformers' `InternVLForConditionalGeneration`, for training only.

The same arithmetic with fused projections and without the generality: the vision tower of
InternVL (transformers 5.24, models/internvl) and the language model Qwen2. `training.export`
writes the weights into the real class. It knows nothing of scenes or of words.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Shape:
    """The sizes of the network; the defaults make 5.49 million parameters."""

    tile: int = 112
    patch: int = 14
    vision_width: int = 192
    vision_layers: int = 6
    vision_heads: int = 6
    vision_inner: int = 768
    width: int = 192
    layers: int = 5
    heads: int = 6
    inner: int = 512
    vocabulary: int = 1536
    rotation_base: float = 10_000.0
    context: int = 2048

    @property
    def grid(self) -> int:
        """Patches along one side of a tile."""
        return self.tile // self.patch

    @property
    def tokens_per_tile(self) -> int:
        return (self.grid // 2) ** 2


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention by plain batched products: [B, heads, length, head width] each.

    On a CPU the backward pass of the fused kernels is slower than this.
    """
    batch, heads, length, width = query.shape
    query, key, value = (
        part.reshape(batch * heads, length, width) for part in (query * width**-0.5, key, value)
    )
    if mask is None:
        scores = query @ key.transpose(1, 2)
    else:
        scores = torch.baddbmm(mask, query, key.transpose(1, 2))
    return (scores.softmax(-1) @ value).view(batch, heads, length, width)


class VisionBlock(nn.Module):
    """One layer of the vision tower."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.vision_width
        self.heads = shape.vision_heads
        self.before = nn.LayerNorm(width, eps=1e-6)
        self.after = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, shape.vision_inner)
        self.down = nn.Linear(shape.vision_inner, width)

    def forward(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        parts = self.qkv(self.before(states)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value).transpose(1, 2).reshape(batch, length, width)
        states = states + self.out(mixed)
        return states + self.down(functional.gelu(self.up(self.after(states))))


class TextBlock(nn.Module):
    """One layer of the language model."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.before = nn.RMSNorm(width, eps=1e-6)
        self.after = nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, width, bias=False)

    def forward(self, states: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = states.shape
        parts = self.qkv(self.before(states)).view(batch, length, 3, self.heads, -1)
        turned = parts[:, :, :2]
        first, second = turned.chunk(2, -1)
        turned = turned * cosine + torch.cat((-second, first), -1) * sine
        query, key = turned.permute(2, 0, 3, 1, 4).unbind(0)
        value = parts[:, :, 2].transpose(1, 2)
        mixed = attend(query, key, value, mask).transpose(1, 2).reshape(batch, length, width)
        states = states + self.out(mixed)
        gate, up = self.gate_up(self.after(states)).chunk(2, -1)
        return states + self.down(functional.silu(gate) * up)


class Network(nn.Module):
    """Vision tower, projector and language model, and a head that names what covers each patch.

    `patch_classes` is the width of that head's answer for one patch; zero leaves it out.
    """

    def __init__(self, shape: Shape, patch_classes: int = 0) -> None:
        super().__init__()
        self.shape = shape
        width, text_width = shape.vision_width, shape.width
        self.patch = nn.Linear(3 * shape.patch**2, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, shape.grid**2 + 1, width) * 0.02)
        self.vision = nn.ModuleList(VisionBlock(shape) for _ in range(shape.vision_layers))
        self.project_norm = nn.LayerNorm(4 * width, eps=1e-5)
        self.project_in = nn.Linear(4 * width, text_width)
        self.project_out = nn.Linear(text_width, text_width)
        self.words = nn.Embedding(shape.vocabulary, text_width)
        self.text = nn.ModuleList(TextBlock(shape) for _ in range(shape.layers))
        self.text_norm = nn.RMSNorm(text_width, eps=1e-6)
        self.patch_head = nn.Linear(text_width, 4 * patch_classes) if patch_classes else None
        self._initialise()
        cosine, sine = _rotations(shape)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 2 and not name.startswith("words"):
                leaves_a_block = name.endswith(("out.weight", "down.weight"))
                parameter.normal_(std=parameter.shape[1] ** -0.5 * (0.5 if leaves_a_block else 1))
        self.words.weight.normal_(std=0.05)

    def see(self, patches: Tensor, frozen: bool = False) -> Tensor:
        """Patches [T, grid², 3·patch²] to tokens [T, tokens per tile, width].

        Frozen, the tower itself learns nothing and only the projector does.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            start = self.first.expand(len(patches), -1, -1)
            states = torch.cat((start, self.patch(patches)), 1) + self.places
            for block in self.vision:
                states = block(states)
        folded = self.project_norm(_fold(states[:, 1:], self.shape.grid))
        return self.project_out(functional.gelu(self.project_in(folded)))

    def read(
        self,
        ids: Tensor,
        seen: Tensor | None,
        seen_at: Tensor,
        segments: Tensor,
        positions: Tensor,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Logits [wanted, vocabulary], or [B·length, vocabulary] when all are wanted.

        ids, segments, positions are [B, length]; `seen_at` and `wanted` index the flat B·length.
        A token sees the tokens before it of segment 0 and of its own segment.
        """
        batch, length = ids.shape
        states = self.words(ids)
        if seen is not None:
            flat = states.reshape(batch * length, -1)
            states = flat.index_copy(0, seen_at, seen.reshape(-1, flat.shape[1])).view_as(states)
        mask = _visible(segments, self.shape.heads, states.dtype)
        cosine, sine = self.cosine[positions], self.sine[positions]
        for block in self.text:
            states = block(states, cosine, sine, mask)
        states = states.reshape(batch * length, -1)
        if wanted is not None:
            states = states[wanted]
        return functional.linear(self.text_norm(states), self.words.weight)


def _rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions: [context, 1, 1, head width] each."""
    head = shape.width // shape.heads
    frequencies = shape.rotation_base ** (-torch.arange(0, head, 2).float() / head)
    angles = torch.outer(torch.arange(shape.context).float(), frequencies)
    angles = torch.cat((angles, angles), -1)[:, None, None]
    return angles.cos(), angles.sin()


def _fold(states: Tensor, grid: int) -> Tensor:
    """InternVL's pixel shuffle, version 2: [T, grid², width] to [T, grid²/4, 4·width]."""
    tiles, _, width = states.shape
    states = states.reshape(tiles, grid, grid // 2, 2 * width).permute(0, 2, 1, 3)
    states = states.reshape(tiles, grid // 2, grid // 2, 4 * width).permute(0, 2, 1, 3)
    return states.reshape(tiles, grid**2 // 4, 4 * width)


def _visible(segments: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """The additive mask: [B·heads, length, length]."""
    batch, length = segments.shape
    before = torch.ones(length, length, dtype=torch.bool).tril()
    same = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    mask = torch.zeros(batch, length, length, dtype=dtype)
    mask = mask.masked_fill_(~(before & same), float("-inf"))
    return mask[:, None].expand(batch, heads, length, length).reshape(-1, length, length)


def patchify(tiles: Tensor, patch: int = 14) -> Tensor:
    """uint8 [T, H, W, 3] to normalised patches [T, grid², 3·patch²], channels first in each."""
    count, height, _, _ = tiles.shape
    grid = height // patch
    pixels = (tiles.float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    pixels = pixels.view(count, grid, patch, grid, patch, 3).permute(0, 1, 3, 5, 2, 4)
    return pixels.reshape(count, grid * grid, 3 * patch * patch)
