"""Feeds broken input to everything that reads what users write; benchmarks/fuzz.py does it a hundred thousand times.

A case ends well in a value or in a clear error (UserError; BadPhotos is one). Anything else, or more than LIMIT
seconds, is a finding. The same number of cases and seed give the same inputs.
"""

from __future__ import annotations

import io
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskcls.config import Config, load_config
from maskcls.data.inference import inference_data
from maskcls.data.label_fixes import COLUMNS, correct_labels
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.profiles import Photo, parse_profile, profile_lines
from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES, STEMS
from tests.helpers import ROOT

LIMIT = 5.0  # seconds that one case may take
BATCH = 2000  # cases that hypothesis plans together; its memory grows with them


@dataclass(frozen=True)
class Target:
    """One reader, and the inputs that are made for it."""

    name: str
    inputs: Callable[[], st.SearchStrategy[Any]]
    read: Callable[[Any, Path], object]  # the input, and the folder that `prepare` filled
    prepare: Callable[[Path], object] = lambda folder: None


@dataclass
class Outcome:
    """How the cases of one target ended."""

    num_cases: int = 0
    num_values: int = 0
    num_errors: int = 0
    slowest: float = 0.0  # seconds
    findings: dict[str, str] = field(default_factory=dict)  # what and where -> the shortest input


class TooSlowError(BaseException):
    """A case took too long; no Exception, or a reader that turns every Exception into a message would hide it."""


def fuzz(target: Target, num_cases: int, *, seed: int = 0, limit: float = LIMIT) -> Outcome:
    """Returns how at least `num_cases` cases ended; each of the batches has its own seed."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.prepare(Path(folder))
        batch = 0
        while outcome.num_cases < num_cases:

            @hypothesis.seed(seed * 1_000_000 + batch)
            @settings(
                max_examples=min(num_cases - outcome.num_cases, BATCH), database=None, deadline=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(target.inputs())
            def case(value: object) -> None:
                _run(target, value, Path(folder), outcome, limit)

            case()
            batch += 1
    return outcome


def _run(target: Target, value: object, folder: Path, outcome: Outcome, limit: float) -> None:
    outcome.num_cases += 1
    started, finding = time.perf_counter(), ""
    try:
        with _interrupted_after(limit):
            target.read(value, folder)
        outcome.num_values += 1
    except UserError:
        outcome.num_errors += 1
    except (Exception, TooSlowError) as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/maskcls/" in frame.filename]
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "the check"
        finding = f"{type(error).__name__} in {where}"
    seconds = time.perf_counter() - started
    outcome.slowest = max(outcome.slowest, seconds)
    finding = finding or (f"more than {limit:g} s" if seconds > limit else "")
    if finding and len(repr(value)) < len(outcome.findings.get(finding, repr(value) + " ")):
        outcome.findings[finding] = repr(value)


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError

    # hypothesis raises this limit; here it is what users have, or deep nesting would be slow instead of an error.
    before, depth = signal.signal(signal.SIGALRM, stop), sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.setrecursionlimit(depth)


# Inputs


def spoilt(wholes: Sequence[bytes], tokens: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Returns whole files with some edits (overwritten, put in, left out, doubled, cut off), and bytes of any kind."""
    edit = st.tuples(
        st.sampled_from(["overwrite", "insert", "insert", "delete", "double", "cut"]),
        st.floats(0, 1),
        st.sampled_from(tokens) | st.sampled_from(tokens) | st.binary(min_size=1, max_size=4),
    )
    edited = st.builds(_edited, st.sampled_from(wholes), edit.map(lambda one: [one]) | st.lists(edit, max_size=6))
    pieces = st.lists(st.sampled_from(tokens), max_size=12).map(b"".join)
    return st.integers(0, 9).flatmap(lambda kind: edited if kind < 8 else pieces if kind == 8 else st.binary())


