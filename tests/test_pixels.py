"""The codec against exact arithmetic; frames in, masks out, and back to where they were."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_seg import pixels
from edge_seg.errors import BundleError, FrameError, SettingError
from edge_seg.formats import frame_size
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HAIR = Fraction(2, 10_000)  # float32 keeps a scale to about 1e-7, times 256 levels


def eats(
    height: int, width: int, *, dtype: str = "int8", layout: str = "nhwc", **quantisation: float
) -> TensorSpec:
    shape = (1, height, width, 3) if layout == "nhwc" else (1, 3, height, width)
    scale = quantisation.get("scale", 0.0)
    return TensorSpec(shape, dtype, layout, scale, int(quantisation.get("zero_point", 0)))


def exact_real(value: int, mean: float, std: float) -> Fraction:
    return (Fraction(value, 255) - Fraction(mean)) / Fraction(std)


# --- the input table -----------------------------------------------------------------------------


@pytest.mark.parametrize("mean,std", [(HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD)])
def test_a_float_table_is_the_formula(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    table = pixels.input_table(InputSpec(4, 4, mean, std), eats(4, 4, dtype="float32"))
    assert table.shape == (256, 3) and table.dtype == np.float32
    for value in range(256):
        for channel in range(3):
            exact = exact_real(value, mean[channel], std[channel])
            assert abs(Fraction(float(table[value, channel])) - exact) < Fraction(1, 10**6)


@pytest.mark.parametrize("dtype,low,high", [("int8", -128, 127), ("uint8", 0, 255)])
@pytest.mark.parametrize("mean,std", [(HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD)])
@pytest.mark.parametrize("scale", [1 / 127.5, 0.0186, 0.004, 0.5])
def test_an_integer_table_is_within_half_a_step_of_the_formula_and_saturates(
    dtype: str,
    low: int,
    high: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    scale: float,
) -> None:
    scale, zero = float(np.float32(scale)), (low + high) // 2
    spec = eats(4, 4, dtype=dtype, scale=scale, zero_point=zero)
    table = pixels.input_table(InputSpec(4, 4, mean, std), spec)
    assert table.dtype == dtype
    saturated = 0
    for value in range(256):
        for channel in range(3):
            wanted = exact_real(value, mean[channel], std[channel]) / Fraction(scale) + zero
            code = int(table[value, channel])
            if wanted <= low or wanted >= high:
                assert code == (low if wanted <= low else high)
                saturated += 1
            else:
                assert abs(code - wanted) <= Fraction(1, 2) + HAIR
    if scale == float(np.float32(0.004)):
        assert saturated > 300, "this scale is too small for the range: most codes must saturate"


@pytest.mark.parametrize("scale", [1 / 127.5, float(np.float32(1 / 127.5))])
def test_with_the_usual_normalisation_the_code_is_the_pixel_xor_0x80(scale: float) -> None:
    table = pixels.input_table(InputSpec(4, 4), eats(4, 4, scale=scale, zero_point=-1))
    expected = (np.arange(256, dtype=np.uint8) ^ 0x80).view(np.int8)
    for channel in range(3):
        assert np.array_equal(table[:, channel], expected)
        assert len(np.unique(table[:, channel])) == 256


def test_every_tie_goes_the_same_way_whatever_float32_made_of_the_scale() -> None:
    base = np.float32(1 / 127.5)
    for scale in (np.nextafter(base, np.float32(0)), base, np.nextafter(base, np.float32(1))):
        spec = eats(4, 4, scale=float(scale), zero_point=-1)
        assert len(np.unique(pixels.input_table(InputSpec(4, 4), spec)[:, 0])) == 256


# --- the output table ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", ["logit", "probability"])
def test_an_output_table_is_the_formula_for_all_256_codes(dtype: str, activation: str) -> None:
    scale, zero = (0.11, 7) if activation == "logit" else (1 / 256, -128 if dtype == "int8" else 0)
    spec = TensorSpec((1, 4, 4, 1), dtype, "nhwc", scale, zero)
    table = pixels.output_table(OutputSpec(activation), spec)
    assert table.shape == (256,) and table.dtype == np.float32
    for byte in range(256):
        code = byte - 256 if dtype == "int8" and byte > 127 else byte
        real = scale * (code - zero)
        wanted = 1 / (1 + np.exp(-real)) if activation == "logit" else min(1.0, max(0.0, real))
        assert table[byte] == pytest.approx(wanted, abs=1e-6)
        assert 0 <= table[byte] <= 1


def test_a_logit_of_zero_is_a_person() -> None:
    spec = TensorSpec((1, 4, 4, 1), "int8", "nhwc", 0.1, -3)
    table = pixels.output_table(OutputSpec("logit"), spec)
    assert table[np.int8(-3).view(np.uint8)] == 0.5


def test_huge_logits_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        found = pixels.sigmoid(np.array([-1e5, -50.0, 0.0, 50.0, 1e5]))
    assert found[0] == 0 and found[2] == 0.5 and found[4] == 1
    assert np.all(np.diff(found) >= 0)


# --- the codec -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_encode_puts_every_pixel_through_the_table_in_its_place(layout: str, dtype: str) -> None:
    spec = InputSpec(5, 7, IMAGENET_MEAN, IMAGENET_STD)
    tensor = eats(5, 7, dtype=dtype, layout=layout, scale=0.02 if dtype == "int8" else 0.0)
    returns = TensorSpec((1, 1, 5, 7), "float32", "nchw")
    codec = pixels.Codec(spec, OutputSpec(), eats=tensor, returns=returns)
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    found = codec.encode(picture)
    assert found.shape == tensor.shape and found.dtype == dtype and found.flags.c_contiguous
    plane = found[0] if layout == "nhwc" else found[0].transpose(1, 2, 0)
    table = pixels.input_table(spec, tensor)
    for y in range(5):
        for x in range(7):
            for channel in range(3):
                assert plane[y, x, channel] == table[picture[y, x, channel], channel]


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("channel", [0, 1])
def test_decode_takes_the_person_s_channel(layout: str, channel: int) -> None:
    shape = (1, 4, 6, 2) if layout == "nhwc" else (1, 2, 4, 6)
    returns = TensorSpec(shape, "float32", layout)
    codec = pixels.Codec(
        InputSpec(4, 6),
        OutputSpec("probability", channel),
        eats=eats(4, 6, dtype="float32"),
        returns=returns,
    )
    tensor = np.random.default_rng(0).random(shape, dtype=np.float32)
    planes = tensor[0].transpose(2, 0, 1) if layout == "nhwc" else tensor[0]
    assert np.array_equal(codec.decode(tensor), planes[channel])
    as_bytes = codec.decode(tensor, "uint8")
    assert as_bytes.dtype == np.uint8
    assert np.abs(as_bytes / 255 - planes[channel]).max() <= 0.5 / 255 + 1e-6


def test_decode_of_integers_agrees_between_float_and_bytes() -> None:
    returns = TensorSpec((1, 16, 16, 1), "int8", "nhwc", 0.07, 4)
    codec = pixels.Codec(
        InputSpec(16, 16), OutputSpec(), eats=eats(16, 16, scale=0.01), returns=returns
    )
    tensor = np.arange(256, dtype=np.uint8).view(np.int8).reshape(1, 16, 16, 1)
    soft, as_bytes = codec.decode(tensor), codec.decode(tensor, "uint8")
    assert soft.shape == as_bytes.shape == (16, 16)
    assert np.abs(as_bytes / 255 - soft).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(soft >= 0.5, tensor[0, :, :, 0] >= 4)


def test_a_probability_that_a_network_overshoots_stays_one() -> None:
    """1.004 in bytes would be 256, which is 0: the surest person would become background."""
    returns = TensorSpec((1, 1, 1, 4), "float32", "nchw")
    codec = pixels.Codec(
        InputSpec(1, 4),
        OutputSpec("probability"),
        eats=eats(1, 4, dtype="float32"),
        returns=returns,
    )
    tensor = np.array([[[[-0.01, 0.25, 1.0, 1.004]]]], np.float32)
    assert codec.decode(tensor).tolist() == [[0, 0.25, 1, 1]]
    assert codec.decode(tensor, "uint8").tolist() == [[0, 64, 255, 255]]


def test_a_codec_of_the_wrong_form_is_refused() -> None:
    returns = TensorSpec((1, 1, 4, 6), "float32", "nchw")
    grey = TensorSpec((1, 4, 6, 1), "float32", "nhwc")
    with pytest.raises(BundleError, match="wanted an input of 4x6x3"):
        pixels.Codec(InputSpec(4, 6), OutputSpec(), eats=grey, returns=returns)
    with pytest.raises(BundleError, match="4x6x3"):
        pixels.Codec(
            InputSpec(4, 6), OutputSpec(), eats=eats(6, 4, dtype="float32"), returns=returns
        )
    with pytest.raises(BundleError, match="channel 1"):
        pixels.Codec(
            InputSpec(4, 6),
            OutputSpec(channel=1),
            eats=eats(4, 6, dtype="float32"),
            returns=returns,
        )


# --- frames that are not ones --------------------------------------------------------------------

BAD_FRAMES = {
    "grey": (np.zeros((9, 9), np.uint8), "COLOR_GRAY2BGR"),
    "one channel": (np.zeros((9, 9, 1), np.uint8), "COLOR_GRAY2BGR"),
    "alpha": (np.zeros((9, 9, 4), np.uint8), ":3]"),
    "two channels": (np.zeros((9, 9, 2), np.uint8), "colour"),
    "batch": (np.zeros((1, 9, 9, 3), np.uint8), "colour"),
    "float": (np.zeros((9, 9, 3), np.float32), "uint8"),
    "int16": (np.zeros((9, 9, 3), np.int16), "uint8"),
    "no rows": (np.zeros((0, 9, 3), np.uint8), "empty"),
    "no columns": (np.zeros((9, 0, 3), np.uint8), "empty"),
    "too many pixels": (np.broadcast_to(np.zeros(3, np.uint8), (20_000, 20_000, 3)), "reduce"),
    "too long": (np.broadcast_to(np.zeros(3, np.uint8), (2, 40_000, 3)), "reduce"),
    "list": ([[[0, 0, 0]]], "numpy"),
    "nothing": (None, "numpy"),
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_what_is_not_a_frame_is_refused_with_advice(kind: str) -> None:
    frame, advice = BAD_FRAMES[kind]
    with pytest.raises(FrameError) as caught:
        pixels.prepare(frame, InputSpec(8, 8))  # type: ignore[arg-type]
    assert advice in str(caught.value)
    assert "wanted" in str(caught.value) and "found" in str(caught.value)
    if isinstance(frame, np.ndarray):
        assert str(frame.shape) in str(caught.value)


def test_a_format_that_is_not_one_is_refused() -> None:
    with pytest.raises(SettingError, match="bgr"):
        pixels.prepare(np.zeros((4, 4, 3), np.uint8), InputSpec(8, 8), format="yuv")


@pytest.mark.parametrize("size", [(3, 32_766), (32_766, 3)])
def test_the_longest_frame_comes_back_and_a_longer_one_is_refused(size: tuple[int, int]) -> None:
    spec, level = InputSpec(64, 50), np.full(3, 200, np.uint8)
    picture, place = pixels.prepare(np.broadcast_to(level, (*size, 3)), spec)
    inner = picture[place.top :, place.left :][: place.height, : place.width]
    assert (inner == 200).all()
    upwards = np.linspace(0, 1, 32 * 25, dtype=np.float32).reshape(32, 25)
    back = pixels.restore(upwards, place, spec, size=size)
    assert back.shape == size and (np.diff(back[:, 0]) >= 0).all()
    assert (np.diff(back[1]) >= 0).all()
    longer = np.broadcast_to(level, (*np.add(size, 1), 3))
    with pytest.raises(FrameError, match="reduce it"):
        pixels.prepare(longer, spec)


def test_a_frame_may_have_64_megapixels_and_no_more() -> None:
    level = np.zeros(3, np.uint8)
    assert frame_size(np.broadcast_to(level, (8192, 8192, 3))) == (8192, 8192)
    with pytest.raises(FrameError, match="67108864 pixels"):
        frame_size(np.broadcast_to(level, (8192, 8193, 3)))


# --- prepare -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("format", ["rgb", "bgr"])
def test_colours_arrive_in_the_network_s_order(fit: str, color: str, format: str) -> None:
    red = (255, 0, 0) if format == "rgb" else (0, 0, 255)
    frame = np.full((30, 40, 3), red, np.uint8)
    picture, place = pixels.prepare(frame, InputSpec(12, 16, color=color, fit=fit), format=format)
    wanted = (255, 0, 0) if color == "rgb" else (0, 0, 255)
    assert picture.shape == (12, 16, 3)
    assert (place.height, place.width) == (12, 16)
    assert (picture == wanted).all()


def test_prepare_never_hands_out_the_caller_s_frame() -> None:
    for color in ("rgb", "bgr"):
        for shape in ((8, 8, 3), (16, 16, 3), (8, 4, 3)):
            frame = np.full(shape, 9, np.uint8)
            picture, _ = pixels.prepare(frame, InputSpec(8, 8, color=color))
            picture[:] = 77
            assert (frame == 9).all()


def test_a_frame_that_is_a_view_is_read_as_it_looks() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for spec in (InputSpec(60, 80), InputSpec(24, 24), InputSpec(24, 24, color="bgr")):
        for view in (whole[:, ::-1], whole[::-1], whole[::2, ::2], whole[..., ::-1], whole[5:, 7:]):
            found, _ = pixels.prepare(view, spec)
            wanted, _ = pixels.prepare(np.ascontiguousarray(view), spec)
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_no_mask_is_more_than_one(fit: str) -> None:
    """An average's weights add up to a hair more in floats: sqrt(1 - mask) would be NaN."""
    spec = InputSpec(224, 224, fit=fit)
    for height in range(1, 90):
        for width in (55, 92, 4000):
            placement = pixels.place(height, width, spec)
            full = pixels.restore(
                np.ones((224, 224), np.float32), placement, spec, size=(height, width)
            )
            assert full.max() <= 1.0 and full.min() > 0.999, (height, width)


