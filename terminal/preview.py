"""What a dry run prints: the object whose keys others rely on, and the same for a person.

Pure: a prompt and looks at its files in, text out.
"""

from dataclasses import dataclass

from backend.conversation import Attachment
from backend.media.reader import ImageLook, VideoLook
from backend.prompt.budget import Budget
from backend.prompt.compose import Prompt


@dataclass(frozen=True, slots=True)
class Preview:
    """A prompt, and each file of its conversation with what it looks like to the model."""

    prompt: Prompt
    files: tuple[tuple[Attachment, ImageLook | VideoLook], ...]

    @property
    def images(self) -> list[tuple[Attachment, ImageLook]]:
        """The pictures, in the order of the conversation."""
        return [(file, look) for file, look in self.files if isinstance(look, ImageLook)]

    @property
    def videos(self) -> list[tuple[Attachment, VideoLook]]:
        """The videos, in the order of the conversation."""
        return [(file, look) for file, look in self.files if isinstance(look, VideoLook)]


def preview_object(preview: Preview) -> dict[str, object]:
    """The object of `--dry-run --json`. Sizes in px, times in seconds."""
    budget = preview.prompt.budget
    return {
        "prompt": preview.prompt.text,
        "images": [_image_object(file, look) for file, look in preview.images],
        "videos": [_video_object(file, look) for file, look in preview.videos],
        "tokens": {
            "text": budget.text,
            "visual": budget.visual,
            "total": budget.total,
            "limit": budget.limit,
        },
    }


def _image_object(file: Attachment, look: ImageLook) -> dict[str, object]:
    return {
        "file": file.path,
        "width": look.width,
        "height": look.height,
        "columns": look.columns,
        "rows": look.rows,
        "tiles": look.tiles,
    }


def _video_object(file: Attachment, look: VideoLook) -> dict[str, object]:
    return {
        "file": file.path,
        "frame_count": look.frame_count,
        "fps": round(look.fps, 3),
        "frames": [
            {"index": frame.index, "time_s": round(frame.time_s, 3)} for frame in look.frames
        ],
    }


def preview_text(preview: Preview) -> str:
    """The same for a person: the files, the count, and the prompt as the model reads it."""
    return "\n".join(
        [
            *(_image_line(file, look) for file, look in preview.images),
            *(_video_line(file, look) for file, look in preview.videos),
            _budget_line(preview.prompt.budget),
            "",
            preview.prompt.text,
        ]
    )


def _image_line(file: Attachment, look: ImageLook) -> str:
    size = f"{look.width} × {look.height} px, {look.columns} × {look.rows}"
    noun = "tile" if look.tiles == 1 else "tiles"
    return _with_notice(f"{file.name}: {size} → {look.tiles} {noun}", look.notice)


def _video_line(file: Attachment, look: VideoLook) -> str:
    times = ", ".join(f"{frame.time_s:.2f}" for frame in look.frames)
    noun = "frame" if look.frame_count == 1 else "frames"
    length = f"{look.frame_count:,} {noun}, {look.duration_s:.1f} s at {look.fps:.3g} fps"
    return _with_notice(f"{file.name}: {length} → {len(look.frames)} at {times} s", look.notice)


def _with_notice(line: str, notice: str) -> str:
    return f"{line} ({notice})" if notice else line


def _budget_line(budget: Budget) -> str:
    return f"{budget.visual:,} visual + {budget.text:,} text tokens of {budget.limit:,}"
