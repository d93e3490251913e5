"""Which images files hold, and what is one line: damaged, huge, or none."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.images import fit
from tuner.data.reading import ARRAY_BYTES, find_files, read_file
from tuner.errors import DataError

from .conftest import write_idx
from .pictures import BROKEN, COLOUR, enlarged, error, grey, idx_of, inverted, npz, saved


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_says_what_and_where(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BROKEN[name][0])

    with pytest.raises(DataError) as caught:
        list(read_file(path))

    assert str(caught.value).startswith(f"{path}: ")
    assert BROKEN[name][1] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_npz_with_one_wrong_byte_is_damaged(tmp_path: Path, boot: Image.Image) -> None:
    path = npz(tmp_path / "flipped.npz", x=np.asarray(boot)[None])
    content = bytearray(path.read_bytes())
    content[500] ^= 255
    path.write_bytes(content)

    with pytest.raises(DataError, match="Bad CRC"):
        list(read_file(path))


def test_arrays_are_taken_as_they_are(tmp_path: Path, trained_on: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (array[:7] for array in trained_on)
    write_idx(tmp_path / "x-idx3-ubyte", images)
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x-idx3-ubyte").read_bytes()))
    paths = [
        tmp_path / "x-idx3-ubyte",
        tmp_path / "x.gz",
        npz(tmp_path / "a.npz", labels=labels.astype(np.int64), small=labels, x=images, y=images[:, :5]),
        npz(tmp_path / "b.npz", x=images[..., None]),
        npz(tmp_path / "turned.npz", x=np.asfortranarray(images)),
    ]

    for path in paths:
        named = list(read_file(path))
        assert [one.name for one in named] == [f"{path}[{number}]" for number in range(7)]
        np.testing.assert_array_equal([grey(one.picture) for one in named], images)
    assert next(read_file(paths[2], "y")).picture.size == (28, 5)
    with pytest.raises(DataError, match=r"no array 'z' \(it holds labels int64 7, small uint8 7"):
        list(read_file(paths[2], "z"))
    with pytest.raises(DataError, match="int64 7 is no array of images"):
        list(read_file(paths[2], "labels"))


def test_a_huge_array_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse-idx3-ubyte"
    with path.open("wb") as file:
        file.write(idx_of(1, ARRAY_BYTES, 2, n_bytes=0))
        file.truncate(2 * ARRAY_BYTES + 16)  # a hole: no disk is used

    with pytest.raises(DataError, match=r"2\.0 GiB \(at most 1 GiB"):
        list(read_file(path))


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_looked_at(kind: str, tmp_path: Path, boot: Image.Image) -> None:
    large = enlarged(boot, 5)
    path = saved(large, tmp_path / f"moving.{kind}", save_all=True, append_images=[inverted(large)], lossless=True)

    named = next(read_file(path))

    assert named.warnings == ("animated: only its first frame is looked at",)
    assert error(grey(named.picture), np.asarray(boot)) < 1


def test_a_cameras_second_picture_is_no_animation(tmp_path: Path, boot: Image.Image) -> None:
    path = tmp_path / "phone.jpg"
    enlarged(boot, 5).save(path, format="MPO", save_all=True, append_images=[enlarged(boot, 2)])

    named = next(read_file(path))

    assert named.warnings == ()
    assert error(grey(named.picture), np.asarray(boot)) < 8


def test_a_folder_is_read_in_order_without_what_is_hidden(tmp_path: Path, boot: Image.Image) -> None:
    (tmp_path / "in" / ".git").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("b.png", "in/C.JPG", "a.jpeg", ".hidden.png", "in/.git/d.png"):
        saved(boot, tmp_path / name)
    for name in ("t-images-idx3-ubyte", "t-labels-idx1-ubyte", "notes.txt", "in/x.idx.gz"):
        (tmp_path / name).write_bytes(b"x")

    found, others = find_files([tmp_path, tmp_path / "none.png", tmp_path / "empty"])

    inside = ["a.jpeg", "b.png", "in/C.JPG", "in/x.idx.gz", "t-images-idx3-ubyte"]
    assert found[:5] == [tmp_path / name for name in inside]
    assert str(found[5]) == f"{tmp_path}/none.png: no such file or folder (check the name)"
    assert "no image in this folder" in str(found[6])
    assert others == [tmp_path / "notes.txt", tmp_path / "t-labels-idx1-ubyte"]


def test_pillows_remarks_do_not_reach_the_screen(tmp_path: Path, boot: Image.Image) -> None:
    path = saved(boot, tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0")  # 255 entries, and none is there

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(next(read_file(path)).picture, COLOUR)

    assert caught == []
