"""Scenes come from their seed alone, and their truth agrees with their pixels."""

import random

import numpy as np
import pytest

from training.comparisons import draw_pair
from training.films import draw_film
from training.labels import FORM_CLASSES, label_patches
from training.oddities import draw_oddity, draw_sign
from training.palette import FORMS, SECOND_SHADES, SHADES
from training.renderers import SECOND, TRAINED, Renderer
from training.scenes import TILE, Scene, draw_scene, squeeze


def tiles_of(kind: str, renderer: Renderer, seed: int) -> list[np.ndarray]:
    rng = random.Random(seed)
    if kind == "film":
        return list(draw_film(rng, renderer).tiles)
    if kind == "pair":
        return [tile for scene in draw_pair(rng, renderer) for tile in scene.tiles]
    draw = {"scene": draw_scene, "sign": draw_sign, "oddity": draw_oddity}[kind]
    return list(draw(rng, renderer).tiles)


@pytest.mark.parametrize("renderer", [TRAINED, SECOND], ids=lambda renderer: renderer.name)
@pytest.mark.parametrize("kind", ["scene", "sign", "oddity", "pair", "film"])
def test_the_same_seed_draws_the_same_pixels(kind: str, renderer: Renderer) -> None:
    first, again = tiles_of(kind, renderer, 7), tiles_of(kind, renderer, 7)
    assert len(first) == len(again)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    other = tiles_of(kind, renderer, 8)
    assert len(other) != len(first) or not np.array_equal(first[0], other[0])
    assert first[0].shape == (TILE, TILE, 3)


def test_the_second_renderer_shares_no_shade_with_the_trained_one() -> None:
    for colour, shades in SECOND_SHADES.items():
        assert not set(shades) & set(SHADES[colour])
    assert not set(SECOND.fonts) & set(TRAINED.fonts)
    assert SECOND.scale[0] > TRAINED.scale[1]


def colour_inside(scene: Scene, number: int) -> np.ndarray:
    shape = scene.shapes[number]
    return np.asarray(scene.picture)[int(shape.y), int(shape.x)].astype(int)


def test_a_shape_shows_its_fill_where_the_truth_says_it_stands() -> None:
    rng, looked_at = random.Random(3), 0
    while looked_at < 40:
        scene = draw_scene(rng)
        for number, shape in enumerate(scene.shapes):
            assert abs(colour_inside(scene, number) - np.array(shape.fill)).max() <= 45
            looked_at += 1


def test_boxes_lie_inside_the_picture_and_around_the_middle_of_their_shape() -> None:
    rng = random.Random(4)
    for _ in range(50):
        scene = draw_scene(rng)
        for shape in scene.shapes:
            left, top, right, bottom = scene.box(shape)
            assert 0 <= left < shape.x / scene.picture.width < right <= 1
            assert 0 <= top < shape.y / scene.picture.height < bottom <= 1


def test_patch_labels_name_every_form_of_the_scene() -> None:
    rng = random.Random(5)
    for _ in range(30):
        scene = draw_scene(rng)
        labels = label_patches(scene)
        assert labels.shape == (64, 6)
        assert labels[:, 0].max() < FORM_CLASSES
        named = {FORMS[int(form) - 1] for form in labels[:, 0] if form}
        assert named <= {shape.form for shape in scene.shapes}
        assert bool(named) == bool(scene.shapes)


def test_a_film_moves_its_mover_the_way_it_says() -> None:
    rng = random.Random(6)
    for _ in range(20):
        film = draw_film(rng)
        if film.mover is None:
            assert np.array_equal(film.tiles[0].shape, film.tiles[-1].shape)
            continue
        first, last = film.frames[0].shapes[0], film.frames[-1].shapes[0]
        moved = {
            "to the right": last.x - first.x,
            "to the left": first.x - last.x,
            "down": last.y - first.y,
            "up": first.y - last.y,
        }
        assert max(moved, key=moved.__getitem__) == film.direction
        still = film.frames[0].shapes[1:], film.frames[-1].shapes[1:]
        assert still[0] == still[1]


def test_any_aspect_is_squeezed_to_one_tile() -> None:
    rng = random.Random(8)
    for _ in range(10):
        assert squeeze(draw_scene(rng).picture).shape == (TILE, TILE, 3)
