"""The names of colours, forms and places, and how each looks.

Every colour has several usual shades for training and others that only the second renderer uses.
"""

import math

RGB = tuple[int, int, int]
Point = tuple[float, float]

SHADES: dict[str, tuple[RGB, ...]] = {
    "red": ((220, 40, 40), (255, 0, 0), (200, 20, 30)),
    "green": ((40, 170, 60), (0, 128, 0), (0, 220, 0), (46, 139, 87)),
    "blue": ((50, 80, 220), (0, 0, 255), (30, 60, 170), (30, 110, 230)),
    "yellow": ((245, 220, 40), (255, 255, 0), (250, 210, 30)),
    "orange": ((245, 140, 30), (255, 165, 0), (255, 120, 10)),
    "purple": ((140, 60, 180), (128, 0, 128), (110, 50, 200)),
    "pink": ((255, 150, 190), (255, 192, 203), (250, 110, 180)),
    "brown": ((120, 75, 40), (139, 69, 19), (100, 60, 35)),
    "black": ((15, 15, 15), (0, 0, 0), (35, 35, 40)),
    "white": ((252, 252, 252), (255, 255, 255), (240, 240, 240)),
    "gray": ((128, 128, 128), (150, 150, 155), (110, 110, 110), (180, 180, 180)),
    "light blue": ((150, 210, 240), (173, 216, 230), (135, 206, 250)),
}
SECOND_SHADES: dict[str, tuple[RGB, ...]] = {
    "red": ((220, 20, 60), (178, 34, 34)),
    "green": ((34, 139, 34), (60, 179, 113), (50, 205, 50)),
    "blue": ((65, 105, 225), (0, 0, 205), (0, 71, 171)),
    "yellow": ((255, 215, 0), (255, 236, 80)),
    "orange": ((255, 140, 0), (255, 110, 40)),
    "purple": ((148, 0, 211), (102, 51, 153)),
    "pink": ((255, 105, 180), (255, 160, 170)),
    "brown": ((160, 82, 45), (110, 60, 25)),
    "black": ((10, 10, 14), (28, 28, 28)),
    "white": ((255, 250, 245), (245, 245, 250)),
    "gray": ((120, 120, 125), (169, 169, 169)),
    "light blue": ((176, 224, 230), (140, 200, 245)),
}
COLOURS = tuple(SHADES)
SHAPE_COLOURS = COLOURS[:10]
BACKGROUND_WEIGHTS: dict[str, float] = {
    "white": 30, "black": 12, "gray": 12, "light blue": 10, "yellow": 5, "green": 5, "pink": 5,
    "blue": 5, "orange": 3, "purple": 3, "red": 3, "brown": 3,
}  # fmt: skip
FORMS = ("circle", "square", "triangle", "star", "heart", "diamond")
PLACES: dict[tuple[int, int], str] = {
    (0, 0): "at the top left",
    (0, 1): "at the top",
    (0, 2): "at the top right",
    (1, 0): "on the left",
    (1, 1): "in the center",
    (1, 2): "on the right",
    (2, 0): "at the bottom left",
    (2, 1): "at the bottom",
    (2, 2): "at the bottom right",
}
DIRECTIONS: dict[str, tuple[int, int]] = {
    "to the right": (1, 0),
    "to the left": (-1, 0),
    "up": (0, -1),
    "down": (0, 1),
}


def colour_distance(first: RGB, second: RGB) -> float:
    """Euclidean distance in RGB, 0 to 441."""
    return math.dist(first, second)


def outline(form: str) -> list[Point]:
    """The corners of `form` around the origin, within a circle of about radius one."""
    if form == "circle":
        return [(math.cos(k * math.pi / 36), math.sin(k * math.pi / 36)) for k in range(72)]
    if form == "square":
        return [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    if form == "triangle":
        return [(0.0, -0.95), (0.95, 0.8), (-0.95, 0.8)]
    if form == "star":
        return [_on_ray(1.0 if k % 2 == 0 else 0.42, k * math.pi / 5) for k in range(10)]
    if form == "heart":
        return [_heart(k * math.pi / 42) for k in range(84)]
    return [(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)]


def _on_ray(length: float, angle: float) -> Point:
    return length * math.sin(angle), -length * math.cos(angle)


def _heart(angle: float) -> Point:
    rise = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle)
    return 16 * math.sin(angle) ** 3 / 17, -(rise - math.cos(4 * angle)) / 17
