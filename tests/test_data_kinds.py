"""Every form in which images come, brought to the one form that trainings read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data import store
from tuner.data.folder import LABELS_FILE
from tuner.data.holdout import read_test
from tuner.data.idx import PARTS, parse_images, read_bytes
from tuner.data.reading import find_files, read_file
from tuner.data.sources import Source, find, named, open_folder, short_name
from tuner.data.splits import Cut, read_images, validation_images
from tuner.errors import DataError, EnvironmentProblem
from tuner.export.bring import bring
from tuner.runs import command_line

from .conftest import write_idx
from .own_images import CLASSES, idx, images, pictures, planted_keras, table

ALL = Cut(everything=True)
GREY, COLOUR = (8, 8, 1), (6, 9, 3)
TRAIN, TEST = (30, 40, 50), (5, 6, 7)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNER_DATA", raising=False)


def both(shape: tuple[int, int, int]) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return images(TRAIN, shape), images(TEST, shape, seed=1)


def npz(path: Path, shape: tuple[int, int, int] = GREY, **more: np.ndarray) -> Path:
    (x, y), (x_test, y_test) = both(shape)
    np.savez(path, **{"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test, **more})
    return path


def holds(source: Source, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> bool:
    read, tested = read_images(source, ALL), read_test(source)
    return all(
        np.array_equal(one, other)
        for one, other in (
            (read.train, train[0]),
            (read.train_labels, train[1]),
            (tested[0], test[0]),
            (tested[1], test[1]),
        )
    )


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


def test_more_classes_than_a_byte_can_tell_are_kept(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(300), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (900, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x_train=pixels, y_train=labels)

    source = find(str(tmp_path / "many.npz"))

    assert len(source.class_names) == 300
    assert np.array_equal(np.unique(read_images(source).train_labels), np.arange(300))
    assert np.array_equal(read_test(source)[1], np.arange(300))
    assert validation_images(source) == 300


def test_a_copy_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    path = str(npz(tmp_path / "a.npz"))
    said: list[str] = []

    first = find(path, said.append)
    before = {file: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    second = find(path, said.append)

    assert len(said) == 1
    assert second == first
    assert {file: file.stat().st_mtime_ns for file in first.folder.iterdir()} == before
    assert open_folder(first.folder).digest == first.digest  # which is a data set like any other


def test_other_images_under_the_same_name_are_other_images(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    first, copy_ = find(str(path)), find(str(path)).folder
    when = path.stat()

    pixels, labels = images(TRAIN, GREY, seed=5)
    npz(path, x_train=pixels, y_train=labels)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))  # a tool that keeps times
    second = find(str(path))

    assert second.digest != first.digest
    assert second.folder != copy_


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    path = str(npz(tmp_path / "a.npz"))
    source = find(path)
    part = source.folder / PARTS[0]
    part.write_bytes(part.read_bytes()[:-1] + b"\7")
    stray = source.folder.with_name("killed.draft")
    stray.mkdir()

    assert find(path) == source
    assert parse_images(part.read_bytes(), part)[-1].max() > 7
    assert not stray.exists()


def test_images_that_change_while_they_are_searched_are_refused(tmp_path: Path) -> None:
    train, test = both(GREY)
    source = find(str(idx(tmp_path / "idx", train, test)))
    write_idx(source.folder / PARTS[0], train[0][::-1, ..., 0])
    write_idx(source.folder / PARTS[2], test[0][::-1, ..., 0])

    with pytest.raises(DataError, match=f"{PARTS[0]}: has changed since the search began"):
        read_images(source)
    with pytest.raises(DataError, match=f"{PARTS[2]}: has changed since the search began"):
        read_test(source)


def test_two_that_want_the_same_images_make_one_copy(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    code = f"from tuner.data.sources import find; print(find({str(path)!r}, print).folder)"

    both_at_once = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both_at_once]

    assert [process.returncode for process in both_at_once] == [0, 0]
    assert len({lines.splitlines()[-1] for lines in said}) == 1
    assert "".join(said).count("Preparing the images") == 1
    assert [place.name for place in store.store_folder().iterdir() if place.is_dir()] == [find(str(path)).folder.name]


def test_a_full_disk_leaves_no_half_of_a_copy(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    full = f"ulimit -f 4; exec {sys.executable} -m tuner data check {path}"  # four blocks a file

    done = subprocess.run(["sh", "-c", full], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr.count("\n")) == (8, 1), done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert [place.name for place in store.store_folder().iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "a.npz")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")

    with pytest.raises(EnvironmentProblem, match=r"/proc/nothing.* cannot write there.*XDG_CACHE_HOME"):
        find(str(path))


def test_what_data_means_is_kept_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", (3, 3), ((9, 9),))
    (tmp_path / "odd:16").mkdir()

    assert named("photos:16x20:grey") == f"{tmp_path}/photos:16x20:grey"
    assert named("odd:16") == f"{tmp_path}/odd:16"  # a folder of that very name
    assert named("train.csv,test.csv") == f"{tmp_path}/train.csv,{tmp_path}/test.csv"
    assert named("keras:cifar10") == "keras:cifar10"
    assert short_name(f"{tmp_path}/a,b/train.csv,{tmp_path}/a,b/test.csv") == "train.csv"
    assert short_name(f"{tmp_path}/photos:16") == "photos:16"
    assert short_name(None) == "fashion-mnist"


def test_a_comma_in_a_folders_name_parts_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = both(GREY)
    table(tmp_path / "a,b" / "train.csv", *train)
    table(tmp_path / "a,b" / "test.csv", *test)
    monkeypatch.chdir(tmp_path / "a,b")

    kept = named("train.csv,test.csv")

    monkeypatch.chdir(tmp_path)
    assert kept == f"{tmp_path}/a,b/train.csv,{tmp_path}/a,b/test.csv"
    assert holds(find(kept), train, test)
    assert named(kept) == kept


def test_a_name_of_any_bytes_is_searched_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"b\xe4ume")
    source = find(str(npz(tmp_path / f"{name}.npz")))
    monkeypatch.setattr(sys, "argv", ["tuner", "search", "--data", f"{name}.npz"])

    said = (source.name, command_line(), short_name(named(str(tmp_path / f"{name}.npz"))))

    assert said == ("b�ume", "tuner search --data 'b�ume.npz'", "b�ume.npz")


def test_keras_data_sets_come_from_keras_cache_and_stay_there(
    fashion: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "keras" / "datasets" / "fashion-mnist"
    shutil.copytree(fashion.folder, planted)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    source = find("keras:fashion_mnist", download=False)

    assert source.folder == planted
    assert source.verified


def test_what_keras_loaded_once_is_there_without_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="keras:cifar10 is not on this machine"):
        find("keras:cifar10", download=False)

    with monkeypatch.context() as patched:
        patched.setenv(
            "PYTHONPATH", os.pathsep.join([str(planted_keras(tmp_path / "planted")), os.environ.get("PYTHONPATH", "")])
        )
        source = find("keras:cifar10")

    assert (source.kind, source.name, source.input_shape) == ("keras", "cifar10", (32, 32, 3))
    assert source.class_names[:2] == ("airplane", "automobile")
    assert find("keras:cifar10", download=False) == source
