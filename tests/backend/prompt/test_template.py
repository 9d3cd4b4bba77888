"""The chat template: labels, numbers and order of everything that a conversation may hold."""

from backend.conversation import Answer, Attachment, Conversation, Turn
from backend.prompt.template import Special, Text, Tiles, order_of, write_prompt
from tests.backend.prompt.pictures import image, video


def blocks(file: Attachment) -> tuple[int, ...]:
    return (1,) * int(file.path) if file.name.endswith("mp4") else (int(file.path),)


def write(*turns: Turn) -> list[str]:
    """What the users say, with <image> for a picture's place as the card writes it."""
    pieces = write_prompt(Conversation(turns), "S", blocks, recall=lambda answer: answer.text)
    text = ""
    for piece in pieces:
        if isinstance(piece, Text):
            text += piece.text
        elif isinstance(piece, Tiles):
            text += "<image>" if piece.count < 10 else f"<image of {piece.count}>"
        elif piece.token not in ("<img>", "</img>"):
            text += piece.token
    messages = text.split("<|im_start|>user\n")[1:]
    return [message.split("<|im_end|>")[0] for message in messages]


def answered(question: str, *files: Attachment, combined: bool = False) -> Turn:
    return Turn(question, files, combined, Answer("A"))


def test_one_picture_bears_no_number():
    assert write(Turn("Q", (image(3),))) == ["<image>\nQ"]


def test_several_pictures_are_numbered():
    assert write(Turn("Q", (image(1), image(2)))) == ["Image-1: <image>\nImage-2: <image>\nQ"]


def test_combined_pictures_share_one_place():
    assert write(Turn("Q", (image(6), image(7)), combined=True)) == ["<image of 13>\nQ"]


def test_one_combined_picture_is_a_picture():
    assert write(Turn("Q", (image(3),), combined=True)) == ["<image>\nQ"]


def test_without_a_picture_there_is_nothing_to_combine():
    assert write(Turn("Q", combined=True)) == ["Q"]
    assert write(Turn("Q", (video(1),), combined=True)) == ["Frame1: <image>\nQ"]


def test_numbers_run_on_through_the_conversation():
    first, second, third = write(
        answered("Q", image(1), image(2)), answered("R"), Turn("S", (image(3), image(4)))
    )
    assert first == "Image-1: <image>\nImage-2: <image>\nQ"
    assert second == "R"
    assert third == "Image-3: <image>\nImage-4: <image>\nS"


def test_a_later_picture_gives_the_first_its_number():
    assert write(answered("Q", image(1)), Turn("R", (image(2),))) == [
        "Image-1: <image>\nQ",
        "Image-2: <image>\nR",
    ]


def test_a_lone_later_picture_bears_no_number():
    assert write(answered("Hi"), Turn("Q", (image(1),))) == ["Hi", "<image>\nQ"]


def test_combined_pictures_are_counted():
    assert write(
        answered("Q", image(6), image(7), combined=True), Turn("R", (image(1),))
    ) == ["<image of 13>\nQ", "Image-3: <image>\nR"]  # fmt: skip


def test_a_video_is_its_frames():
    assert write(Turn("Q", (video(3),))) == ["Frame1: <image>\nFrame2: <image>\nFrame3: <image>\nQ"]


def test_several_videos_are_numbered_and_each_begins_at_its_first_frame():
    assert write(answered("Q", video(2), video(1)), Turn("R", (video(1),))) == [
        "Video-1:\nFrame1: <image>\nFrame2: <image>\nVideo-2:\nFrame1: <image>\nQ",
        "Video-3:\nFrame1: <image>\nR",
    ]


def test_a_picture_and_a_video_stand_in_the_order_of_the_files():
    assert write(Turn("Q", (image(1), video(2)))) == [
        "<image>\nFrame1: <image>\nFrame2: <image>\nQ"
    ]
    assert write(Turn("Q", (video(1), image(1), image(1)))) == [
        "Frame1: <image>\nImage-1: <image>\nImage-2: <image>\nQ"
    ]


def test_combined_pictures_stand_where_the_first_stood():
    files = (video(1), image(6), video(2, "b.mp4"), image(7))
    turn = Turn("Q", files, combined=True)
    assert write(turn) == [
        "Video-1:\nFrame1: <image>\n<image of 13>\nVideo-2:\nFrame1: <image>\nFrame2: <image>\nQ"
    ]
    assert order_of(turn) == (files[0], files[1], files[3], files[2])


def test_separate_files_keep_their_order():
    files = (video(1), image(6), video(2), image(7))
    assert order_of(Turn("Q", files)) == files


def test_the_same_file_may_come_twice():
    assert write(Turn("Q", (image(1), image(1)))) == ["Image-1: <image>\nImage-2: <image>\nQ"]


def test_a_person_may_empty_the_system_prompt():
    pieces = write_prompt(Conversation(system=""), "official", blocks, recall=str)
    assert list(pieces)[:3] == [Special("<|im_start|>"), Text("system\n"), Text("")]


def test_an_answered_conversation_opens_no_further_answer():
    turn = answered("Q")
    pieces = list(write_prompt(Conversation((turn,)), "S", blocks, lambda answer: "mine"))
    assert pieces[-3:] == [Text("mine"), Special("<|im_end|>"), Text("\n")]
