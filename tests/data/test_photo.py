"""Photos of every kind become what a person sees, at one place for training, check and report, or are refused in words."""

from __future__ import annotations

import ast
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskcls.data.inspection import Finding, inspect_profiles
from maskcls.data.photo import MAX_PIXELS, BadPhotos, PhotoError, decoded, opened, orientation, read_photo
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.profiles import IMAGE_EXTENSIONS, NamedPeople

ROOT = Path(__file__).parents[2]
PERSON = "000001_female_Asian_45"
LIMIT = r"pixels are too many, 120 million are the most: make the photo smaller"


def encoded(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return io.BytesIO(buffer.getvalue())


def png(width: int, height: int, *, colour_type: int = 0, depth: int = 1) -> bytes:
    """Returns a black PNG of any size in few bytes; its rows are packed as one run of zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), bytes(1 + (width * depth + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def inspected(file: str, content: bytes, folder: Path) -> list[Finding]:
    """Returns what the check says about a photo, apart from what it says about all photos."""
    (folder / PERSON).mkdir(parents=True)
    (folder / PERSON / file).write_bytes(content)
    findings = inspect_profiles(
        folder, NamedPeople([PERSON], [], {}), decode=True, num_threads=0, progress=lambda count: None
    )
    return [finding for finding in findings if finding.file]


# Numbers


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(mode: str, format: str) -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (8, 8), values.tobytes())
    source = (
        encoded(image, format)
        if (mode, format) != ("I;16B", "PNG")
        else encoded(Image.fromarray(values.astype("<u2")), format)
    )
    picture = np.asarray(read_photo(source))
    assert picture.shape == (8, 8, 3)
    assert np.array_equal(picture[..., 0], values.astype(int) >> 8)
    assert len(np.unique(picture)) > 50


def test_16_bit_grey_is_the_same_as_the_8_bit_picture_that_it_was_made_of() -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    sixteen = Image.fromarray(eight.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(read_photo(encoded(sixteen, "PNG")))[..., 1], eight)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bit_numbers_are_refused_by_all_for_nobody_knows_their_white(dtype: type, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(np.full((40, 40), 3, dtype)), "TIFF").getvalue()
    words = "its pixels are 32-bit numbers, of which nobody knows how much is white: save it as 8 bit"
    with pytest.raises(PhotoError, match=f"^{words}$"):
        read_photo(io.BytesIO(content))
    with pytest.raises(BadPhotos, match=f"^an embedded photo: {words}$"):
        Preprocessing((8, 8)).read({"path": None, "bytes": content})
    (finding, *_) = inspected("mask1.tiff", content, tmp_path)
    assert (finding.severity, finding.kind, finding.text) == ("error", "broken", f"cannot be decoded: {words}")


# Transparency


def test_transparent_parts_lie_on_grey_whatever_colour_is_hidden_there() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[0, :, 3], pixels[1, :, 3], pixels[2:, :, 3] = 0, 128, 255
    picture = np.asarray(read_photo(encoded(Image.fromarray(pixels), "PNG")))
    assert picture[:, 0].tolist() == [[128, 128, 128], [164, 64, 64], [200, 0, 0], [200, 0, 0]]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_photo_that_is_not_transparent_keeps_every_bit(format: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (30, 20, 4), np.uint8)
    colours[..., 3] = 255
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    picture = read_photo(encoded(Image.fromarray(colours), format, **options))
    assert np.array_equal(np.asarray(picture), colours[..., :3])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA"])
def test_every_way_to_say_transparent_is_understood(mode: str) -> None:
    image = Image.new("LA", (6, 6), (9, 0)) if mode == "LA" else Image.new(mode, (6, 6))
    options = {} if mode == "LA" else {"transparency": (0, 0, 0) if mode == "RGB" else 0}
    assert np.unique(np.asarray(read_photo(encoded(image, "PNG", **options)))).tolist() == [128]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_read_on_grey(format: str) -> None:
    first = Image.new("RGBA", (8, 8), (250, 10, 10, 255))
    first.paste((0, 0, 0, 0), (0, 0, 4, 8))
    second = Image.new("RGBA", (8, 8), (10, 250, 10, 100))
    options = {"lossless": True} if format == "WEBP" else {}
    source = encoded(first, format, save_all=True, append_images=[second], **options)
    with opened(source) as photo:
        assert photo.n_frames == 2
        picture = np.asarray(decoded(photo))
    assert (picture[:, :4] == 128).all()
    assert (picture[:, 4:] == (250, 10, 10)).all()


# Formats


def test_the_formats_of_the_extensions_are_read_by_this_pillow() -> None:
    formats = {Image.registered_extensions()[extension] for extension in IMAGE_EXTENSIONS}
    assert formats == {"AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"}
    assert {".avif", ".jfif"} < IMAGE_EXTENSIONS
    for format in formats:
        assert read_photo(encoded(Image.new("RGB", (64, 48), (90, 90, 90)), format)).size == (64, 48)


def test_a_heic_photo_is_reported_as_one_whatever_it_is_called(tmp_path: Path) -> None:
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    words = "it is a HEIC photo, which cannot be read: convert it to JPEG or PNG"
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (io.BytesIO(content), tmp_path / "a.jpg", str(tmp_path / "a.jpg")):
        with pytest.raises(PhotoError, match=f"^{words}$"):
            read_photo(source)
    (finding,) = inspected("mask1.jpg", content, tmp_path / "images")
    assert finding.text == f"cannot be read: {words}"


@pytest.mark.parametrize(("content", "words"), [(b"", "not an image"), (b"GIF89a", "it is not an image|index out of")])
def test_what_is_no_photo_is_reported(content: bytes, words: str) -> None:
    with pytest.raises(PhotoError, match=words):
        read_photo(io.BytesIO(content))


def test_what_cannot_be_opened_is_reported_as_the_system_says_it(tmp_path: Path) -> None:
    for path, words in {tmp_path / "none.jpg": "No such file or directory", tmp_path: "Is a directory"}.items():
        with pytest.raises(PhotoError, match=f"^{words}$"):
            read_photo(path)


# One limit


def test_the_largest_photos_of_phones_pass_and_larger_ones_are_refused_in_plain_words_by_all(tmp_path: Path) -> None:
    assert 12_000 * 9_000 < MAX_PIXELS < 13_000 * 13_000
    content = png(13_000, 13_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's, of an attack
        with pytest.raises(PhotoError, match=f"^13000 x 13000 {LIMIT}$"):
            read_photo(io.BytesIO(content))
        with pytest.raises(BadPhotos, match=f"^an embedded photo: 13000 x 13000 {LIMIT}$"):
            Preprocessing((32, 32)).read({"path": None, "bytes": content})
        (finding,) = inspected("mask1.png", content, tmp_path)
    assert (finding.severity, finding.kind) == ("error", "unreadable")
    assert finding.text.endswith("13000 x 13000 " + LIMIT)


def test_a_photo_that_pillow_would_call_an_attack_is_reported_in_our_words() -> None:
    with pytest.raises(PhotoError, match=f"^20000 x 20000 {LIMIT}$"):
        read_photo(io.BytesIO(png(20_000, 20_000)))


@pytest.mark.parametrize("is_turned", [False, True])
def test_the_limit_is_of_the_photo_as_it_is_stored_and_not_of_how_it_would_be_decoded(
    is_turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskcls.data.photo.MAX_PIXELS", 400 * 300 - 1)  # the real one takes seconds and a gigabyte
    exif = Image.Exif()
    exif[0x0112] = 6 if is_turned else 1
    content = encoded(Image.effect_noise((400, 300), 60), "JPEG", exif=exif).getvalue()
    with pytest.raises(BadPhotos, match="400 x 300 pixels are too many"):
        Preprocessing((8, 8)).read({"path": None, "bytes": content})
    findings = inspected("mask1.jpg", content, tmp_path)
    assert [finding.kind for finding in findings] == ["unreadable"]
    monkeypatch.setattr("maskcls.data.photo.MAX_PIXELS", 400 * 300)
    assert Preprocessing((8, 8)).read({"path": None, "bytes": content}).shape == (8, 8, 3)
    assert [f.kind for f in inspected("mask1.jpg", content, tmp_path / "again")] == []


# The check and training

NOISE = Image.effect_noise((160, 120), 60)
KINDS = {
    "a.jpg": encoded(NOISE, "JPEG"), "progressive.jpg": encoded(NOISE, "JPEG", progressive=True),
    "ink.jpg": encoded(NOISE.convert("CMYK"), "JPEG"), "a.png": encoded(NOISE, "PNG"), "a.webp": encoded(NOISE, "WEBP"),
    "a.gif": encoded(NOISE, "GIF"), "a.tiff": encoded(NOISE, "TIFF"), "a.avif": encoded(NOISE, "AVIF"),
    "deep.png": encoded(Image.new("I;16", (90, 90), 700), "PNG"), "float.tiff": encoded(Image.new("F", (90, 90)), "TIFF"),
    "glass.png": encoded(Image.new("RGBA", (90, 90), (9, 9, 9, 0)), "PNG"), "vast.png": io.BytesIO(png(13_000, 13_000)),
    "lab.tiff": encoded(Image.new("LAB", (90, 90)), "TIFF"), "phone.jpg": io.BytesIO(b"\0\0\0\x18ftypheic" + bytes(40)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_check_finds_what_training_refuses_and_nothing_else(name: str, tmp_path: Path) -> None:
    whole = KINDS[name].getvalue()
    refused = []
    for number, share in enumerate([1, 0.97, 0.6, 0.3, 0.05, 0]):
        content = whole[: round(len(whole) * share)]
        try:
            Preprocessing((24, 24)).read({"path": None, "bytes": content or b" "})
            refused.append(False)
        except BadPhotos:
            refused.append(True)
        (tmp_path / PERSON).mkdir(exist_ok=True)
        (tmp_path / PERSON / f"mask1{Path(name).suffix}").write_bytes(content)
        for is_in_full in (False, True):
            findings = inspect_profiles(
                tmp_path, NamedPeople([PERSON], [], {}), decode=is_in_full, num_threads=0, progress=lambda count: None
            )
            errors = [finding for finding in findings if finding.severity == "error"]
            assert bool(errors) == refused[-1], (number, errors)
    assert refused[-1]
    assert refused[0] == (name in ("float.tiff", "vast.png", "phone.jpg"))


# Smaller pictures of JPEGs


@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_is_decoded_smaller_by_its_upright_shape_but_no_smaller_than_asked(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = Image.effect_noise((800, 400), 60)
    source = encoded(stored, "JPEG", exif=exif)
    with opened(source) as photo:
        assert orientation(photo) == turn
        assert decoded(photo).size == ((400, 800) if turn == 6 else (800, 400))
    upright = (100, 200) if turn == 6 else (200, 100)
    assert read_photo(source, least=upright).size == upright
    assert read_photo(source, least=(upright[0] + 1, upright[1])).size == (upright[0] * 2, upright[1] * 2)


# Pictures that show nothing


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1"])
def test_a_picture_of_one_colour_is_reported_by_the_check(mode: str, tmp_path: Path) -> None:
    content = encoded(Image.new(mode, (64, 64), 1), "PNG").getvalue()
    (finding,) = [finding for finding in inspected("mask1.png", content, tmp_path) if finding.severity == "warning"]
    assert (finding.kind, finding.text) == ("one_colour", "shows nothing: all its pixels have the same colour")


def test_a_picture_that_differs_only_in_colour_or_in_one_corner_is_not_reported(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[60:, 60:] = (129, 127, 131)
    assert inspected("mask1.png", encoded(Image.fromarray(grey), "PNG").getvalue(), tmp_path) == []


# One place


def test_photos_are_opened_at_one_place_alone() -> None:
    opening, num_read = [], 0
    for file in [*sorted((ROOT / "maskcls").rglob("*.py")), *sorted(ROOT.glob("*.py"))]:
        num_read += 1
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open", "Pillow.open"):
                opening.append(file.relative_to(ROOT).as_posix())
    assert opening == ["maskcls/data/photo.py"]
    assert num_read > 50


def test_memory_that_is_not_there_is_no_photo_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: bytearray(2**62))
    with pytest.raises(MemoryError), opened(tmp_path / "a.png") as photo:
        decoded(photo)