@pytest.mark.parametrize(
    "height,width", [(480, 640), (720, 1280), (1280, 720), (1, 1), (3, 500), (500, 3), (97, 33)]
)
@pytest.mark.parametrize("net", [(144, 256), (224, 224), (15, 7)])
def test_a_letterbox_keeps_proportions_and_is_centred(
    height: int, width: int, net: tuple[int, int]
) -> None:
    spec = InputSpec(*net, fit="letterbox", pad=127)
    place = pixels.place(height, width, spec)
    assert place.height == net[0] or place.width == net[1]
    scale = min(net[0] / height, net[1] / width)
    assert abs(place.height - max(1, height * scale)) <= 0.5
    assert abs(place.width - max(1, width * scale)) <= 0.5
    below = net[0] - place.height - place.top
    right = net[1] - place.width - place.left
    assert place.top >= 0 and place.left >= 0
    assert below - place.top in (0, 1) and right - place.left in (0, 1)

    picture, found = pixels.prepare(np.zeros((height, width, 3), np.uint8), spec)
    assert found == place
    inner = np.zeros(net, bool)
    inner[place.top : place.top + place.height, place.left : place.left + place.width] = True
    assert (picture[inner] == 0).all() and (picture[~inner] == 127).all()


@pytest.mark.parametrize("period", [1, 2])
@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (1280, 720), (723, 1279)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_fine_detail_becomes_grey_and_not_a_pattern(
    period: int, size: tuple[int, int], fit: str
) -> None:
    y, x = np.indices(size)
    checker = (((y // period + x // period) % 2) * 255).astype(np.uint8)
    frame = np.repeat(checker[:, :, None], 3, axis=2)
    picture, place = pixels.prepare(frame, InputSpec(144, 256, fit=fit))
    inner = picture[place.top :, place.left :][: place.height, : place.width]
    # A box the size of a network's pixel holds many squares of the checker, half of them white.
    assert np.abs(inner[1:-1, 1:-1].astype(float) - 127.5).max() <= 40
    assert abs(inner.mean() - 127.5) <= 2


def test_a_shrunk_frame_keeps_its_brightness_everywhere() -> None:
    ramp = np.linspace(0, 255, 1280).astype(np.uint8)
    frame = np.broadcast_to(ramp[None, :, None], (720, 1280, 3))
    picture, _ = pixels.prepare(np.ascontiguousarray(frame), InputSpec(144, 256))
    wanted = ramp.reshape(256, 5).mean(axis=1)
    assert np.abs(picture[:, :, 0] - wanted).max() <= 2


@pytest.mark.parametrize("size,wide", [((360, 640), 320), ((360, 641), 320), ((240, 1364), 341)])
def test_halving_one_side_is_the_average_of_neighbours(size: tuple[int, int], wide: int) -> None:
    frame = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = pixels.shrink(frame, (size[0], wide))
    times = size[1] // wide
    cells = frame[:, : wide * times].astype(np.float64).reshape(size[0], wide, times, 3)
    if size[1] % 2:  # not whole pixels: what a wide gradient becomes must not shift
        ramp = np.repeat(np.linspace(0, 255, size[1])[None], size[0], axis=0)
        frame = np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)
        found = pixels.shrink(frame, (size[0], wide))
        wanted = cv2.resize(frame, (wide, size[0]), interpolation=cv2.INTER_AREA)
        assert np.abs(found.astype(int) - wanted).max() <= 1
    else:
        assert np.abs(found - cells.mean(axis=2)).max() <= 1.25  # rounded at each halving


@pytest.mark.parametrize("side,small", [(449, 224), (641, 320), (897, 224), (1279, 300)])
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_stripes_of_an_odd_side_halved_alone_become_grey(
    side: int, small: int, upright: bool, first: int
) -> None:
    frame = np.zeros((90, side, 3), np.uint8)
    frame[:, first::2] = 255
    if upright:
        found = pixels.shrink(np.ascontiguousarray(frame.transpose(1, 0, 2)), (small, 90))
    else:
        found = pixels.shrink(frame, (90, small))
    assert 120 <= found.min() and found.max() <= 135


def test_every_column_of_an_odd_camera_frame_counts() -> None:
    """641x479 for a network of 256x256: the width is halved and the height is not."""
    spec = InputSpec(256, 256, fit="stretch")
    black = pixels.prepare(np.zeros((479, 641, 3), np.uint8), spec)[0]
    for column in range(280, 360):  # where the samples of a plain bilinear lie on single columns
        frame = np.zeros((479, 641, 3), np.uint8)
        frame[:, column] = 255
        assert (pixels.prepare(frame, spec)[0] != black).any(), column


# --- restore -------------------------------------------------------------------------------------


def shape_in(height: int, width: int) -> NDArray[np.float32]:
    """A soft ellipse and a bar, in frame coordinates."""
    y, x = np.indices((height, width), dtype=np.float64)
    y, x = (y + 0.5) / height, (x + 0.5) / width
    ellipse = ((x - 0.35) / 0.22) ** 2 + ((y - 0.45) / 0.3) ** 2 <= 1
    bar = (abs(x - 0.75) < 0.1) & (y > 0.2)
    return (ellipse | bar).astype(np.float32)


def mask_of(picture: NDArray[np.uint8], ratio: int) -> NDArray[np.float32]:
    """What a perfect network returns for a white shape: cell means at 1/ratio of the picture."""
    grey = np.ascontiguousarray(picture[:, :, 0]).astype(np.float32) / 255
    height, width = -(-grey.shape[0] // ratio), -(-grey.shape[1] // ratio)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize("net", [(144, 256), (224, 224), (224, 398)])
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1280, 720), (301, 223), (97, 640)])
def test_a_shape_comes_back_to_where_it_was(
    size: tuple[int, int], net: tuple[int, int], ratio: int, fit: str
) -> None:
    shape = shape_in(*size)
    frame = np.repeat((shape * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    spec = InputSpec(*net, fit=fit, pad=0)
    picture, place = pixels.prepare(frame, spec)
    back = pixels.restore(mask_of(picture, ratio), place, spec, size=size)
    assert back.shape == size and back.dtype == np.float32
    # One mask cell in frame pixels: contours may lie anywhere within it, not beyond.
    cell_y = max(1.0, size[0] / place.height * ratio)
    cell_x = max(1.0, size[1] / place.width * ratio)
    wrong = (back >= 0.5) != (shape >= 0.5)
    edge = np.zeros(size, bool)
    reach_y, reach_x = int(np.ceil(cell_y)) + 1, int(np.ceil(cell_x)) + 1
    changes_y = np.abs(np.diff(shape, axis=0)) > 0
    changes_x = np.abs(np.diff(shape, axis=1)) > 0
    for y, x in np.argwhere(changes_y):
        edge[max(0, y - reach_y) : y + reach_y + 2, max(0, x - reach_x) : x + reach_x + 1] = True
    for y, x in np.argwhere(changes_x):
        edge[max(0, y - reach_y) : y + reach_y + 1, max(0, x - reach_x) : x + reach_x + 2] = True
    assert not (wrong & ~edge).any()


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize("net", [(144, 256), (224, 224), (224, 398)])
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1280, 720), (301, 223)])
def test_nothing_drifts(size: tuple[int, int], net: tuple[int, int], ratio: int, fit: str) -> None:
    """A smooth blob off the middle keeps its centre to a fraction of a network's pixel."""
    y, x = np.indices(size)
    centre, spread = (0.42 * size[0], 0.55 * size[1]), 0.1 * min(size)
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))
    frame = np.repeat((blob * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    spec = InputSpec(*net, fit=fit, pad=0)
    picture, place = pixels.prepare(frame, spec)
    back = pixels.restore(mask_of(picture, ratio), place, spec, size=size)
    for axis, picture_side in ((0, place.height), (1, place.width)):
        weight, truth = back.sum(axis=1 - axis), frame[:, :, 0].sum(axis=1 - axis)
        at = np.arange(len(truth))
        drift = (weight @ at) / weight.sum() - (truth @ at) / truth.sum()
        assert abs(drift) <= 0.1 * size[axis] / picture_side, f"axis {axis}: {drift:.3f} px"


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_bars_never_show_in_the_mask(dtype: type) -> None:
    """Everything inside the frame is a person, everything in the bars is not."""
    for size in ((720, 1280), (1280, 720), (301, 223)):
        for ratio in (1, 4):
            spec = InputSpec(224, 224, fit="letterbox")
            place = pixels.place(*size, spec)
            inner = np.zeros((224, 224, 3), np.uint8)
            inner[place.top : place.top + place.height, place.left : place.left + place.width] = 255
            mask = mask_of(inner, ratio)
            mask = (mask * 255).astype(np.uint8) if dtype is np.uint8 else mask
            back = pixels.restore(mask, place, spec, size=size).astype(float)
            back = back / 255 if dtype is np.uint8 else back
            assert back.min() > 0.99


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_frame_that_fills_the_picture_has_every_pixel_of_the_mask(stride: int) -> None:
    """A network whose sides its strides do not divide answers in one more cell."""
    for side in range(8, 400):
        cells = -(-side // stride)
        mask = np.random.default_rng(side).random((cells, cells), dtype=np.float32)
        spec = InputSpec(side, side)
        back = pixels.restore(mask, pixels.place(side, side, spec), spec, size=mask.shape)
        assert np.array_equal(back, mask), side


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("size", [(1, 1), (8, 16), (8, 300), (300, 16), (7, 11)])
@pytest.mark.parametrize(
    "fit,frame", [("stretch", (64, 128)), ("letterbox", (64, 128)), ("letterbox", (70, 128))]
)
def test_a_smaller_mask_is_the_mean_of_the_pixels_it_covers(
    fit: str, frame: tuple[int, int], size: tuple[int, int], dtype: str
) -> None:
    """Half the network's size; cut at a whole mask pixel, and inside one (70 rows of 128)."""
    spec = InputSpec(128, 128, fit=fit)
    place = pixels.place(*frame, spec)
    mask = np.ones((64, 64), np.float32)  # the bars: they must not count
    first, last = -(-place.top // 2), (place.top + place.height) // 2
    y, x = np.indices((last - first, 64))
    inside = np.where((y % 8 < 2) & (x % 4 < 2), 1.0, 0.0)  # one in eight, and in none at random
    mask[first:last] = inside
    mask = mask if dtype == "float32" else (mask * 255).astype(np.uint8)
    back = pixels.restore(mask, place, spec, size=size)
    assert back.shape == size and back.dtype == dtype
    share = back.astype(np.float64) / (1.0 if dtype == "float32" else 255.0)
    assert abs(share.mean() - inside.mean()) < 0.02
    if size[0] < last - first and size[1] < 64:
        # A cell of two pixels by four holds up to half of them; a single sample hits 0 or 1.
        assert share.max() < 0.65


def test_out_is_written_and_returned() -> None:
    spec = InputSpec(64, 64)
    mask = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    for size in ((48, 64), (64, 48), (64, 64), (31, 47), (5, 7), (5, 40), (1, 1)):
        place = pixels.place(*size, spec)
        out = np.full(size, -1, np.float32)
        found = pixels.restore(mask, place, spec, size=size, out=out)
        assert found is out
        assert np.array_equal(out, pixels.restore(mask, place, spec, size=size))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 5), np.float32),
        np.empty((5, 4), np.uint8),
        np.empty((5, 8), np.float32)[:, ::2],
        "a buffer",
    ],
)
def test_a_buffer_of_the_wrong_form_is_refused(out: NDArray[np.float32]) -> None:
    spec = InputSpec(8, 8)
    with pytest.raises(FrameError, match=r"wanted out="):
        pixels.restore(
            np.zeros((8, 8), np.float32), pixels.place(5, 4, spec), spec, size=(5, 4), out=out
        )


def test_a_read_only_buffer_is_refused() -> None:
    spec, out = InputSpec(8, 8), np.zeros((5, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(FrameError, match="read-only"):
        pixels.restore(
            np.zeros((8, 8), np.float32), pixels.place(5, 4, spec), spec, size=(5, 4), out=out
        )


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    net=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    ratio=st.sampled_from([1, 2, 4]),
    fit=st.sampled_from(["stretch", "letterbox"]),
)
def test_any_frame_fits_any_network_and_comes_back(
    size: tuple[int, int], net: tuple[int, int], ratio: int, fit: str
) -> None:
    spec = InputSpec(*net, fit=fit, pad=255)
    picture, place = pixels.prepare(np.full((*size, 3), 255, np.uint8), spec)
    assert picture.shape == (*net, 3) and (picture == 255).all()
    back = pixels.restore(mask_of(picture, ratio), place, spec, size=size)
    assert back.shape == size
    assert np.allclose(back, 1.0, atol=1e-5)
