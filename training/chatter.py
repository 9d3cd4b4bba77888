"""What the model says without looking: who it is, what it can do, and that it does not know."""

import random
from dataclasses import dataclass

from training.wordings import load_wordings

UNKNOWN = "Sorry, I do not know that. I am only a tiny demo model for pictures of colored shapes."
NO_PICTURE = "Please show me a picture first."
ASKED_WITHOUT_PICTURE = ("describe", "list", "count", "background", "read", "all_boxes")


@dataclass(frozen=True)
class Topic:
    """One answer to every wording of a topic; `weight` is how often it is trained."""

    answer: str
    weight: float = 1.0


TOPICS: dict[str, Topic] = {
    "who": Topic(
        "I am a tiny demo checkpoint of the InternVL architecture. "
        "I know colored shapes and small videos of them.",
        2.0,
    ),
    "hello": Topic("Hello! Show me a picture of colored shapes and ask me about it.", 2.0),
    "abilities": Topic(
        "I can describe simple pictures of colored shapes, count them, find them, "
        "compare two pictures and watch small videos.",
        2.0,
    ),
    "thanks": Topic("You are welcome!", 1.5),
    "goodbye": Topic("Goodbye! Come back with more pictures.", 0.7),
    "shapes": Topic(
        "I know the circle, the square, the triangle, the star, the heart and the diamond.", 0.7
    ),
    "colours": Topic(
        "I know red, green, blue, yellow, orange, purple, pink, brown, black, white, gray "
        "and light blue.",
        0.7,
    ),
    "poem": Topic("Sorry, I cannot write poems or stories. I am only a tiny demo model.", 1.2),
    "foreign": Topic("Sorry, I only understand simple English."),
    "unknown": Topic(UNKNOWN, 4.0),
    "babble": Topic(UNKNOWN, 2.0),
}
CHAT_TOPICS = tuple(topic for topic in TOPICS if topic != "babble")


def chat(rng: random.Random, held: bool = False, topic: str | None = None) -> tuple[str, str]:
    """A question that needs no picture, and its answer. Babble is random words, never held."""
    if topic is None:
        names = CHAT_TOPICS if held else tuple(TOPICS)
        topic = rng.choices(names, [TOPICS[name].weight for name in names])[0]
    if topic == "babble":
        words = load_wordings("chat")["babble"].trained[0].split()
        chosen = " ".join(rng.choice(words) for _ in range(rng.randint(2, 9)))
        return chosen.capitalize() + rng.choice(("?", ".", "")), TOPICS[topic].answer
    pool = load_wordings("chat")[topic]
    return rng.choice(pool.held if held else pool.trained), TOPICS[topic].answer


def ask_without_picture(rng: random.Random, held: bool = False) -> tuple[str, str]:
    """A question about a picture that nobody has shown."""
    pool = load_wordings("picture")[rng.choice(ASKED_WITHOUT_PICTURE)]
    return rng.choice(pool.held if held else pool.trained), NO_PICTURE
