"""Data sets on disk: lists, folders, every form of label, and every way they can be wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_seg.calibration import dataset
from edge_seg.errors import DatasetError

TRUTH = np.array([[0, 1, 1, 0], [0, 1, 1, 255], [0, 0, 1, 255]], np.uint8)


def write_palette(path: Path, plane: np.ndarray) -> None:
    """A pseudo-colour PNG, as PP-HumanSeg14K has them: index 1 is VOC's dark red."""
    image = Image.fromarray(plane)
    image = image.convert("P") if image.mode != "P" else image
    image.putpalette([0, 0, 0, 128, 0, 0] + [0, 0, 0] * 253 + [224, 224, 192])
    image.putdata(plane.ravel().tolist())
    image.save(path)


def write_pair(folder: Path, stem: str, size: tuple[int, int] = (3, 4)) -> str:
    """A picture and a 0/1 label; returns the list's line."""
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"images/{stem}.png"), np.full((*size, 3), 90, np.uint8))
    label = np.zeros(size, np.uint8)
    label[0, 0] = 1
    cv2.imwrite(str(folder / f"masks/{stem}.png"), label)
    return f"images/{stem}.png masks/{stem}.png\n"


def test_palette_label_is_read_as_class_numbers(tmp_path: Path) -> None:
    write_palette(tmp_path / "label.png", TRUTH)
    assert cv2.imread(str(tmp_path / "label.png")).max() > 1, "the file must really hold colours"
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), TRUTH)


def test_a_palette_label_without_person_keeps_its_ignored_pixels(tmp_path: Path) -> None:
    plane = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)
    write_palette(tmp_path / "label.png", plane)
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), plane)


def test_grey_label_of_0_and_1_keeps_255_as_ignore(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "label.png"), TRUTH)
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), TRUTH)


@pytest.mark.parametrize("form", ["grey", "rgb", "one bit"])
def test_white_on_black_label_makes_255_the_person(tmp_path: Path, form: str) -> None:
    person = TRUTH == 1
    white = person.astype(np.uint8) * 255
    image = Image.fromarray(white)
    image = {"grey": image, "rgb": image.convert("RGB"), "one bit": image.convert("1")}[form]
    image.save(tmp_path / "label.png")
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), person)


def test_a_palette_of_plain_greys_is_read_as_the_greys_it_shows(tmp_path: Path) -> None:
    """Pillow's convert("P") of a black and white mask: 255 is white there, not "ignore"."""
    person = TRUTH == 1
    Image.fromarray(person.astype(np.uint8) * 255).convert("P").save(tmp_path / "label.png")
    assert Image.open(tmp_path / "label.png").mode == "P"
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), person)


def test_a_palette_whose_colours_deny_its_numbers_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray((TRUTH != 1).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "label.png")
    with pytest.raises(DatasetError, match=r"label\.png.*white for 0 and black for 1"):
        dataset.load_label(tmp_path / "label.png")


def test_a_mask_in_the_alpha_channel_is_no_picture_full_of_person(tmp_path: Path) -> None:
    white = np.where(TRUTH == 1, 255, 0).astype(np.uint8)
    colours = np.full((*TRUTH.shape, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "label.png"), np.dstack([colours, white]))
    with pytest.raises(DatasetError, match="transparent; save the alpha channel"):
        dataset.load_label(tmp_path / "label.png")
    cv2.imwrite(str(tmp_path / "label.png"), np.dstack([white] * 4))  # says the same twice
    np.testing.assert_array_equal(dataset.load_label(tmp_path / "label.png"), TRUTH == 1)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.array([[0, 2, 7]], np.uint8), r"\[2, 7\]"),
        (np.array([[[0, 128, 0]]], np.uint8), "mode RGB"),
        (np.array([[0, 1]], np.uint16), "mode I;16"),
    ],
)
def test_a_label_with_no_meaning_is_refused_by_name(
    tmp_path: Path, array: np.ndarray, word: str
) -> None:
    cv2.imwrite(str(tmp_path / "label.png"), array)
    with pytest.raises(DatasetError, match=word) as caught:
        dataset.load_label(tmp_path / "label.png")
    assert str(tmp_path / "label.png") in str(caught.value)


