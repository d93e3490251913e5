"""How a picture becomes what a model takes: as Fashion-MNIST was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.images import EMPTY, INVERTED_NOW, LOOKS_INVERTED, NEGATED, fit, fit_whole, looks_inverted
from tuner.data.reading import read_file

from .pictures import COLOUR, GREY, cut_out, enlarged, error, grey, inverted, padded, saved, tinted


def test_an_image_of_the_models_size_goes_in_unchanged(boot: Image.Image) -> None:
    pixels = np.asarray(boot)

    assert fit(boot, GREY).warnings == ()
    for same in (boot, boot.convert("RGB"), boot.convert("RGBA"), boot.convert("P")):
        np.testing.assert_array_equal(grey(same), pixels)
    np.testing.assert_array_equal(fit(boot, COLOUR).pixels, np.repeat(pixels[..., None], 3, axis=2))
    red = tinted(boot, (9, 0, 0), (255, 30, 20))
    np.testing.assert_array_equal(fit(red, COLOUR).pixels, np.asarray(red))


def test_an_enlarged_and_padded_image_comes_back_as_it_was(boot: Image.Image) -> None:
    for picture in (enlarged(boot, 5), padded(enlarged(boot, 5), 70, 3, 9, 100)):
        fitted = fit(picture, GREY)
        np.testing.assert_array_equal(fitted.pixels[..., 0], np.asarray(boot))
        assert fitted.warnings == ()


def test_the_odd_pixel_is_left_of_the_thing_and_above_it_as_in_fashion_mnist() -> None:
    tall, wide = Image.new("L", (60, 60)), Image.new("L", (60, 60))
    tall.paste(200, (10, 2, 36, 58))  # 26x56: scaled to 13x28
    wide.paste(200, (2, 10, 58, 28))  # 56x18: scaled to 28x9

    left, right = (np.flatnonzero(grey(tall).any(axis=0))[k] for k in (0, -1))
    top, bottom = (np.flatnonzero(grey(wide).any(axis=1))[k] for k in (0, -1))

    assert (left, 27 - right) == (8, 7)
    assert (top, 27 - bottom) == (10, 9)


def test_a_model_that_is_not_square_gets_the_whole_thing_in_its_frame(boot: Image.Image) -> None:
    pixels = fit(padded(enlarged(boot, 4), 8, 8, 8, 8), (20, 40, 1)).pixels[..., 0]

    assert pixels.shape == (20, 40)
    assert pixels.any(axis=1).all()
    assert np.flatnonzero(pixels.any(axis=0)).tolist() == list(range(8, 32))  # 28x23 became 24x20


def test_what_is_dark_on_a_bright_background_is_negated_and_told(boot: Image.Image) -> None:
    picture = inverted(padded(enlarged(boot, 5), 30, 30, 30, 30))

    fitted = fit(picture, GREY)

    np.testing.assert_array_equal(fitted.pixels[..., 0], np.asarray(boot))
    assert fitted.warnings == (NEGATED,)


def test_invert_negates_every_image_and_no_invert_none(boot: Image.Image) -> None:
    bright, dark = inverted(enlarged(boot, 5)), enlarged(boot, 5)

    assert fit(bright, GREY, invert=True).warnings == ()
    np.testing.assert_array_equal(grey(bright, invert=True), np.asarray(boot))
    np.testing.assert_array_equal(grey(bright, invert=False), 255 - np.asarray(boot))
    np.testing.assert_array_equal(grey(dark, invert=True), 255 - np.asarray(boot))
    np.testing.assert_array_equal(grey(boot, invert=True), 255 - np.asarray(boot))
    assert fit(dark, GREY, invert=True).warnings == (INVERTED_NOW,)
    assert fit(bright, GREY, invert=False).warnings == ()  # as the person said


def test_an_inverted_image_of_the_models_size_is_kept_and_warned_of(boot: Image.Image) -> None:
    fitted = fit(inverted(boot), GREY)

    np.testing.assert_array_equal(fitted.pixels[..., 0], 255 - np.asarray(boot))
    assert fitted.warnings == (LOOKS_INVERTED,)


def test_no_training_image_looks_inverted_and_every_negated_one_does(trained_on: tuple[np.ndarray, np.ndarray]) -> None:
    images = trained_on[0][:2000, ..., None]

    assert not any(looks_inverted(image) for image in images)
    assert all(looks_inverted(255 - image) for image in images)


def test_a_background_that_is_not_quite_dark_becomes_dark(boot: Image.Image) -> None:
    navy = tinted(enlarged(boot, 5), (20, 20, 90), (240, 240, 120))
    shop = tinted(enlarged(boot, 5), (225, 225, 225), (30, 30, 30))

    for picture in (navy, shop):
        pixels = grey(picture)
        assert pixels[0, 0] == 0
        assert np.corrcoef(pixels.ravel(), np.asarray(boot).ravel())[0, 1] > 0.99


def test_what_is_brighter_than_a_bright_background_is_not_negated(boot: Image.Image) -> None:
    lamp = tinted(enlarged(boot, 5), (140, 140, 140), (250, 250, 250))

    assert fit(lamp, GREY).warnings == ()
    assert grey(lamp).argmax() == np.asarray(boot).argmax()


def test_the_noise_of_a_camera_is_not_taken_for_the_thing(boot: Image.Image) -> None:
    large = np.asarray(padded(enlarged(boot, 40), 900, 700, 1100, 1300, level=30))
    noise = np.random.default_rng(1).normal(0, 5, large.shape)
    photo = Image.fromarray((large + noise).clip(0, 255).astype(np.uint8))

    assert np.corrcoef(grey(photo).ravel(), np.asarray(boot).ravel())[0, 1] > 0.95


def test_a_cut_out_stands_out_from_what_it_is_put_on(boot: Image.Image) -> None:
    large = enlarged(boot, 5)
    bright, dark = cut_out(large, large), cut_out(large, inverted(large))
    opaque = large.convert("RGBA")

    assert error(grey(bright), np.asarray(boot)) < 3
    assert error(grey(dark), np.asarray(boot)) < 3
    assert fit(dark, GREY).warnings == (NEGATED,)
    np.testing.assert_array_equal(grey(opaque), np.asarray(boot))
    half = Image.fromarray(np.dstack([np.full((90, 90, 3), 255, np.uint8), np.full((90, 90), 255, np.uint8)]))
    half.paste((0, 0, 0, 128), (30, 30, 60, 60))  # half transparent, on opaque white: half grey on it
    assert grey(half)[14, 14] == pytest.approx(128, abs=2)


def test_the_same_picture_in_other_modes_is_the_same(boot: Image.Image, tmp_path: Path) -> None:
    large = enlarged(boot, 5)
    sixteen = Image.fromarray(np.asarray(large).astype(np.uint16) * 257)
    keyed = Image.fromarray(np.asarray(large))
    paths = {
        "grey": saved(large, tmp_path / "grey.png"),
        "16 bits": saved(sixteen, tmp_path / "sixteen.png"),
        "palette": saved(large.convert("P"), tmp_path / "palette.png"),
        "GIF": saved(large, tmp_path / "plain.gif"),
        "WebP": saved(large, tmp_path / "plain.webp", lossless=True),
        "BMP": saved(large, tmp_path / "plain.bmp"),
        "a transparent level": saved(keyed, tmp_path / "keyed.png", transparency=0),
        "CMYK": saved(large.convert("RGB").convert("CMYK"), tmp_path / "cmyk.jpg", quality=95),
    }

    found = {name: fit(next(read_file(path)).picture, GREY) for name, path in paths.items()}

    for name, fitted in found.items():
        assert error(fitted.pixels[..., 0], np.asarray(boot)) < (5 if name == "CMYK" else 0.6), name
        assert fitted.warnings == (), name


def test_a_turned_photo_is_turned_upright(boot: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = enlarged(boot, 5).transpose(Image.Transpose.ROTATE_90)
    path = saved(turned, tmp_path / "turned.jpg", exif=exif, quality=95)

    assert error(grey(next(read_file(path)).picture), np.asarray(boot)) < 5


def test_a_colour_model_sees_colours_that_nobody_negates(boot: Image.Image) -> None:
    picture = tinted(enlarged(boot, 5), (250, 240, 230), (200, 20, 10))

    fitted = fit(picture, COLOUR)

    assert fitted.warnings == ()
    np.testing.assert_array_equal(fitted.pixels[0, 0], (250, 240, 230))
    np.testing.assert_array_equal(fitted.pixels, np.asarray(tinted(boot, (250, 240, 230), (200, 20, 10))))
    np.testing.assert_array_equal(fit(picture, COLOUR, invert=True).pixels, 255 - fitted.pixels)


def test_a_whole_picture_keeps_its_proportions_on_the_colour_of_its_corners() -> None:
    picture = Image.new("RGB", (20, 10), (200, 10, 10))
    picture.paste((10, 10, 200), (5, 2, 15, 8))

    pixels = fit_whole(picture, (16, 16, 3))

    assert (pixels[:4] == (200, 10, 10)).all()
    assert (pixels[12:] == (200, 10, 10)).all()
    assert (pixels[7, 6:10] == (10, 10, 200)).all()
    assert (pixels[4:12, 0] == (200, 10, 10)).all()  # no edge is trimmed
    assert np.array_equal(fit_whole(picture, (10, 20, 3)), np.asarray(picture))  # of the size that is wanted
    assert np.array_equal(fit_whole(picture, (10, 20, 3), invert=True), 255 - np.asarray(picture))


def test_a_whole_grey_picture_is_not_negated_by_itself(boot: Image.Image) -> None:
    bright = Image.fromarray(255 - np.asarray(boot))

    assert np.array_equal(
        fit_whole(bright.resize((56, 56), Image.Resampling.NEAREST), (28, 28, 1))[..., 0], np.asarray(bright)
    )


@pytest.mark.parametrize("picture", [Image.new("RGB", (1, 1), "red"), Image.new("RGBA", (50, 40)), Image.new("1", (9, 99), 1)])  # fmt: skip
def test_a_picture_of_one_colour_says_so(picture: Image.Image) -> None:
    fitted = fit(picture, GREY)

    assert fitted.pixels.min() == fitted.pixels.max()
    assert EMPTY in fitted.warnings


def test_a_line_and_a_large_photo_have_an_input_too(boot: Image.Image) -> None:
    line = Image.new("L", (4000, 3))
    line.paste(255, (100, 1, 3900, 2))
    large = padded(enlarged(boot, 100), 600, 0, 0, 700)

    assert np.flatnonzero(grey(line).any(axis=1)).tolist() == [14]
    assert error(grey(large), np.asarray(boot)) < 2
