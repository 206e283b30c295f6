"""Training samples: picture and label move together, kinds come as asked, nothing overflows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.errors import DatasetError
from edge_seg.training import augment, outlines
from edge_seg.training.augment import Renderer
from edge_seg.training.recipe import Recipe
from edge_seg.training.store import Entry, PictureStore, render_store


def entry(group: str, *, height: int = 90, width: int = 70) -> Entry:
    """A picture whose red tells where the person is, so that misplacement shows."""
    target = np.zeros((height, width), np.uint8)
    if group != "room":
        cv2.circle(target, (width // 2, height // 2), height // 4, 255, -1)
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[:, :, 2] = target
    return Entry(group, group, picture, np.dstack([target, np.full_like(target, 255)]))


def recipe(*, composites: float = 0.0, rooms: float = 0.0, **shares: float) -> Recipe:
    """Labelled photographs, but for these shares."""
    data = {"unlabelled": 0.0, "composites": composites, "rooms": rooms, "seed": 5, **shares}
    return Recipe.from_dict(data)


def renderer(folder: Path, groups: list[str], wanted: Recipe) -> Renderer:
    render_store([entry(group) for group in groups], folder)
    return Renderer(PictureStore(folder), wanted)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Geometry alone: colour and damage would hide where things are."""
    monkeypatch.setattr(augment, "recolour", lambda rng, picture: picture)
    monkeypatch.setattr(augment, "degrade", lambda rng, picture: picture)


