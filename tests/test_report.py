"""The page of `eval --report`: what is painted, which pictures come first, and what it may hold."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg.cli import main  # noqa: E402
from edge_seg.metrics import Quality  # noqa: E402
from edge_seg.report import Column, Shown, painted, worst, write_page  # noqa: E402

RED, BLUE = (230, 40, 40), (20, 120, 235)  # as the page's legend has them, RGB


class Page(HTMLParser):
    """What a browser would show: headings, cells, pictures, and every address that is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.pictures: list[np.ndarray] = []
        self.tags: set[str] = set()
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.tags.add(tag)
        given = dict(attrs)
        assert "href" not in given
        if "src" in given:
            kind, code = (given["src"] or "").split(",")
            assert kind == "data:image/jpeg;base64"
            data = np.frombuffer(base64.b64decode(code), np.uint8)
            self.pictures.append(cv2.imdecode(data, cv2.IMREAD_COLOR))

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._tag, []).append(data)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a BGR picture has nearly that RGB colour: paint lets a quarter of it through."""
    return np.abs(picture[:, :, ::-1].astype(int) - colour).max(axis=2) < 64


def test_each_kind_of_pixel_is_painted_as_the_legend_says() -> None:
    frame = np.zeros((80, 120, 3), np.uint8)
    frame[:] = (40, 180, 90)
    label = np.zeros((80, 120), np.uint8)
    label[:40, :60] = 1
    label[60:] = 255
    mask = np.zeros((80, 120), np.float32)
    mask[20:, :60] = 1  # seen from row 20 to the end, ignored pixels included
    out = painted(frame, mask, label)
    assert out.shape == frame.shape and out.dtype == np.uint8
    assert near(out, RED)[:20, :60].all() and near(out, RED).sum() == 20 * 60
    assert near(out, BLUE)[40:60, :60].all() and near(out, BLUE).sum() == 20 * 60
    assert (out[20:40, :60] == frame[20:40, :60]).all()
    for rest in (out[:60, 60:], out[60:]):
        assert (rest == rest[..., :1]).all()


def test_a_label_of_another_size_than_the_picture_decides_the_size() -> None:
    frame = np.full((40, 60, 3), 200, np.uint8)
    out = painted(frame, np.ones((10, 15), np.float32), np.ones((80, 120), np.uint8))
    assert out.shape == (80, 120, 3)


def test_the_share_of_wrong_pixels_counts_what_is_not_ignored() -> None:
    quality = Quality()
    label = np.zeros((10, 10), np.uint8)
    label[:5] = 1
    label[9] = 255
    mask = np.zeros((10, 10), np.float32)
    mask[4:] = 1  # 4 rows missed, 4 rows too many, and one that does not count
    quality.add(mask, label)
    quality.add(mask, np.full((10, 10), 255, np.uint8))
    quality.add(mask, (mask > 0).astype(np.uint8))
    assert quality.wrong == [pytest.approx(80 / 90), None, 0.0]


def test_the_worst_under_any_artifact_come_first() -> None:
    one = Column("a", {}, [0.1, None, 0.3, 0.0, 0.2])
    other = Column("b", {}, [0.4, None, 0.0, 0.0, 0.2])
    assert worst([one, other], 3) == [0, 2, 4]
    assert worst([one], 9) == [2, 4, 0, 3]  # the second ignores every pixel


def test_names_are_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    name = '<script>alert("1")</script>&\udcff.png'  # as Python keeps a byte that is no UTF-8
    shown = Shown(name)
    shown.add("the picture", np.full((900, 600, 3), 90, np.uint8))
    column = Column("x-int8", {"mIoU": "95 %"}, [0.015, 0.2])
    write_page(tmp_path / "page.html", title=name, about="", columns=[column], shown=[shown])
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "script" not in page.tags and "link" not in page.tags
    said = name.replace("\udcff", "?")
    assert said in "".join(page.texts["h3"]) and said in "".join(page.texts["title"])
    (picture,) = page.pictures
    assert picture.shape == (360, 240, 3)  # made small, in proportion
    cells = page.texts["td"]
    assert cells[cells.index("1 to 2 %") + 1] == "1" and cells[cells.index("0 to 1 %") + 1] == "0"
    assert cells[cells.index("10 % or more") + 1] == "1"
    assert "the 1 worst hold 93 % under x-int8" in "".join(page.texts["p"])


TOPS = """<script>document.title = JSON.stringify([...document.querySelectorAll("figure")]
.map(figure => figure.getBoundingClientRect().top))</script>"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("artifacts", "rows"), [(1, [2]), (2, [3]), (3, [4]), (4, [3, 2]), (6, [4, 3])]
)
@pytest.mark.parametrize("width", [1100, 1920])
def test_no_picture_stands_alone_in_a_row(
    artifacts: int, rows: list[int], width: int, tmp_path: Path
) -> None:
    """In a browser, whose rows are told by where it puts each picture."""
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser here: neither chromium nor google-chrome")
    columns = [Column(f"onnx-int{n}", {}, [0.1]) for n in range(artifacts)]
    shown = Shown("a.jpg")
    for column in [Column("the picture", {}, []), *columns]:
        shown.add(f"{column.name}: 10 % wrong", np.full((600, 800, 3), 90, np.uint8))
    page = tmp_path / "page.html"
    write_page(page, title="", about="", columns=columns, shown=[shown])
    page.write_text(page.read_text("utf-8") + TOPS, encoding="utf-8")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    words += ["--disable-background-networking", f"--user-data-dir={tmp_path}", "--dump-dom"]
    done = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>(\[.*?\])</title>", done.stdout)
    assert found, done.stderr
    assert list(Counter(json.loads(found[1])).values()) == rows


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four floors with a bright person, which the network of these tests sees; two labels lie."""
    lines = []
    for number, lie in enumerate((0, 8, 0, 24)):
        label = np.zeros((64, 96), np.uint8)
        label[16:, 24:56] = 1
        frame = np.where(label[..., None] == 1, 230, 10).repeat(3, axis=2).astype(np.uint8)
        label[:, 56 : 56 + lie] = 1
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
        cv2.imwrite(str(tmp_path / f"{number}_label.png"), 255 * label)
        lines.append(f"{number}.png {number}_label.png\n")
    listing = tmp_path / "set.txt"
    listing.write_text("".join(lines))
    return listing


@pytest.fixture
def page_of(fake_bundle: Path, tmp_path: Path) -> Callable[..., Page]:
    def call(labels: Path, *words: str) -> Page:
        out = tmp_path / "report.html"
        given = [str(fake_bundle), "--labels", str(labels), "--report", str(out), *words]
        assert main(["eval", *given]) == 0
        return Page(out.read_text("utf-8"))

    return call


def test_eval_shows_the_worst_pictures_of_every_artifact(
    pictures: Path, page_of: Callable[..., Page], capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(pictures, "--artifact", "all")
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote ")
    names = [text.strip() for text in page.texts["h3"] if text.strip()]
    assert names == ["1. 3.png", "2. 1.png", "3. 0.png", "4. 2.png"]
    captions = [text for text in page.texts["figcaption"] if text.strip()]
    assert captions[:3] == ["the picture", "fake-fp32: 25.0 % wrong", "fake-int8: 25.0 % wrong"]
    assert len(page.pictures) == 12
    missed = near(page.pictures[1], RED)  # 24 of 96 columns, which the network rightly leaves out
    assert missed[:, 58:78].all() and not missed[:, :54].any()
    assert not near(page.pictures[1], BLUE).any()


def test_a_clip_shows_its_figures_over_time(
    pictures: Path, page_of: Callable[..., Page], tmp_path: Path
) -> None:
    clip = tmp_path / "clip"
    for part, ending in (("frames", ""), ("masks", "_label")):
        (clip / part).mkdir(parents=True)
        for number in range(4):
            (tmp_path / f"{number}{ending}.png").rename(clip / part / f"{number}.png")
    page = page_of(clip, "--artifact", "fake-int8")
    assert "Over time: fake-int8" in page.texts["h2"]
    assert "dtSSD, %" in page.texts["td"] and "smoothed" in page.texts["th"]


def test_a_report_that_cannot_be_written_is_said_before_the_work(
    pictures: Path, fake_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "none" / "report.html")
    assert main(["eval", str(fake_bundle), "--labels", str(pictures), "--report", out]) == 1
    assert "wanted a folder to write in" in capsys.readouterr().err
