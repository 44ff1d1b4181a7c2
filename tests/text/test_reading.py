import gzip
import io
import lzma
import tracemalloc
import zlib

import pytest
import zstandard

from throughtime.errors import InputError
from throughtime.text.choices import TextChoices
from throughtime.text.reading import Tally, read_text
from throughtime.text.sources import Source

TEXT = "Grüße, дом, שלום, e\u0301, 👩\u200d🚀.\n" * 3000
COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}


def read(data, tmp_path, name="book.txt", tally=None, **choices):
    path = tmp_path / name
    path.write_bytes(data)
    return "".join(read_text(Source(path), TextChoices(paths=(str(path),), **choices), tally=tally))


def refused(data, tmp_path, message, name="book.txt", **choices):
    with pytest.raises(InputError, match=message) as caught:
        read(data, tmp_path, name, **choices)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    given = "utf-8" if encoding == "utf-8-sig" else encoding  # a byte order mark is dropped without being asked for
    tally = Tally()
    assert read(TEXT.encode(encoding), tmp_path, encoding=given, tally=tally) == TEXT
    assert tally == Tally(len(TEXT.encode(encoding)), 0)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_by_any_name_and_in_several_pieces(tmp_path, suffix):
    data = COMPRESS[suffix](TEXT.encode())
    assert read(data + data, tmp_path, f"book.txt{suffix}") == TEXT * 2
    assert read(data, tmp_path, "book") == TEXT
    stream = io.BytesIO(data)
    assert "".join(read_text(Source(None), TextChoices(paths=("-",)), standard_input=stream)) == TEXT


def test_xz_with_zeros_between_its_streams_and_after_them(tmp_path):
    data = lzma.compress(TEXT.encode())
    assert read(data + bytes(8) + data + bytes(1 << 21), tmp_path, "book.txt.xz") == TEXT * 2
    refused(data + b"something else", tmp_path, "is damaged: it cannot be decompressed", "book.txt.xz")


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("kept", [0, 1, 30, -1])
def test_truncated(tmp_path, suffix, kept):
    data = COMPRESS[suffix](TEXT.encode())
    refused(data[:kept], tmp_path, "is truncated: its compressed data ends too early", f"book.txt{suffix}")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_damaged_or_misnamed(tmp_path, suffix):
    data = bytearray(COMPRESS[suffix](TEXT.encode()))
    data[20:40] = bytes(20)
    refused(bytes(data), tmp_path, "is damaged: it cannot be decompressed", f"book.txt{suffix}")
    refused(b"plain text", tmp_path, r"is no \w+ file though its name says so", f"book.txt{suffix}")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_decompression_bomb_is_stopped_in_bounded_memory(tmp_path, suffix):
    data = COMPRESS[suffix](b"a\n" * 40_000_000)
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        refused(data, tmp_path, r"larger than 9,000,000 bytes .* --max-bytes", f"book{suffix}", max_bytes=9_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def with_xz_dictionary(data, code):
    """The same stream, whose first block says that it refers as far back as `code` says: 30 is 128 MiB, 40 is 4 GiB."""
    header = bytearray(data[12:20])
    header[4] = code
    return data[:12] + bytes(header) + zlib.crc32(header).to_bytes(4, "little") + data[24:]


def zstandard_window(exponent):
    """The header of a frame, and one block of five bytes as they are."""
    header = bytes([0, (exponent - 10) << 3])
    return b"\x28\xb5\x2f\xfd" + header + (5 << 3 | 1).to_bytes(3, "little") + b"hello"


@pytest.mark.parametrize(
    ("suffix", "largest", "larger"),
    [
        (".xz", *(with_xz_dictionary(lzma.compress(b"hello"), code) for code in (30, 31))),
        (".zst", zstandard_window(27), zstandard_window(28)),
    ],
    ids=["xz", "zstandard"],
)
def test_a_dictionary_larger_than_the_memory_for_it_is_refused(tmp_path, suffix, largest, larger):
    assert read(largest, tmp_path, f"book{suffix}") == "hello"
    refused(larger, tmp_path, "takes more than 128 MiB of memory to decompress: .* standard input", f"book{suffix}")


def test_line_ends_become_line_feeds_wherever_blocks_end(tmp_path):
    filler = b"a" * ((1 << 20) - 1)
    assert read(b"one\r\ntwo\rthree\n\rfour", tmp_path) == "one\ntwo\nthree\n\nfour"
    assert read(filler + b"\r\nb\r", tmp_path) == filler.decode() + "\nb\n"
    assert read(filler + "é".encode(), tmp_path) == filler.decode() + "é"


@pytest.mark.parametrize("before", [5, (1 << 20) - 1, (1 << 20) + 3])
def test_bytes_that_are_not_utf_8(tmp_path, before):
    refused(b"a" * before + b"\xc3\x28", tmp_path, f"is not utf-8: byte 0xc3 at offset {before:,} cannot.*--encoding")
    refused(b"a" * before + b"\xe2\x82", tmp_path, f"byte 0xe2 at offset {before:,} cannot.*--errors replace")


def test_replaced_bytes_are_counted_and_genuine_replacement_characters_are_not(tmp_path):
    tally = Tally()
    assert read(b"a\xffb\xef\xbf\xbdc\xc3", tmp_path, errors="replace", tally=tally) == "a\ufffdb\ufffdc\ufffd"
    assert tally.num_replacements == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "is a PNG picture, not text"),
        (b"%PDF-1.7\n", "is a PDF document, not text"),
        (b"\x7fELF\x02\0", "is a program, not text"),
        (b"text\0more", "holds a NUL byte at offset 4: it looks like a binary file"),
        ("text".encode("utf-16"), "starts with the mark of utf-16: read it with --encoding utf-16"),
        ("text".encode("utf-32"), "starts with the mark of utf-32: read it with --encoding utf-32"),
    ],
)
def test_no_text(tmp_path, data, message):
    refused(data, tmp_path, message)
    refused(data, tmp_path, message, errors="replace")


def test_a_nul_byte_in_a_later_block_and_a_nul_character(tmp_path):
    refused(b"a" * (1 << 20) + b"b\0", tmp_path, "NUL byte at offset 1,048,577")
    refused(b"abcd", tmp_path, "is not utf-16: UTF-16 stream does not start with BOM; name", encoding="utf-16")
    refused("a\0".encode("utf-16"), tmp_path, "holds a NUL character", encoding="utf-16")


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*gone\.txt: No such file"):
        list(read_text(Source(tmp_path / "gone.txt"), TextChoices()))
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        list(read_text(Source(tmp_path), TextChoices()))