@pytest.mark.parametrize(("composites", "small"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
def test_picture_and_label_move_together(
    tmp_path: Path, plain: None, composites: float, small: float
) -> None:
    mixture = recipe(composites=composites, small=small)
    samples = renderer(tmp_path, ["labelled", "cutout", "room"], mixture)
    seen = 0
    for number in range(60):
        picture, target, weight = samples.sample(number, 64)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert target.shape == weight.shape == (64, 64)
        red = picture[:, :, 0].astype(int)  # RGB: red is the person, whatever the warp
        inside = cv2.erode((target > 200).astype(np.uint8), np.ones((5, 5))) > 0
        outside = (cv2.dilate((target > 20).astype(np.uint8), np.ones((5, 5))) == 0) & (
            weight == 255
        )
        seen += bool(inside.any())
        assert not inside.any() or red[inside].min() > 110
        assert not outside.any() or red[outside].max() < 100
    assert seen > 20


def test_pixels_from_beyond_the_picture_do_not_count(tmp_path: Path, plain: None) -> None:
    samples = renderer(tmp_path, ["labelled"], recipe())
    weights = [samples.sample(number, 64)[2] for number in range(60)]
    shares = [float((weight == 0).mean()) for weight in weights]
    assert max(shares) > 0, "some samples must reach beyond the picture"
    assert np.mean(shares) < 0.2


def test_kinds_come_as_often_as_the_mixture_says(tmp_path: Path) -> None:
    samples = renderer(tmp_path, ["labelled", "room"], recipe(rooms=0.3))
    empty = [not samples.sample(number, 32)[1].any() for number in range(300)]
    # Binomial, 300 draws at 0.3: six standard deviations are 0.16. A crop may miss the person.
    assert 0.16 < np.mean(empty) < 0.5


def test_a_store_without_rooms_or_people_still_gives_samples(tmp_path: Path) -> None:
    only_people = renderer(tmp_path / "a", ["labelled"], Recipe(seed=5))
    only_rooms = renderer(tmp_path / "b", ["room"], recipe())
    for number in range(20):
        only_people.sample(number, 32)
        assert not only_rooms.sample(number, 32)[1].any()


def test_samples_do_not_depend_on_what_came_before(tmp_path: Path) -> None:
    samples = renderer(tmp_path, ["labelled", "cutout", "room"], Recipe(seed=5))
    forward = [samples.sample(number, 48)[0] for number in range(30)]
    backward = [samples.sample(number, 48)[0] for number in reversed(range(30))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert len({picture.tobytes() for picture in forward}) == 30


def test_some_samples_are_dark_noisy_or_jpeg_blocky(tmp_path: Path) -> None:
    samples = renderer(tmp_path, ["labelled"], recipe())
    pictures = [samples.sample(number, 64)[0].astype(float) for number in range(200)]
    means = np.array([picture.mean() for picture in pictures])
    rough = np.array([np.abs(np.diff(picture, axis=1)).mean() for picture in pictures])
    assert (means < 0.5 * np.median(means)).mean() > 0.01
    assert (rough > 2 * np.median(rough)).mean() > 0.05


def test_motion_blur_keeps_brightness() -> None:
    for seed in range(30):
        kernel = augment._motion_kernel(np.random.default_rng(seed))
        assert kernel.sum() == pytest.approx(1.0) and np.count_nonzero(kernel) > 2


def test_what_stands_before_the_person_is_not_the_person(tmp_path: Path, plain: None) -> None:
    """A green room's piece over the lower edge: no person there, and it counts."""
    person, room = entry("labelled"), entry("room")
    room.picture[:] = (0, 255, 0)
    render_store([person, room], tmp_path)
    samples = Renderer(PictureStore(tmp_path), recipe())
    hidden = 0
    for number in range(200):
        picture, target, weight = samples.sample(number, 64)
        green = (picture[:, :, 1] > 250) & (picture[:, :, 0] < 5)
        hidden += bool(green.any())
        assert not target[green].any() and (weight[green] == 255).all()
        assert green.sum() <= 0.5 * green.size and (not green.any() or green[-1].any())
    # Binomial, 200 draws at 0.1: five standard deviations are 21.
    assert 2 < hidden < 41


def test_crops_are_upright_and_landscape() -> None:
    generator = np.random.default_rng(0)
    boxes = [augment.crop_box(generator, 120, 90) for _ in range(400)]
    aspects = np.array([width / height for _, _, width, height in boxes])
    assert (aspects < 0.9).mean() > 0.3 and (aspects > 1.2).mean() > 0.1


def test_a_landscape_picture_gives_upright_crops_too() -> None:
    """A site's frames are all of one form; the next camera may hang the other way round."""
    generator = np.random.default_rng(0)
    boxes = [augment.crop_box(generator, 90, 160) for _ in range(400)]
    aspects = np.array([width / height for _, _, width, height in boxes])
    assert (aspects < 0.9).mean() > 0.15 and (aspects > 1.2).mean() > 0.3
    assert all(0 < x < 160 and 0 < y < 90 for x, y, _, _ in boxes)


def test_half_a_store_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="render it again"):
        PictureStore(tmp_path)
    render_store([entry("labelled")], tmp_path)
    (tmp_path / "planes.bin").write_bytes(b"short")
    with pytest.raises(DatasetError, match=r"planes\.bin"):
        PictureStore(tmp_path)
    with pytest.raises(DatasetError, match="found none"):
        render_store([], tmp_path)


def test_a_store_gives_back_what_was_put_in(tmp_path: Path) -> None:
    entries = [entry("room", height=31, width=17), entry("labelled")]
    render_store(entries, tmp_path)
    store = PictureStore(tmp_path)
    assert len(store) == 2 and store.names == ["room", "labelled"]
    for index, original in enumerate(entries):
        picture, planes = store[index]
        np.testing.assert_array_equal(picture, original.picture)
        np.testing.assert_array_equal(planes, original.planes)


def test_a_store_that_is_being_read_may_be_rendered_anew(tmp_path: Path) -> None:
    render_store([entry("labelled")] * 30, tmp_path)
    store = PictureStore(tmp_path)
    render_store([entry("room", height=31, width=17)], tmp_path)
    assert len(PictureStore(tmp_path)) == 1
    np.testing.assert_array_equal(store[29][0], entry("labelled").picture)


def test_a_full_disk_leaves_no_half_store(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from edge_seg.errors import OutputError\n"
        "from edge_seg.training.store import render_store\n"
        "from tests.test_augment import entry\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    render_store([entry('labelled')] * 20, Path(sys.argv[1]))\n"
        "except OutputError as error:\n"
        "    print('refused', error)\n"
    )
    line = [sys.executable, "-c", script, str(tmp_path / "store")]
    done = subprocess.run(line, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert "refused" in done.stdout and "free space" in done.stdout, done.stderr
    assert not list((tmp_path / "store").iterdir())


def test_a_card_shows_nobody_and_all_of_it_counts(tmp_path: Path, plain: None) -> None:
    samples = renderer(tmp_path, ["labelled"], recipe(cards=1.0))
    pictures = []
    for number in range(200):
        picture, target, weight = samples.sample(number, 64)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert not target.any() and (weight == 255).all()
        pictures.append(picture.astype(int))
    assert sum(np.ptp(p, axis=(0, 1)).max() == 0 for p in pictures) >= 10, (
        "one colour: a covered lens"
    )
    assert sum(p.mean() < 16 for p in pictures) >= 10, "black"
    lively = [p for p in pictures if np.abs(np.diff(p, axis=0)).mean() > 20]
    assert len(lively) >= 10, "bars, checks, snow"


def test_small_people_are_small_and_anywhere_in_the_frame(tmp_path: Path, plain: None) -> None:
    """The person here is a disc of half of its picture's height, not touching its lower edge."""
    heights, middles = [], []
    samples = renderer(tmp_path, ["labelled", "cutout", "room"], recipe(composites=1.0, small=1.0))
    for number in range(300):
        _, target, _ = samples.sample(number, 128)
        _, _, stats, middle = cv2.connectedComponentsWithStats((target > 127).astype(np.uint8))
        if len(stats) == 2:
            heights.append(int(stats[1, cv2.CC_STAT_HEIGHT]))
            middles.append(float(middle[1, 1]) / 128)
    assert len(heights) > 100 and np.quantile(heights, 0.9) <= 0.6 / 2 * 128 + 3
    assert min(middles) < 0.2 and max(middles) > 0.8 and 0.3 < float(np.median(middles)) < 0.6


def test_decoys_stand_out_of_the_room_and_are_nobody(tmp_path: Path, plain: None) -> None:
    """The room here is of one colour: what is neither that nor in the label is a decoy."""
    seen = {}
    for decoys in (0.0, 1.0):
        folder = tmp_path / f"{decoys}"
        mixture = recipe(composites=1.0, decoys=decoys)
        samples = renderer(folder, ["labelled", "cutout", "room"], mixture)
        seen[decoys] = 0
        for number in range(60):
            picture, target, weight = samples.sample(number, 64)
            away = cv2.dilate((target > 5).astype(np.uint8), np.ones((5, 5))) == 0
            strange = np.abs(picture.astype(int) - (0, 60, 60)).max(axis=2) > 20
            seen[decoys] += int(np.count_nonzero(strange & away)) > 40
            assert (weight == 255).all()
    assert seen[0.0] == 0
    assert seen[1.0] >= 40, "some are hidden by people, or of nearly the room's own colour"


@pytest.mark.parametrize("tall", [0.2, 0.35, 0.5])
def test_a_post_is_as_tall_as_asked_and_seldom_wider_than_that(tall: float) -> None:
    heights, slim = [], 0
    for seed in range(200):
        shape = outlines.post(np.random.default_rng(seed), 256, tall)
        assert shape.dtype == np.uint8 and set(np.unique(shape)) <= {0, 255}
        rows, columns = np.nonzero(shape)
        whole = len(rows) and 0 < rows.min() and rows.max() < 255
        if whole and 0 < columns.min() and columns.max() < 255:
            heights.append(np.ptp(rows) / 256)
            slim += np.ptp(columns) < np.ptp(rows)
    assert len(heights) > 20 and slim > 0.9 * len(heights)
    assert tall - 0.02 <= float(np.median(heights)) < 1.25 * tall


def test_cards_come_as_often_as_asked_and_some_people_stand_before_one(
    tmp_path: Path, plain: None
) -> None:
    samples = renderer(tmp_path / "a", ["labelled"], recipe(cards=0.3))
    empty = sum(not samples.sample(number, 64)[1].any() for number in range(300))
    assert 65 <= empty <= 120
    before = renderer(tmp_path / "b", ["cutout", "room"], recipe(composites=0.9, cards=0.01))
    others = 0  # the room of these tests is one colour
    for number in range(300):
        picture, target, _ = before.sample(number, 64)
        others += bool(target.any() and np.abs(picture[0, :, 1:].astype(int) - 60).max() > 40)
    assert 5 <= others <= 60
