"""From bytes to characters: decompress, decode and normalise line ends, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import zstandard

from throughtime.errors import InputError
from throughtime.text.choices import TextChoices
from throughtime.text.sources import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Tally", "read_text"]

_BLOCK_BYTES = 1 << 20
_ZSTANDARD_STEP_BYTES = 256
"""Zstandard has no limit on what one step gives: 256 bytes hold at most 64 blocks of 128 KiB, 8 MiB."""
_WINDOW_BYTES = 1 << 27
"""How far back a compressed text may refer, for all of it is kept in memory: as far as `zstd --long`, twice `xz -9`."""
_XZ_BYTES = _WINDOW_BYTES + (1 << 20)

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
_SUFFIX_MEANS = {".gz": "gzip", ".xz": "xz", ".zst": "zstandard"}
_NO_TEXT = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF87a": "a GIF picture",
    b"GIF89a": "a GIF picture",
    b"\x7fELF": "a program",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"BZh91AY&SY": "a bzip2 file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_REPLACEMENT = "\ufffd"
# What stands for an undecodable byte until it is counted: a lone surrogate, which no encoding of text can give.
_MARK = "\udfff"
_MARK_HANDLER = "throughtime.mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _MARK, error.end


codecs.register_error(_MARK_HANDLER, _mark)


@dataclass
class Tally:
    """What was met while reading.

    Attributes:
        num_bytes: bytes of text, after decompression.
        num_replacements: how often U+FFFD stands for bytes that could not be decoded.
    """

    num_bytes: int = 0
    num_replacements: int = 0


def read_text(
    source: Source, choices: TextChoices, *, standard_input: IO[bytes] | None = None, tally: Tally | None = None
) -> Iterator[str]:
    """The characters of `source`, in pieces of about a mebibyte.

    Compression is told by the first bytes, not by the name; a byte order mark is dropped; CRLF and CR become LF.

    Args:
        source: what to read.
        choices: encoding, treatment of errors, limit of size.
        standard_input: what `-` reads; by default the standard input of this process.
        tally: counts of bytes and replacements are added here.

    Yields:
        Text, never empty.

    Raises:
        InputError: if it cannot be read, is no text, is not in this encoding, is truncated, or becomes too large.
    """
    tally = Tally() if tally is None else tally
    with _errors_named(source), _opened(source, standard_input) as stream:
        start = stream.peek(len(b"BZh91AY&SY"))[:16]
        kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
        _check_suffix(source, kind, start)
        blocks = _decompressed(stream, kind, source, choices.max_bytes) if kind else _plain(stream)
        yield from _decoded(blocks, source, choices, tally)


@contextmanager
def _opened(source: Source, standard_input: IO[bytes] | None) -> Iterator[io.BufferedReader]:
    if source.path is not None:
        with source.path.open("rb") as stream:
            yield stream
        return
    given = sys.stdin.buffer if standard_input is None else standard_input
    yield given if isinstance(given, io.BufferedReader) else io.BufferedReader(_Raw(given), _BLOCK_BYTES)


class _Raw(io.RawIOBase):
    """Any binary stream (a BytesIO, a socket's file) as what BufferedReader takes; it is not closed with it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


@contextmanager
def _errors_named(source: Source) -> Iterator[None]:
    """What the operating system and the decompressors raise, as an error for the user."""
    try:
        yield
    except EOFError as error:
        raise InputError(f"{source.name} is truncated: its compressed data ends too early; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        if "memory" in str(error).lower():  # neither library tells its limit from damage otherwise
            raise InputError(
                f"{source.name} takes more than {_WINDOW_BYTES >> 20} MiB of memory to decompress: decompress it by "
                "another program, and name what comes out, or - for standard input"
            ) from error
        raise InputError(f"{source.name} is damaged: it cannot be decompressed ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read {source.name}: {error.strerror or error}") from error


def _check_suffix(source: Source, kind: str | None, start: bytes) -> None:
    expected = _SUFFIX_MEANS.get(source.path.suffix.lower()) if source.path else None
    if expected is not None and kind != expected:
        if len(start) < 2:
            raise EOFError
        raise InputError(f"{source.name} is no {expected} file though its name says so: fetch it again or rename it")


def _plain(stream: io.BufferedReader) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _decompressed(stream: io.BufferedReader, kind: str, source: Source, max_bytes: int) -> Iterator[bytes]:
    num_bytes = 0
    for block in _DECOMPRESSORS[kind](stream):
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise InputError(
                f"{source.name} becomes larger than {max_bytes:,} bytes when decompressed: "
                "if it is meant to, raise the limit with --max-bytes"
            )
        yield block


def _gzip(stream: io.BufferedReader) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream, mode="rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _xz(stream: io.BufferedReader) -> Iterator[bytes]:
    """Stream after stream, zeros between them; `LZMAFile` would keep a dictionary of any size."""
    part: lzma.LZMADecompressor | None = None
    data = b""
    while (part is not None and not part.needs_input) or (data := data or stream.read(_BLOCK_BYTES)):
        if part is None:
            data = data.lstrip(b"\0")
            if not data:
                continue
            part = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_BYTES)
        block, data = part.decompress(data, _BLOCK_BYTES), b""
        if block:
            yield block
        if part.eof:
            data, part = part.unused_data, None
    if part is not None:
        raise EOFError


def _zstandard(stream: io.BufferedReader) -> Iterator[bytes]:
    """Frame after frame; zstandard's own reader would take a truncated frame for a whole one."""
    frame = None
    while data := stream.read(_ZSTANDARD_STEP_BYTES):
        while data:
            if frame is None:
                frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
            block = frame.decompress(data)
            if block:
                yield block
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError


_DECOMPRESSORS = {"gzip": _gzip, "xz": _xz, "zstandard": _zstandard}


def _decoded(blocks: Iterator[bytes], source: Source, choices: TextChoices, tally: Tally) -> Iterator[str]:
    """Characters of bytes: checked, counted, without byte order mark, every line ended by LF."""
    handler = _MARK_HANDLER if choices.errors == "replace" else "strict"
    decoder = codecs.getincrementaldecoder(choices.encoding)(handler)
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    wide = codecs.lookup(choices.encoding).name.startswith(("utf-16", "utf-32"))
    at_start = True
    num_bytes = 0
    for block in _with_end(blocks):
        if num_bytes == 0:
            _check_start(block, source, wide=wide)
        if not wide:
            _check_nul(block, num_bytes, source)
        held = decoder.getstate()[0]
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise InputError(_not_decodable(error, num_bytes - len(held), source, choices)) from error
        except UnicodeError as error:  # utf-16 and utf-32 without a byte order mark
            raise InputError(
                f"{source.name} is not {choices.encoding}: {error}; name the right --encoding, such as utf-16-le"
            ) from error
        num_bytes += len(block)
        if wide and "\0" in text:
            raise InputError(f"{source.name} holds a NUL character: is it a binary file, or in another encoding?")
        if at_start and text:
            text = text.removeprefix("\ufeff")
            at_start = False
        num_marks = text.count(_MARK)
        if num_marks:
            tally.num_replacements += num_marks
            text = text.replace(_MARK, _REPLACEMENT)
        tally.num_bytes += len(block)
        text = lines.decode(text, final=not block)
        if text:
            yield text


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, then an empty one that says that there are no more."""
    yield from blocks
    yield b""


def _check_start(block: bytes, source: Source, *, wide: bool) -> None:
    """Refuse what is no text, or not in the encoding that was asked for, by its first bytes."""
    for magic, what in _NO_TEXT.items():
        if block.startswith(magic):
            raise InputError(f"{source.name} is {what}, not text: make a text file of it first")
    if wide:
        return
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if block.startswith(mark):
            raise InputError(f"{source.name} starts with the mark of {encoding}: read it with --encoding {encoding}")


def _check_nul(block: bytes, num_bytes: int, source: Source) -> None:
    position = block.find(b"\0")
    if position >= 0:
        raise InputError(
            f"{source.name} holds a NUL byte at offset {num_bytes + position:,}: it looks like a binary file; "
            "give plain text, or name its --encoding if it is utf-16 or utf-32"
        )


def _not_decodable(error: UnicodeDecodeError, num_bytes: int, source: Source, choices: TextChoices) -> str:
    offset = num_bytes + error.start
    return (
        f"{source.name} is not {choices.encoding}: byte 0x{error.object[error.start]:02x} at offset {offset:,} cannot "
        "be decoded; name the right --encoding, or use --errors replace"
    )