def test_a_cut_label_and_a_picture_as_label_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "whole.png"), np.random.default_rng(0).integers(0, 2, (64, 64)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    cv2.imwrite(str(tmp_path / "picture.jpg"), np.zeros((4, 4), np.uint8))
    for name in ("cut.png", "picture.jpg", "missing.png"):
        with pytest.raises(DatasetError, match=name):
            dataset.load_label(tmp_path / name)


def test_a_label_that_announces_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "label.png"), np.zeros((4, 4), np.uint8))
    data = bytearray((tmp_path / "label.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "label.png").write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="label.png"):
        dataset.load_label(tmp_path / "label.png")


def test_a_list_is_read_in_order_relative_to_its_folder(tmp_path: Path) -> None:
    lines = [write_pair(tmp_path, stem) for stem in ("b_0002", "a_0001")]
    (tmp_path / "train.txt").write_text("".join(lines))
    pairs = dataset.read_list(tmp_path / "train.txt")
    assert [pair.image.name for pair in pairs] == ["b_0002.png", "a_0001.png"]
    picture, label = dataset.load_pair(pairs[0])
    assert picture.shape == (3, 4, 3)
    assert label[0, 0] == 1 and label.sum() == 1


def test_absolute_paths_and_pictures_without_label(tmp_path: Path) -> None:
    write_pair(tmp_path, "x")
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    (elsewhere / "all.txt").write_text(f"{tmp_path / 'images/x.png'}\n")
    (pair,) = dataset.read_list(elsewhere / "all.txt")
    assert pair.label is None
    assert (dataset.load_pair(pair)[1] == 255).all()
    with pytest.raises(DatasetError, match="label"):
        dataset.labelled_pairs(elsewhere / "all.txt")


def test_a_wrong_line_names_file_and_number(tmp_path: Path) -> None:
    line = write_pair(tmp_path, "x")
    (tmp_path / "train.txt").write_text(line * 2 + "images/x.png masks/gone.png\n")
    with pytest.raises(DatasetError, match=r"train\.txt line 3.*gone\.png"):
        dataset.read_list(tmp_path / "train.txt")


def test_a_list_as_windows_writes_it_is_read(tmp_path: Path) -> None:
    text = write_pair(tmp_path, "x").replace("\n", "\r\n") * 2
    (tmp_path / "train.txt").write_bytes(text.encode("utf-8-sig"))
    assert len(dataset.read_list(tmp_path / "train.txt")) == 2
    (tmp_path / "train.txt").write_bytes(text.encode("utf-16"))
    with pytest.raises(DatasetError, match=r"train\.txt.*UTF-8"):
        dataset.read_list(tmp_path / "train.txt")


def test_empty_and_missing_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(DatasetError, match=name):
            dataset.read_list(tmp_path / name)


def test_a_list_that_may_never_end_is_not_begun() -> None:
    with pytest.raises(DatasetError, match="/dev/null: .* found a folder, a device or a pipe"):
        dataset.read_list(Path("/dev/null"))


def test_a_label_of_another_size_names_both_sizes(tmp_path: Path) -> None:
    write_pair(tmp_path, "x")
    cv2.imwrite(str(tmp_path / "masks/x.png"), np.zeros((5, 4), np.uint8))
    (tmp_path / "list.txt").write_text("images/x.png masks/x.png\n")
    with pytest.raises(DatasetError, match="4x3.*4x5"):
        dataset.load_pair(dataset.read_list(tmp_path / "list.txt")[0])
    cv2.imwrite(str(tmp_path / "masks/x.png"), np.zeros((4, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"4x3.*3x4; turn it .* EXIF"):
        dataset.load_pair(dataset.read_list(tmp_path / "list.txt")[0])


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    for stem in ("n2", "n1"):
        write_pair(tmp_path, stem)
    pairs = dataset.pairs_of(tmp_path)
    assert [(p.image.stem, p.label.stem if p.label else "") for p in pairs] == [
        ("n1", "n1"),
        ("n2", "n2"),
    ]
    (tmp_path / "masks/n2.png").unlink()
    with pytest.raises(DatasetError, match=r"n2\.png"):
        dataset.read_folder(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cam_1.jpg", "'cam_1.jpg'"),
        ("CAM_1.png", "'CAM_1.png'"),
        ("cam_1_mask.png", "'cam_1_mask.png'"),
        ("cam_10.png", "none"),
    ],
)
def test_a_mask_that_is_nearly_named_so_is_shown(tmp_path: Path, name: str, found: str) -> None:
    write_pair(tmp_path, "cam_1")
    (tmp_path / "masks/cam_1.png").rename(tmp_path / "masks" / name)
    with pytest.raises(DatasetError, match=rf"wanted its mask .*cam_1\.png, found {found};"):
        dataset.pairs_of(tmp_path)


def test_a_clip_is_one_scene_and_a_bad_folder_is_refused(tmp_path: Path) -> None:
    for stem in ("0001", "0002"):
        write_pair(tmp_path, stem)
    (tmp_path / "images").rename(tmp_path / "frames")
    assert len({pair.scene for pair in dataset.clip_pairs(tmp_path)}) == 1
    (tmp_path / "frames").rename(tmp_path / "other")
    with pytest.raises(DatasetError, match="frames"):
        dataset.pairs_of(tmp_path)


def test_pictures_are_their_own_scenes_unless_a_rule_is_given(tmp_path: Path) -> None:
    lines = [write_pair(tmp_path, stem) for stem in ("ccp_0001", "ccp_0002")]
    (tmp_path / "list.txt").write_text("".join(lines))
    scenes = [pair.scene for pair in dataset.read_list(tmp_path / "list.txt")]
    assert len(set(scenes)) == 2
    rule = dataset.scene_rule("(.*)_[0-9]+")
    scenes = [pair.scene for pair in dataset.read_list(tmp_path / "list.txt", scene=rule)]
    assert scenes == ["ccp", "ccp"]


def test_pp_humanseg14k_names_hold_their_video() -> None:
    rule = dataset.pp_humanseg14k_scene
    one, two = Path("images/train/room_a-0001.jpg"), Path("images/train/room_a-0240.jpg")
    assert rule(one) == rule(two) != rule(Path("images/train/room_b-0001.jpg"))
    assert rule(one) == rule(Path("images/val/room_a-0300.jpg")), "whatever folder it lies in"
    with pytest.raises(DatasetError, match=r"portrait\.jpg"):
        rule(Path("images/train/portrait.jpg"))


def test_a_set_of_other_names_can_be_compared_with_one_that_fits_the_rule() -> None:
    rule = dataset.where_it_fits(dataset.pp_humanseg14k_scene)
    assert rule(Path("a/room0001.jpg")) == "room" == rule(Path("b/room0009.jpg"))
    assert rule(Path("a/selfie.jpg")) != rule(Path("b/selfie.jpg"))


@pytest.mark.parametrize("pattern", ["(", "abc"])
def test_a_scene_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(DatasetError, match="wanted"):
        dataset.scene_rule(pattern)


def test_splits_keep_scenes_apart_and_do_not_move() -> None:
    pairs = [dataset.Pair(Path(f"{i}.png"), None, f"scene {i // 5}") for i in range(100)]
    rest, held = dataset.split_scenes(pairs, share=0.25)
    assert len(held) == 25 and len(rest) == 75
    assert not {p.scene for p in rest} & {p.scene for p in held}
    assert (rest, held) == dataset.split_scenes(pairs, share=0.25)
    assert held != dataset.split_scenes(pairs, share=0.25, seed=1)[1]
    for share, scenes in ((0.0, 1), (1.0, 19)):  # one at least is held back, and one stays
        held = dataset.split_scenes(pairs, share=share)[1]
        assert len({p.scene for p in held}) == scenes
    with pytest.raises(DatasetError, match="two scenes"):
        dataset.split_scenes(pairs[:5], share=0.5)


def test_a_split_does_not_depend_on_where_the_pictures_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def held(folder: Path) -> list[str]:
        images = [folder / "images" / f"{i}.png" for i in range(40)]
        pairs = [dataset.Pair(image, None, dataset.own_scene(image)) for image in images]
        return [pair.image.name for pair in dataset.split_scenes(pairs, share=0.25)[1]]

    first = held(Path("/camera/site"))
    assert len(first) == 10
    for folder in (Path("/mnt/disk/elsewhere"), Path("site"), Path("../site"), tmp_path / "site"):
        assert held(folder) == first, folder


def test_the_training_and_validation_lists_read_whole(data_dir: Path) -> None:
    assert len(dataset.read_list(data_dir / "train.txt")) == 3300
    labels = [label for _, label in dataset.labelled_pairs(data_dir / "val.txt")]
    assert len(labels) == 170
    assert all(set(np.unique(label)) <= {0, 1} and label.any() for label in labels)


def test_cutouts_give_picture_and_alpha(tmp_path: Path) -> None:
    rgba = np.zeros((5, 4, 4), np.uint8)
    rgba[1:3, 1:3] = (10, 20, 30, 200)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "person.png")
    picture, alpha = dataset.load_cutout(tmp_path / "person.png")
    assert picture[1, 1].tolist() == [30, 20, 10]
    assert alpha[1, 1] == 200 and alpha[0, 0] == 0
    Image.fromarray(rgba[:, :, :3]).save(tmp_path / "flat.png")
    with pytest.raises(DatasetError, match=r"flat\.png.*alpha"):
        dataset.load_cutout(tmp_path / "flat.png")
