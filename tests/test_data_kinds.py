"""Every form in which images come, brought to the one form that trainings read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.folder import LABELS_FILE
from tuner.data.holdout import read_test
from tuner.data.idx import PARTS, read_bytes
from tuner.data.reading import find_files, read_file
from tuner.data.sources import Source, find
from tuner.data.splits import read_images
from tuner.export.bring import bring

from .own_images import (
    ALL,
    CLASSES,
    COLOUR,
    GREY,
    TEST,
    TRAIN,
    both,
    holds,
    idx,
    images,
    npz,
    own_cache,
    pictures,
    table,
)

pytestmark = pytest.mark.usefixtures("own_cache")
__all__ = ["own_cache"]  # a fixture


def test_the_same_images_are_the_same_whatever_they_come_as(tmp_path: Path) -> None:
    train, test = both(GREY)
    table(tmp_path / "kaggle" / "digits_train.csv", *train)
    table(tmp_path / "kaggle" / "digits_test.csv", *test)
    table(tmp_path / "plain.csv", *train, header=False)
    table(tmp_path / "plain-test.csv", *test, header=False)

    found = [
        find(str(idx(tmp_path / "idx", train, test))),
        find(str(npz(tmp_path / "a.npz"))),
        find(str(npz(tmp_path / "flat.npz", x_train=train[0][..., 0], y_train=train[1][:, None]))),
        find(str(tmp_path / "kaggle")),
        find(f"{tmp_path}/plain.csv,{tmp_path}/plain-test.csv"),
    ]

    assert [source.kind for source in found] == ["idx", "npz", "npz", "csv", "csv"]
    assert [source.name for source in found] == ["idx", "a", "flat", "kaggle", "plain"]
    assert len({source.digest for source in found}) == 1
    for source in found:
        assert holds(source, train, test)
        assert (source.n_train, source.n_test, source.input_shape) == (120, 18, GREY)
        assert (source.train_class_counts, source.test_class_counts) == (TRAIN, TEST)
        assert (source.class_names, source.held_out, source.notes, source.warnings) == (("0", "1", "2"), False, (), ())


def test_images_may_have_colours_and_need_not_be_square(tmp_path: Path) -> None:
    train, test = both(COLOUR)
    square, square_test = both((8, 8, 3))

    for source in (find(str(idx(tmp_path / "idx", train, test))), find(str(npz(tmp_path / "a.npz", COLOUR)))):
        assert source.input_shape == COLOUR
        assert holds(source, train, test)
    tables = f"{table(tmp_path / 'train.csv', *square)},{table(tmp_path / 'test.csv', *square_test)}"
    assert holds(find(tables), square, square_test)  # 192 pixels a row: no square, but three of them


def test_fashion_mnist_is_known_by_its_content(fashion: Source, tmp_path: Path) -> None:
    parts = [read_bytes(fashion.folder, part) for part in PARTS]
    arrays = [np.frombuffer(parts[k], np.uint8, offset=16).reshape(-1, 28, 28) for k in (0, 2)]
    labels = [np.frombuffer(parts[k], np.uint8, offset=8) for k in (1, 3)]
    np.savez(tmp_path / "x.npz", x_train=arrays[0], y_train=labels[0], x_test=arrays[1], y_test=labels[1])

    source = find(str(tmp_path / "x.npz"))

    assert (source.verified, source.digest, source.class_names) == (True, fashion.digest, fashion.class_names)


def test_fractions_of_white_become_bytes_and_that_is_told(tmp_path: Path) -> None:
    train, test = both(GREY)
    exact = find(str(npz(tmp_path / "a.npz")))

    source = find(str(npz(tmp_path / "b.npz", x_train=train[0] / 255, x_test=(test[0] / 255).astype(np.float32))))
    rounded = find(str(npz(tmp_path / "c.npz", x_train=train[0] + 0.25, x_test=test[0].astype(np.int64))))
    train[0][0, 0, :2, 0] = 0, 255
    nearly = train[0] / 255
    nearly[0, 0, :2, 0] += -1e-7, 1e-7
    hair = find(str(npz(tmp_path / "d.npz", x_train=nearly, x_test=test[0] / 255)))

    assert holds(hair, train, test)
    assert source.digest == rounded.digest == exact.digest
    assert source.notes == (
        "x_train: float64 pixels made whole numbers from 0 to 255 (0 to 1 times 255)",
        "x_test: float32 pixels made whole numbers from 0 to 255 (0 to 1 times 255)",
    )


def test_a_test_table_without_labels_is_left_out_and_a_test_set_held_out(tmp_path: Path) -> None:
    train, test = both(GREY)
    table(tmp_path / "digits" / "train.csv", *train)
    table(tmp_path / "digits" / "test.csv", test[0], None)
    (tmp_path / "digits" / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")

    source = find(str(tmp_path / "digits"))

    assert source.held_out
    assert source.notes[0] == "test.csv has no labels, so it is no test set"
    assert "20 of 120 images are held out" in source.notes[1]


def test_numbers_of_images_are_no_pixels(tmp_path: Path) -> None:
    train, test = both(GREY)

    def numbered(path: Path, heading: str) -> None:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([f"{heading},{lines[0]}", *(f"{k},{line}" for k, line in enumerate(lines[1:]))]))

    numbered(table(tmp_path / "kannada" / "train.csv", *train), "id")
    numbered(table(tmp_path / "kannada" / "test.csv", test[0], None), "id")
    numbered(table(tmp_path / "pandas" / "train.csv", *train), "")
    numbered(table(tmp_path / "pandas" / "test.csv", *test), "")

    kannada = find(str(tmp_path / "kannada"))

    assert kannada.held_out
    assert kannada.notes[0] == "test.csv has no labels, so it is no test set"
    assert (kannada.input_shape, kannada.n_train + kannada.n_test) == (GREY, 120)
    assert holds(find(str(tmp_path / "pandas")), train, test)


def test_a_header_of_pandas_numbers_is_no_image(tmp_path: Path) -> None:
    train, test = both(GREY)
    for name, part in (("train.csv", train), ("test.csv", test)):
        path = table(tmp_path / name, *part)
        path.write_text("\n".join([",".join(map(str, range(65))), *path.read_text().splitlines()[1:]]))

    assert holds(find(f"{tmp_path}/train.csv,{tmp_path}/test.csv"), train, test)


def test_class_folders_are_read_and_not_the_tables_beside_them(tmp_path: Path) -> None:
    german = pictures(tmp_path / "gtsrb" / "Train", TRAIN, ((10, 12),)).parent
    (german / "Test").mkdir()
    shutil.copy(next(german.rglob("*.png")), german / "Test")
    for name in ("Train.csv", "Test.csv"):
        (german / name).write_text("Width,Height,ClassId,Path\n27,26,20,Train/20/0.png\n")
    plain = pictures(tmp_path / "plain", TRAIN, ((10, 12),))
    (plain / "train_labels.csv").write_text("id,label\na,bars\n")
    kaggle = table(tmp_path / "kaggle" / "train.csv", *both(GREY)[0]).parent
    (kaggle / "plots").mkdir()
    shutil.copy(next(plain.rglob("*.png")), kaggle / "plots")

    notes = [find(str(folder)).notes for folder in (german, plain)]

    assert notes[0][:2] == (
        "Test.csv, Train.csv is left out: the folders are the classes",
        "Test/ has no class folders, so it is no test set",
    )
    assert notes[1][0] == "train_labels.csv is left out: the folders are the classes"
    assert find(str(kaggle)).kind == "csv"


def test_pictures_that_are_not_read_are_counted(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", TRAIN, ((10, 12),))
    for name in ("a.tif", "b.TIF", "c.heic", "notes.txt"):
        (folder / "dots" / name).write_bytes(b"x")

    assert find(f"{folder}:16").notes[0] == "3 picture(s) of formats that are not read are left out: .heic, .tif"


def test_grey_pictures_in_colours_are_told_with_what_to_type(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", TRAIN, ((10, 12),), channels=1)
    for path in folder.rglob("*.*"):
        Image.open(path).convert("RGB").save(path)

    assert f"--data {folder}:16x20:grey is quicker" in find(f"{folder}:16x20").notes[1]


def test_what_is_held_out_is_a_sixth_of_each_class_the_same_for_ever(tmp_path: Path) -> None:
    pixels, labels = images(TRAIN, GREY)
    one = find(str(table(tmp_path / "one.csv", pixels, labels)))
    np.savez(tmp_path / "two.npz", x_train=pixels, y_train=labels)

    two = find(str(tmp_path / "two.npz"))

    assert one.digest == two.digest  # no generator's state, no study's seed
    assert one.test_class_counts == (5, 7, 8)
    assert one.train_class_counts == (25, 33, 42)
    known = {image.tobytes() for image in read_images(one, ALL).train}
    assert known.isdisjoint(image.tobytes() for image in read_test(one)[0])
    assert [
        int(np.flatnonzero((pixels == image).all(axis=(1, 2, 3)))[0]) for image in read_test(one)[0][:3]
    ] == FIRST_HELD_OUT


FIRST_HELD_OUT = [17, 21, 31]


def test_copies_of_an_image_are_held_out_together_or_not_at_all(tmp_path: Path) -> None:
    pixels, labels = images((20, 20), GREY)
    np.savez(tmp_path / "x.npz", x_train=np.concatenate([pixels] * 3), y_train=np.concatenate([labels] * 3))

    source = find(str(tmp_path / "x.npz"))

    assert source.n_test >= 20
    assert not [warning for warning in source.warnings if "also training" in warning]


def test_labels_with_gaps_are_numbered_anew_and_keep_their_names(tmp_path: Path) -> None:
    train, test = both(GREY)
    letters = [(pixels, np.array([1, 4, 26])[labels]) for pixels, labels in (train, test)]
    folder = idx(tmp_path / "letters", *letters)

    plain = find(str(folder))
    (folder / LABELS_FILE).write_text("\n".join(["-", *"abcdefghijklmnopqrstuvwxyz"]))
    named_ones = find(str(folder))

    assert plain.class_names == ("1", "4", "26")
    assert named_ones.class_names == ("a", "d", "z")
    assert holds(plain, train, test)
    assert plain.digest == named_ones.digest
    assert "the labels 1 to 26 are numbered 0 to 2" in plain.notes[0]


def test_classes_have_the_names_that_came_with_them(tmp_path: Path) -> None:
    train, test = both(GREY)
    folder = idx(tmp_path / "idx", train, test)
    (folder / LABELS_FILE).write_text("bars\ndots\nrings\n")
    words = np.array(CLASSES)

    assert find(str(folder)).class_names == CLASSES
    assert find(str(npz(tmp_path / "a.npz", class_names=words))).class_names == CLASSES
    by_word = {"y_train": words[train[1]], "y_test": words[test[1]]}
    assert find(str(npz(tmp_path / "b.npz", **by_word))).class_names == CLASSES
    turned = find(str(npz(tmp_path / "c.npz", **by_word, class_names=words[::-1])))
    assert turned.class_names == CLASSES[::-1]
    assert holds(turned, (train[0], 2 - train[1]), (test[0], 2 - test[1]))


def test_a_folder_of_pictures_gives_its_classes_their_usual_size_and_their_colours(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", TRAIN, ((20, 30), (24, 30), (20, 40)))
    grey = pictures(tmp_path / "scans", TRAIN, ((90, 120), (45, 64)), channels=1)

    source, scans = find(str(folder)), find(str(grey))

    assert (source.kind, source.name, source.class_names) == ("pictures", "photos", CLASSES)
    assert (source.input_shape, source.held_out) == ((20, 30, 3), True)
    assert (source.n_train, source.n_test) == (100, 20)
    assert scans.input_shape == (45, 64, 1)  # the median's longest edge is 64 at most
    assert find(f"{folder}:16").input_shape == (16, 16, 3)
    assert find(f"{folder}:12x18:grey").input_shape == (12, 18, 1)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    pictures(tmp_path / "photos" / "train", TRAIN, ((10, 12),))
    pictures(tmp_path / "photos" / "Test", TEST, ((10, 12),))
    pictures(tmp_path / "photos" / "val", TEST, ((10, 12),))

    source = find(str(tmp_path / "photos"))

    assert (source.n_train, source.n_test, source.held_out) == (120, 18, False)
    assert source.test_class_counts == TEST
    assert "beside train/, val is left out" in source.notes[0]


def test_a_picture_is_read_for_training_as_predict_reads_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", (6, 6), ((30, 20), (25, 25)))
    turned, exif = Image.open(next(folder.rglob("*.jpg"))), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(folder / "bars" / "turned.jpg", exif=exif)
    turned.convert("P").save(folder / "bars" / "palette.gif")
    turned.putalpha(Image.linear_gradient("L").resize(turned.size))
    turned.save(folder / "bars" / "alpha.png")
    source = find(f"{folder}:16")
    seen = {image.tobytes() for image in (*read_images(source, ALL).train, *read_test(source)[0])}

    paths, _ = find_files([folder])
    asked = [bring(named.picture, (16, 16, 3), "whole", invert=None) for path in paths for named in read_file(path)]

    assert len(asked) == source.n_train + source.n_test == 15
    assert {one.pixels.tobytes() for one in asked} == seen
