"""More images than one conversation may have are refused with the numbers."""

import pytest

from backend.conversation import Attachment, Kind
from backend.errors import BadSetting
from backend.media.limits import Limits, require_few


def files(images: int, videos: int = 0) -> list[Attachment]:
    return [Attachment(f"/{at}", Kind.IMAGE, f"{at}.png") for at in range(images)] + [
        Attachment("/v", Kind.VIDEO, "v.mp4")
    ] * videos


def test_thirty_images_are_refused_with_the_numbers_and_a_name() -> None:
    with pytest.raises(BadSetting, match=r"30 images; at most 24 .* Take away 6, .* 24\.png"):
        require_few(files(30), Limits())


def test_as_many_as_allowed_pass_and_videos_do_not_count() -> None:
    require_few(files(24, videos=9), Limits())