def _edited(whole: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, piece in edits:
        at = round(share * len(whole))
        end = at + len(piece)
        if kind == "overwrite":
            whole = whole[:at] + piece + whole[end:]
        elif kind == "insert":
            whole = whole[:at] + piece + whole[at:]
        elif kind == "delete":
            whole = whole[:at] + whole[end + len(whole) // 16 :]
        elif kind == "double":
            whole = whole[:at] + whole[at : at + len(whole) // 8] * 2 + whole[at + len(whole) // 8 :]
        elif len(whole) > 64:
            whole = whole[:at]
    return whole


# The config: text of the file and overrides

YAML_PIECES = [
    b": ", b"- ", b"\n", b"\n  ", b"\t", b"{", b"}", b"[", b"]", b"'", b'"', b"#", b"~", b"null", b"yes", b"1e400",
    b".nan", b"-.inf", b"0x1F", b"0o7", b"1_000", b"190:20:30", b"2020-01-01", b"2020-99-99", b"9" * 5000, b"&a ",
    b"*a", b"<<: *a\n", b"? ", b"| ", b"> ", b"--- ", b"...\n", b"%YAML 9\n", b"!!python/object:os.system ",
    b"!!binary ", b"!!timestamp ", b"!!int ", b"!!float ", b"!!set ", b"!!omap ", b"!!bool ", b"!x ", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", "김".encode(), b"[" * 400, b"0x" + b"F" * 5000, b"{a: " * 500, b"&a [*a, *a]",
    b"&a {b: *a}", b"\\ud800", b'"\\ud800"', b'"\\0"', b'!!float ""', b'!!int ""',
]  # fmt: skip
LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40))
CONFIG_PIECES = [
    *YAML_PIECES, *(f"\n{key}: ".encode() for key in Config.model_fields), b"model: vit\n",
    b"criterion: weighted_sum\ncriterion_args: {terms: [{criterion: focal, factor: 2}]}\n",
    b"optimizer_args: {betas: [0.9, 0.95]}\n", b"dataset_args: {output: all, mean: [0, 0, 0]}\n",
    b"image_size: [64, 48]\n", b"crop_box: [0, 0, 1, 1]\n", b"head_weights: {age: 2}\n",
    LAUGHS + b"model_args: *a39\n",
]  # fmt: skip


def config_inputs() -> st.SearchStrategy[tuple[bytes, list[str]]]:
    """Returns (file, overrides)."""
    wholes = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    keys = [
        *Config.model_fields,
        "optimizer_args.betas",
        "dataset_args.output",
        "model_args.a.b",
        "lr.x",
        ".",
        "",
        "<<",
    ]
    values = st.sampled_from([piece.decode(errors="surrogateescape") for piece in CONFIG_PIECES]) | st.text(max_size=20)
    override = st.builds("{}{}={}".format, st.sampled_from(["", "--"]), st.sampled_from(keys), values)
    return st.tuples(spoilt(wholes, CONFIG_PIECES), st.just([]) | st.lists(override | st.text(max_size=20), max_size=3))


def read_config(value: tuple[bytes, list[str]], folder: Path) -> None:
    """Reads the config, and what it saves."""
    content, overrides = value
    (folder / "config.yaml").write_bytes(content)
    config = load_config(folder / "config.yaml", overrides)
    config.save(folder / "saved.yaml")
    assert load_config(folder / "saved.yaml").model_dump_json() == config.model_dump_json(), "saved and read differ"


# Names, lists and tables

PEOPLE = ["000001_female_Asian_45", "000002_male_Asian_20", "000002_female_Asian_61", "001498-1_male_Asian_23"]
NAME_PIECES = [
    *PEOPLE,
    "_",
    "male",
    "female",
    "Asian",
    "45",
    "121",
    "",
    "-",
    "/",
    "..",
    "\0",
    "\n",
    "٣",
    "김",
    "\ud800",
]
LIST_PIECES = [
    *(name.encode() for name in PEOPLE), b"\n", b"\r\n", b"\r", b" ", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", "\u2028".encode(), "\x85".encode(), "김".encode(),
]  # fmt: skip
TABLE_PIECES = [
    *LIST_PIECES, b",", b'"', b'""', b'"a\nb"', b";", b"ImageID", b"ans", b"a.jpg", b"b.PNG", b"../a.jpg", b"/",
    b".", b"..", b"x" * 300, b"x" * 140_000, *(column.encode() for column in COLUMNS), b"000002", b"001498-1",
    b"mask1", b"normal", b"worn", b"not_worn", b"male", b"female", b"<30", b"30-59", b">=60", b"45", b"-1",
]  # fmt: skip
INFO = b"ImageID,ans\na.jpg,0\nb.PNG,17\nc.webp,\n"
FIXES = (
    b"profile,stem,mask,gender,age,note\n000001,,,male,,x\n001498-1,mask1,not_worn,,,\n"
    b"000002_male_Asian_20,normal,incorrect,,\n001498-1,,,,30-59,\n"
)


def name_inputs() -> st.SearchStrategy[str]:
    """Returns names, mostly of four parts."""
    parts = st.sampled_from(NAME_PIECES) | st.text(max_size=4)
    four = st.tuples(parts, st.sampled_from(["male", "female"]) | parts, parts, st.integers(0, 130).map(str) | parts)
    return four.map("_".join) | st.lists(parts, max_size=8).map("_".join) | st.text()


def read_name(name: str, folder: Path) -> None:
    """Reads the name of a profile folder."""
    try:
        person = parse_profile(name)
    except UserError as error:
        assert repr(name) in str(error)
        raise
    assert (person.name, person.labels["gender"] in (0, 1), 0 <= person.age <= 120) == (name, True, True)


def read_list(content: bytes, folder: Path) -> None:
    """Reads a profile list, and every name in it."""
    (folder / "list.txt").write_bytes(content)
    try:
        names = list(profile_lines(folder / "list.txt"))
    except UserError as error:
        assert "list.txt" in str(error)
        raise
    assert names and len(set(names)) == len(names) and all(name and name == name.strip() for name in names)
    for name in names:
        read_name(name, folder)


def put_photos(folder: Path) -> None:
    """Makes images/ with three files (nothing here looks into them), and reads them once: that imports datasets."""
    (folder / "images").mkdir()
    for name in ("a.jpg", "b.PNG", "c.webp"):
        (folder / "images" / name).touch()
    read_info(INFO, folder)


def read_info(content: bytes, folder: Path) -> None:
    """Reads info.csv."""
    (folder / "info.csv").write_bytes(content)
    assert set(inference_data(folder).image_ids) <= {"a.jpg", "b.PNG", "c.webp"}


@cache
def photos() -> list[Photo]:
    """Returns the seven photos of each of the people."""
    people = [parse_profile(name) for name in PEOPLE]
    return [
        Photo(person.name, f"{stem}.jpg", {**said, **person.labels}, person.race, person.age)
        for person in people
        for stem, said in STEMS.items()
    ]


def read_fixes(content: bytes, folder: Path) -> None:
    """Reads corrected labels and applies them."""
    (folder / "fixes.csv").write_bytes(content)
    corrected = correct_labels(photos(), folder / "fixes.csv", PEOPLE)
    assert [photo.file for photo in corrected.photos] == [photo.file for photo in photos()]
    assert all(
        0 <= photo.age <= 120 and all(label in range(len(HEAD_CLASSES[name])) for name, label in photo.labels.items())
        for photo in corrected.photos
    )


# Photos

FORMS = [
    Preprocessing((16, 16)), Preprocessing((8, 24), "pad", margin=0.125), Preprocessing((24, 8), "crop"),
    Preprocessing((16, 16), "squash", (0.1, 0.2, 0.9, 1.0)), Preprocessing((1, 1), "crop", (0.0, 0.0, 0.001, 0.001)),
]  # fmt: skip
IMAGE_PIECES = [
    b"\0", b"\xff", b"\xff\xff", b"\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x40\0\x40\0",
    b"\x2e\xe0\x2e\xe0", b"\xe0\x2e\xe0\x2e", b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc2\0\x11", b"IHDR",
    b"IDAT", b"IEND", b"fcTL", b"RIFF", b"VP8X", b"ANMF", b"GIF89a", b"\x2c", b"\x21\xf9", b"Exif\0\0", b"MM\0*",
    b"II*\0",
]  # fmt: skip


@cache
def image_files() -> list[bytes]:
    """Returns small whole files of every kind that cameras and editors write."""
    random = np.random.default_rng(0)
    smooth = np.kron(random.integers(0, 256, (6, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # (48, 32, 3)
    picture = Image.fromarray(smooth)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "a description"
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture, "JPEG", {}), (picture, "JPEG", {"progressive": True, "exif": exif}),
        (picture.convert("CMYK"), "JPEG", {}), (picture.convert("L"), "JPEG", {}), (picture, "PNG", {}),
        (picture.convert("RGBA"), "PNG", {"exif": exif}), (picture.convert("P"), "PNG", {"transparency": 0}),
        (picture.convert("1"), "PNG", {}), (picture.convert("I;16"), "PNG", {}), (picture, "WEBP", {"quality": 50}),
        (picture.convert("RGBA"), "WEBP", {"lossless": True}), (picture, "GIF", {}),
        (picture, "WEBP", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(90)]}), (picture, "BMP", {}),
        (picture, "TIFF", {"compression": "tiff_lzw"}), (picture, "TIFF", {"exif": exif}),
    ]  # fmt: skip
    files = []
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def read_image(value: tuple[bytes, Preprocessing], folder: Path) -> None:
    """Reads a photo."""
    content, preprocessing = value
    pixels = preprocessing.read({"path": "photo", "bytes": content or b"\0"})  # no bytes: it would open the path
    assert (pixels.shape, pixels.dtype) == ((*preprocessing.stored_size, 3), np.uint8)


TARGETS = [
    Target("config and overrides", config_inputs, read_config),
    Target("profile names", name_inputs, read_name),
    Target("profile lists", lambda: spoilt(["\n".join(PEOPLE).encode()], LIST_PIECES), read_list),
    Target("info.csv", lambda: spoilt([INFO], TABLE_PIECES), read_info, put_photos),
    Target("label_fixes", lambda: spoilt([FIXES, (ROOT / "configs" / "label_fixes.csv").read_bytes()], TABLE_PIECES),
           read_fixes),
    Target("photos", lambda: st.tuples(spoilt(image_files(), IMAGE_PIECES), st.sampled_from(FORMS)), read_image),
]  # fmt: skip
