"""Kinds of files that show something but are not taken: videos, documents, formats without a reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from lookalike.errors import describe_extra


@dataclass(frozen=True)
class NotTaken:
    """Files of one kind that `survey` did not take.

    Attributes:
        kind: name of the kind, such as “HEIC”, “RAW”, “video”.
        count: number of files.
        extra: the extra of lookalike that reads them, if one does and it is not installed.
    """

    kind: str
    count: int
    extra: str | None = None

    def __str__(self) -> str:
        """Describe the files, such as “2 videos”; with the extra that reads them and the commands that install it."""
        name = f"{self.kind}s" if self.kind in _COUNTABLE and self.count != 1 else self.kind
        return f"{self.count:,} {name}" + (f" (needs {describe_extra(self.extra)})" if self.extra else "")


_COUNTABLE = frozenset({"video", "PDF", "icon"})

VIDEO = "video"
_SUFFIXES = {
    VIDEO: (
        "3g2 3gp asf avi braw divx f4v flv insv lrv m1v m2t m2ts m2v m4v mkv mov mp4 mpe mpeg mpg mts mxf ogm ogv qt rm"
        " rmvb vob webm wmv"
    ),
    "PSB": "psb",
    "SVG": "svg svgz",
    "JPEG XL": "jxl",
    "JPEG XR": "hdp jxr wdp",
    "PCX": "pcx",
    "PNM": "pam pfm",
    "icon": "cur icns ico",
    "EXR": "exr",
    "HDR": "hdr",
    "DDS": "dds",
    "QOI": "qoi",
    "DICOM": "dcm dicom",
    "FITS": "fit fits fts",
    "PDF": "pdf",
    "EPS": "eps epsf ps",
    "Illustrator": "ai",
    "InDesign": "indd",
    "Affinity": "afdesign afphoto",
    "GIMP": "xcf",
    "Krita": "kra",
    "Procreate": "procreate",
    "Sketch": "sketch",
    "CorelDRAW": "cdr",
    "WMF": "emf wmf",
    "DjVu": "djv djvu",
    "SGI": "bw rgb rgba sgi",
    "XBM": "xbm",
    "XPM": "xpm",
    "DPX": "dpx",
    "Clip Studio": "clip",
    "Paint.NET": "pdn",
    "Live Photo": "livp",
    "MNG": "mng",
}
KINDS: Mapping[str, str] = {f".{end}": kind for kind, ends in _SUFFIXES.items() for end in ends.split()}
"""Lower-case suffix → kind."""

_PLAIN_SUFFIXES = {
    "text, data and code": (
        "bat bib c cc cfg conf cpp cs css csv cu cxx dart db diff ejs env go h hpp htm html ini ipynb java js json jsonl jsx"
        " kt less lock log lua m map md mjs parquet patch php pl plist po py pyc pyi r rb rs rst rtf sass scala scss sh sql"
        " sqlite sqlite3 srt sub swift tex toml ts tsv tsx txt vtt vue xhtml xml yaml yml"
    ),
    "office, mail and e-books": (
        "doc docm docx eml epub key mbox mobi msg numbers odg odp ods odt pages pot potx pps ppsx ppt pptx pst vcf vsd vsdx"
        " xls xlsb xlsm xlsx"
    ),
    "sidecars and catalogues of image programs": (
        "aae acr cos dop exif lrcat lrdata lrprev lrtemplate nksc on1 pp3 rpp spd thm tmb url vrd xmp"
    ),
    "sound": "aac aif aiff amr ape flac m3u m4a m4b mid midi mka mp3 oga ogg opus pls wav wma",
    "archives, programs, fonts, arrays and models": (
        "7z a apk app bin bz2 cab ckpt class deb dll dmg dylib exe gz h5 hdf5 iso jar joblib lib lz4 mat msi npy npz o obj"
        " onnx otf pack pb pickle pkl pt pth pyd rar rpm safetensors so sys tar tflite tgz ttc ttf war whl woff woff2 xz zip"
        " zst"
    ),
    "unfinished downloads and temporary files": (
        "crdownload download lck opdownload part partial swp temp tmp torrent"
    ),
}
_PLAIN = frozenset(f".{end}" for ends in _PLAIN_SUFFIXES.values() for end in ends.split())

HEAD_BYTES = 256
"""Bytes of a file that tell its kind."""


def is_plain(suffix: str) -> bool:
    """Return whether files with this lower-case suffix are plainly not images, so that they need not be opened."""
    return suffix in _PLAIN


def kind_of(name: str, head: bytes) -> str | None:
    """Return the kind of a file that is not a supported image, from its suffix, else from its first bytes."""
    return KINDS.get(PurePath(name).suffix.lower()) or kind_of_content(head)


HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_MARKS = (
    (b"8BPS", "PSB"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"%PDF-", "PDF"),
    (b"%!PS-Adobe", "EPS"),
    (b"\x1a\x45\xdf\xa3", VIDEO),
    (b"\0\0\1\xba", VIDEO),
    (b"FLV\1", VIDEO),
    (b"gimp xcf", "GIMP"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"#?RADIANCE", "HDR"),
    (b"icns", "icon"),
    (b"\0\0\1\0", "icon"),
)


def kind_of_content(head: bytes) -> str | None:
    """Return the kind of a file from its first bytes alone."""
    for mark, kind in _MARKS:
        if head.startswith(mark):
            return kind
    if head[4:8] == b"ftyp":
        return VIDEO
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return VIDEO
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<svg", b"<?xml")) and b"<svg" in head:
        return "SVG"
    return None
