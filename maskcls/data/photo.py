"""A photo's file -> its picture as a person sees it, 8 bit RGB: the one place that opens photos.

Training, inference, the check and the reports read photos here, so that all see the same picture and refuse the same
files, in the same words. How a picture becomes pixels of one size is preprocessing.py's.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maskcls.errors import UserError, joined

# The largest picture that is decoded: while it is, 1.1 GB. The photos of a phone's 108 megapixels pass.
MAX_PIXELS = 120_000_000
GREY = 128  # what lies behind transparent parts, and around photos with fit: pad
ORIENTATION = 0x0112  # the EXIF tag
HEIC_BRANDS = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1")


class PhotoError(Exception):
    """Why a photo cannot be read, in words that go on after its name."""


class BadPhotos(UserError):
    """Files that are not whole images; its arguments are one line each."""

    def __str__(self) -> str:
        return joined(sorted(self.args), "photos cannot be read")


def read_photo(source: str | Path | io.BytesIO, *, least: tuple[int, int] | None = None) -> Image.Image:
    """Returns the picture of a photo, see `decoded`. Raises PhotoError when it is not a whole photo."""
    with opened(source) as photo:
        return decoded(photo, least=least)


@contextmanager
def opened(source: str | Path | io.BytesIO) -> Iterator[Image.Image]:
    """Gives a photo whose header is read and whose pixels are not: its format, mode and size as it is stored.

    Raises PhotoError when it is not a photo, or one of more than MAX_PIXELS.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limits only warn, or speak of an attack
    with _in_words():
        try:
            photo = Image.open(source)
        except UnidentifiedImageError:
            raise PhotoError(_why_no_image(source)) from None
    with photo:
        if photo.width * photo.height > MAX_PIXELS:
            size, most = f"{photo.width} x {photo.height} pixels", f"{MAX_PIXELS / 1e6:.0f} million are the most"
            raise PhotoError(f"{size} are too many, {most}: make the photo smaller")
        yield photo


def decoded(photo: Image.Image, *, least: tuple[int, int] | None = None) -> Image.Image:
    """Returns an opened photo upright, in 8 bit RGB, transparent parts on grey; of an animation the first picture.

    least: the width and height in pixels, upright, that are needed at least; a JPEG is then decoded smaller where it
    can be, which is several times faster. Raises PhotoError when it is not whole, or of a kind that has no one meaning.
    """
    with _in_words():
        if least:
            photo.draft("RGB", least[::-1] if is_on_its_side(photo) else least)
        photo.load()
        ImageOps.exif_transpose(photo, in_place=True)  # without a second copy of a large picture
        image = photo
        if image.mode in ("I", "F"):
            raise PhotoError("its pixels are 32-bit numbers, of which nobody knows how much is white: save it as 8 bit")
        if image.mode.startswith("I;16"):
            # The high byte, as Pillow itself takes it of 16-bit colours.
            image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            see_through = image.convert("RGBA")
            image = Image.new("RGB", image.size, (GREY, GREY, GREY))
            image.paste(see_through, mask=see_through)
        return image if image.mode == "RGB" else image.convert("RGB")


def orientation(photo: Image.Image) -> int:
    """Returns how an opened photo has to be turned and mirrored, as EXIF counts it: 1 (not at all) to 8."""
    with _in_words():
        return photo.getexif().get(ORIENTATION, 1)


def is_on_its_side(photo: Image.Image) -> bool:
    """Returns whether an opened photo is stored turned by 90 degrees."""
    return orientation(photo) in range(5, 9)


@contextmanager
def _in_words() -> Iterator[None]:
    """Turns whatever Pillow's decoders raise (OSError, SyntaxError, ValueError, struct.error, ...) into PhotoError."""
    try:
        yield
    except (PhotoError, MemoryError):  # the latter says nothing about the photo
        raise
    except Exception as error:
        raise PhotoError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None


def _why_no_image(source: str | Path | io.BytesIO) -> str:
    with io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else open(source, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in HEIC_BRANDS:  # phones name them .jpg too
        return "it is a HEIC photo, which cannot be read: convert it to JPEG or PNG"
    return "it is not an image"
