"""Folders and photos damaged in every way that the inspection knows; what it says, and that it looks at the rest."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from maskcls.data.inspection import MAX_BITS, MIN_CORRELATION, Finding, inspect_profiles, save_findings
from maskcls.data.profiles import NamedPeople, named_people, profile_lines
from maskcls.errors import UserError

STEMS = "mask1, mask2, mask3, mask4, mask5, incorrect_mask, normal"
NUL = "embedded null byte"


class Data:
    """A copy of the sample that a test damages."""

    def __init__(self, sample: Path, folder: Path) -> None:
        shutil.copytree(sample / "images", folder)
        self.folder = folder
        self.train = list(profile_lines(sample / "train_profiles.txt"))
        self.valid = list(profile_lines(sample / "valid_profiles.txt"))

    def photo(self, profile: str, stem: str) -> Path:
        return next(self.folder.glob(f"{profile}/{stem}.*"))

    def inspect(self, *, decode: bool = False, num_threads: int = 2) -> list[Finding]:
        people = NamedPeople(self.train, self.valid, {})
        return inspect_profiles(self.folder, people, decode=decode, num_threads=num_threads, progress=ignored)

    def found(self, *kinds: str, decode: bool = False) -> list[Finding]:
        """Returns the findings of these kinds."""
        return [finding for finding in self.inspect(decode=decode) if finding.kind in kinds]


def ignored(count: int) -> None:
    """Takes the progress of a test that does not look at it."""


@pytest.fixture
def data(sample: Path, tmp_path: Path) -> Data:
    return Data(sample, tmp_path / "images")


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def turned_back() -> Image.Exif:
    """Returns what tells a reader to turn the picture by 90 degrees to the right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def faces(count: int) -> np.ndarray:
    """Returns (count, 32, 32) smooth random pictures that are unlike each other."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC)) for each in coarse])


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_sound_photos_give_only_notes_and_every_photo_is_counted_once(
    decode: bool, num_threads: int, sample: Path
) -> None:
    counts: list[int] = []
    people = named_people(sample / "images", sample / "train_profiles.txt", sample / "valid_profiles.txt")
    findings = inspect_profiles(
        sample / "images", people, decode=decode, num_threads=num_threads, progress=counts.append
    )
    assert [(finding.severity, finding.kind) for finding in findings] == [
        ("warning", "tiny_group"),
        ("warning", "tiny_group"),
        ("note", "ignored"),
    ]
    assert findings[-1].text == "entries ignored (hidden, or not images by their extension): 2 hidden"
    assert sum(counts) == 12 * 7


# Lists and folders


def test_bad_folders_are_all_reported_and_the_others_still_looked_at(data: Data) -> None:
    other = data.train[0]
    bad = ["5_man_Asian_30", "6_male_Asian_300", "nobody", "7_male_Asian_30", "8_male_Asian_30", "9_male_Asian_a\0b"]
    for name in bad[:3]:
        shutil.copytree(data.folder / data.train[1], data.folder / name)
    (data.folder / bad[3]).mkdir()
    (data.folder / bad[3] / "notes.txt").touch()
    data.train += bad
    data.photo(other, "mask1").write_bytes(b"")
    findings = data.inspect()
    assert [finding for finding in findings if finding.severity == "error"] == [
        Finding("error", "empty", "the folder has no photos", profile="7_male_Asian_30"),
        Finding(
            "error",
            "missing",
            f"8_male_Asian_30 is listed, but {data.folder} has no such folder",
            profile="8_male_Asian_30",
        ),
        Finding("error", "missing", f"profile {bad[5]}: {data.folder}/{bad[5]} cannot be read: {NUL}", profile=bad[5]),
        Finding("error", "name", "'5_man_Asian_30': gender 'man' is neither male nor female", profile=bad[0]),
        Finding(
            "error", "name", "'6_male_Asian_300': age '300' is not a number of years from 0 to 120", profile=bad[1]
        ),
        Finding(
            "error", "name", "'nobody' is not id_gender_race_age, for example 000001_female_Asian_45", profile=bad[2]
        ),
        Finding("error", "unreadable", "cannot be read: it is not an image", profile=other, file=findings[6].file),
    ]
    assert sum(finding.kind == "duplicate" for finding in findings) == 7  # the bad folders' photos are looked at too


def test_a_folder_of_photos_that_does_not_exist_is_one_error(tmp_path: Path) -> None:
    names = ["1_male_Asian_30", "2_male_Asian_30"]
    people = NamedPeople(names, names[1:], {})
    findings = inspect_profiles(tmp_path / "none", people, decode=False, num_threads=0, progress=ignored)
    assert [(finding.kind, finding.text) for finding in findings] == [
        ("missing", f"data_dir {tmp_path / 'none'} does not exist"),
        ("leak", "in both the training and the validation list"),
    ]


def test_a_profile_is_reported_with_the_list_and_the_line_that_names_it(data: Data) -> None:
    names = ["nobody", "9_male_Asian_30"]
    (data.folder / names[0]).mkdir()
    places = {name: f"people.txt, line {line}" for line, name in enumerate(names, 7)}
    people = NamedPeople(names, [], places)
    findings = inspect_profiles(data.folder, people, decode=False, num_threads=0, progress=ignored)
    assert [finding.text for finding in findings if finding.kind in ("name", "missing")] == [
        f"people.txt, line 8: 9_male_Asian_30 is listed, but {data.folder} has no such folder",
        "people.txt, line 7: 'nobody' is not id_gender_race_age, for example 000001_female_Asian_45",
    ]


def test_photos_of_a_kind_that_cannot_be_read_are_named_with_what_to_do(data: Data) -> None:
    name = data.train[0]
    for file in ("mask1.HEIC", "mask2.heic", "normal.dng", "notes.txt"):
        (data.folder / name / file).touch()
    warning, note = data.found("unread_kind", "ignored")
    text = "photos of a kind that cannot be read are left out: 2 .heic, 1 .dng. Convert them to JPEG or PNG"
    assert warning == Finding("warning", "unread_kind", text, profile=name)
    assert set(note.text.partition(": ")[2].split(", ")) == {"2 hidden", "2 .heic", "1 .dng", "1 .txt"}


def test_names_in_another_encoding_are_reported_with_the_way_to_mend_them(data: Data) -> None:
    name = os.fsdecode("김_male_Asian_30".encode("cp949"))
    shutil.copytree(data.folder / data.train[0], data.folder / name)
    data.train.append(name)
    (finding,) = data.found("name")
    assert finding.severity == "error" and "in CP949 it is '김_male_Asian_30': rename it" in finding.text


def test_wrong_duplicate_and_missing_stems_are_reported(data: Data) -> None:
    odd, duplicate, short = sorted(data.train)[:3]
    data.photo(odd, "mask1").rename(data.folder / odd / "selfie.jpg")
    Image.new("RGB", (384, 512), "red").save(data.folder / duplicate / "mask2.bmp")
    for stem in ("incorrect_mask", "normal"):
        data.photo(short, stem).unlink()
    files = sorted(path.name for path in (data.folder / duplicate).glob("mask2.*"))
    *errors, few, many, fewest = data.found("stem", "stem_duplicate", "stem_count")
    assert errors == [
        Finding("error", "stem", f"a photo is called {STEMS}, exactly so", profile=odd, file="selfie.jpg"),
        *(
            Finding("error", "stem_duplicate", "one of 2 photos called mask2", profile=duplicate, file=file)
            for file in files
        ),
    ]
    usual = "usual are 5 worn, 1 incorrect, 1 not_worn"
    assert [few, many, fewest] == [
        Finding("warning", "stem_count", f"photos by mask state: {counts}; {usual}", profile=name)
        for name, counts in {
            odd: "4 worn, 1 incorrect, 1 not_worn",
            duplicate: "6 worn, 1 incorrect, 1 not_worn",
            short: "5 worn, 0 incorrect, 0 not_worn",
        }.items()
    ]


def test_a_person_in_both_lists_is_a_leak_and_an_id_in_both_a_question(data: Data) -> None:
    both, old = data.train[0], data.train[1]
    new = f"{old.split('_')[0]}_male_White_99"
    data.photo(old, "mask1").parent.rename(data.folder / "spare")
    for name in (old, new):
        shutil.copytree(data.folder / "spare", data.folder / name)
    data.valid += [both, new]
    question = f"validates, and the training list has this id as {old}: is that the same person?"
    assert [finding for finding in data.found("leak", "same_id") if not finding.file] == [
        Finding("error", "leak", "in both the training and the validation list", profile=both),
        Finding("warning", "same_id", question, profile=new),
    ]


def test_groups_of_fewer_than_ten_people_are_named_with_their_numbers(data: Data) -> None:
    source = data.folder / data.train[0]
    data.train, data.valid = [], []
    for number in range(10):
        data.train.append(f"{number}_male_Asian_29")
        shutil.copytree(source, data.folder / data.train[-1])
    for number in range(9):
        data.valid.append(f"v{number}_female_Asian_60")
        shutil.copytree(source, data.folder / data.valid[-1])
    data.photo("3_male_Asian_29", "normal").unlink()
    train, valid = data.found("tiny_group")
    assert train == Finding(
        "warning",
        "tiny_group",
        "fewer than 10 people in training groups: hard to learn: not_worn, male, <30 has 9; male 30-59 has 0; "
        "male >=60 has 0; female <30 has 0; female 30-59 has 0; female >=60 has 0",
    )
    assert valid.text == (
        "fewer than 10 people in validation groups: their scores are uncertain: male <30 has 0; male 30-59 has 0; "
        "male >=60 has 0; female <30 has 0; female 30-59 has 0; female >=60 has 9"
    )


# Photos one by one


@pytest.mark.parametrize("decode", [False, True])
def test_photos_that_cannot_be_read_or_end_too_early_are_errors(decode: bool, data: Data) -> None:
    name = data.train[0]
    texts = {
        "mask1": b"no image at all",
        "mask2": b"",
        "mask3": data.photo(name, "mask3").read_bytes()[:3000],  # the header is whole
        "mask4": saved(Image.effect_noise((384, 512), 60), format="PNG")[:-4000],
    }
    for stem, content in texts.items():
        data.photo(name, stem).unlink()
        (data.folder / name / f"{stem}.{'png' if stem == 'mask4' else 'jpg'}").write_bytes(content)
    data.photo(name, "mask5").unlink()
    (data.folder / name / "mask5.jpg").mkdir()
    findings = data.found("unreadable", "broken", decode=decode)
    assert [(finding.severity, finding.kind, finding.profile, finding.file) for finding in findings] == [
        ("error", "broken", name, "mask3.jpg"),
        ("error", "broken", name, "mask4.png"),
        ("error", "unreadable", name, "mask1.jpg"),
        ("error", "unreadable", name, "mask2.jpg"),
        ("error", "unreadable", name, "mask5.jpg"),
    ]
    assert findings[0].text.startswith("cannot be decoded: image file is truncated")
    assert findings[1].text.startswith("cannot be decoded: ")
    assert findings[2].text == findings[3].text == "cannot be read: it is not an image"
    assert "Is a directory" in findings[4].text


def test_an_extension_that_says_another_format_is_noted_and_two_pictures_in_a_jpeg_are_not(data: Data) -> None:
    name = data.train[0]
    with Image.open(data.photo(name, "mask1")) as opened:
        image = opened.convert("RGB")
    for stem in ("mask1", "mask2"):
        data.photo(name, stem).unlink()
    (data.folder / name / "mask1.png").write_bytes(saved(image, format="JPEG"))
    image.rotate(180).save(data.folder / name / "mask2.jpg", format="MPO", save_all=True, append_images=[image])
    with Image.open(data.folder / name / "mask2.jpg") as opened:
        assert opened.format == "MPO"
    assert data.found("extension") == [
        Finding("note", "extension", "a JPEG file, though it is called .png", profile=name, file="mask1.png")
    ]


def test_odd_modes_sizes_and_turns_are_reported(data: Data) -> None:
    name, second = data.train[:2]
    for stem, mode, size, options in (
        ("mask1", "CMYK", (384, 512), {}),
        ("mask2", "L", (384, 512), {}),
        ("mask3", "RGB", (24, 32), {}),
        ("mask4", "RGB", (512, 384), {"exif": turned_back()}),  # 384x512 as it is meant to be seen
        ("mask5", "RGB", (200, 100), {}),
    ):
        data.photo(name, stem).unlink()
        picture = Image.effect_noise(size, 60).convert(mode)
        picture.save(data.folder / name / f"{stem}.jpg", **options)
    data.photo(second, "mask1").unlink()
    Image.effect_noise((384, 512), 60).convert("RGBA").save(data.folder / second / "mask1.png")
    cmyk, *notes = data.found("cmyk", "mode", "tiny", "shapes", "turned")
    text = "has the colours of a printer, CMYK: look whether they come out right"
    assert cmyk == Finding("warning", "cmyk", text, profile=name, file="mask1.jpg")
    assert notes == [
        Finding("note", kind, text)
        for kind, text in {
            "mode": "photos that are converted to RGB, by mode: L (1), RGBA (1)",
            "shapes": "photos of 2 shapes; width / height is most often 0.75 (83), 2 (1)",
            "tiny": f"photos less than 32 pixels wide or high: 1, for example {name}/mask3.jpg",
            "turned": f"photos turned or mirrored by their EXIF orientation: 1, for example {name}/mask4.jpg",
        }.items()
    ]


# Photos compared


def test_equal_bytes_are_a_leak_across_the_lists_and_else_a_warning(data: Data) -> None:
    (first, second, third), validating = sorted(data.train)[:3], data.valid[0]

    def copy(source: tuple[str, str], target: tuple[str, str]) -> tuple[str, str]:
        data.photo(*target).unlink()
        path = data.photo(*source)
        shutil.copy(path, data.folder / target[0] / f"{target[1]}{path.suffix}")
        return path.name, f"{target[1]}{path.suffix}"

    of_one, file_of_one = copy((first, "mask1"), (first, "mask2"))
    of_two, file_of_two = copy((second, "mask3"), (third, "mask4"))
    of_both, file_of_both = copy((second, "normal"), (validating, "normal"))
    leak = f"the same bytes as {second}/{of_both}, in both the training and the validation list"
    assert data.found("leak", "duplicate", "near_duplicate") == [
        Finding("error", "leak", leak, profile=validating, file=file_of_both),
        Finding("warning", "duplicate", f"the same bytes as {first}/{file_of_one}", profile=first, file=of_one),
        Finding("warning", "duplicate", f"the same bytes as {third}/{file_of_two}", profile=second, file=of_two),
    ]


def test_equal_photos_of_one_person_are_no_leak_even_if_the_person_is_in_both_lists(data: Data) -> None:
    name = data.train[0]
    data.valid.append(name)
    data.photo(name, "mask2").write_bytes(data.photo(name, "mask1").read_bytes())
    duplicate, leak = sorted(data.found("duplicate", "leak"), key=lambda finding: finding.kind)
    assert (duplicate.kind, duplicate.severity, duplicate.profile) == ("duplicate", "warning", name)
    assert leak == Finding("error", "leak", "in both the training and the validation list", profile=name)


def test_many_equal_photos_are_one_finding_that_names_the_first(data: Data) -> None:
    placeholder = saved(Image.new("RGB", (96, 128), "grey"), format="JPEG")
    for name in data.train[:8]:
        data.photo(name, "mask1").write_bytes(placeholder)
    (finding,) = data.found("duplicate", "near_duplicate")
    assert finding.profile == min(data.train[:8])
    assert finding.text.count("/mask1.") == 7


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        lambda image: saved(image, format="JPEG", quality=40),
        lambda image: saved(image.resize((image.width // 2, image.height // 2)), format="JPEG"),
        lambda image: saved(image.resize((image.width * 2, image.height * 2)), format="JPEG"),
        lambda image: saved(image.convert("L"), format="PNG"),
        lambda image: saved(image.transpose(Image.Transpose.ROTATE_90), format="JPEG", exif=turned_back()),
    ],
    ids=["saved again", "half the size", "twice the size", "a grey PNG", "stored turned"],
)
def test_a_changed_copy_under_another_person_is_found(
    changed: Callable[[Image.Image], bytes], decode: bool, data: Data
) -> None:
    first, second = sorted(data.train)[:2]
    validating = max(data.valid)
    for source, target in (((first, "mask1"), (second, "mask5")), ((first, "normal"), (validating, "mask1"))):
        with Image.open(data.photo(*source)) as image:
            data.photo(*target).write_bytes(changed(image))
    like_mask1 = f"looks the same as {first}/{data.photo(first, 'mask1').name}"
    like_normal = f"looks the same as {first}/{data.photo(first, 'normal').name}, training and validation"
    assert set(data.found("near_duplicate", decode=decode)) == {
        Finding("warning", "near_duplicate", like_mask1, profile=second, file=data.photo(second, "mask5").name),
        Finding(
            "warning", "near_duplicate", like_normal, profile=validating, file=data.photo(validating, "mask1").name
        ),
    }


def test_a_changed_copy_under_the_same_person_is_not_reported(data: Data) -> None:
    name = data.train[0]
    with Image.open(data.photo(name, "mask1")) as image:
        data.photo(name, "mask2").write_bytes(saved(image, format="JPEG", quality=40))
    assert data.found("near_duplicate") == []


def test_photos_that_look_the_same_are_those_of_a_slow_reference(tmp_path: Path) -> None:
    stems = STEMS.split(", ")
    names = [f"{number}_male_Asian_30" for number in range(6)]
    random = np.random.default_rng(1)
    pictures = {}
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        for stem, face in zip(stems, faces(7), strict=True):
            noise = random.normal(0, 5 * number, face.shape)
            pictures[name, f"{stem}.png"] = np.clip(face + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pictures[name, f"{stem}.png"]).save(tmp_path / name / f"{stem}.png")

    def bits(picture: np.ndarray) -> np.ndarray:
        low = dctn(picture.astype(float))[:8, :8].flatten()
        return low > np.median(low)

    expected = set()
    for later, picture in pictures.items():
        for earlier, other in pictures.items():
            if earlier[0] < later[0]:
                is_near = sum(bits(picture) != bits(other)) <= MAX_BITS
                if is_near and np.corrcoef(picture.flatten(), other.flatten())[0, 1] >= MIN_CORRELATION:
                    expected.add(later)
    findings = inspect_profiles(tmp_path, NamedPeople(names, [], {}), decode=False, num_threads=0, progress=ignored)
    found = {(finding.profile, finding.file) for finding in findings if finding.kind == "near_duplicate"}
    assert found == expected
    assert 0 < len(expected) < 35  # of 7 photos of the 5 people after the first


# The table


def test_the_table_holds_every_finding_whatever_bytes_its_name_has(data: Data, tmp_path: Path) -> None:
    name = data.train[0]
    data.photo(name, "mask1").rename(data.folder / name / os.fsdecode(b'\xff, "a".jpg'))
    (data.folder / "김_male_Asian_3").mkdir()
    data.train += ["김_male_Asian_3"]
    data.photo(name, "mask2").rename(data.folder / name / "=1+1.jpg")
    findings = data.inspect()
    save_findings(findings, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["severity", "kind", "profile", "file", "text"]
    assert len(rows) == len(findings) > 4
    assert rows[0] == {
        "severity": "error",
        "kind": "empty",
        "profile": "김_male_Asian_3",
        "file": "",
        "text": "the folder has no photos",
    }
    assert [(row["kind"], row["file"]) for row in rows[1:3]] == [("stem", "'=1+1.jpg"), ("stem", '\\udcff, "a".jpg')]
    order = [["error", "warning", "note"].index(row["severity"]) for row in rows]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


def test_a_table_that_cannot_be_written_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none/out\.csv cannot be written: No such file or directory"):
        save_findings([], tmp_path / "none" / "out.csv")
