"""Blocks come back as they went in, are compressed where it pays, and bombs do not go off."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from datastore.errors import CorruptionError, FormatError
from datastore.objects import codec
from datastore.objects.codec import (
    COMPRESSED_FIRST_BYTES,
    Codec,
    decode,
    encode,
    looks_compressed,
)
from tests.kernel.samples import noise, text

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def fresh_tools(monkeypatch):
    """Whether the last block paid is remembered by thread; each test starts without a memory."""
    monkeypatch.setattr(codec, "_tools", codec._Tools())


def encoded(*parts):
    return encode(parts, sum(map(len, parts)))


def joined(payload):
    return b"".join(payload)


# -- what is compressed ---------------------------------------------------------------------------

COMPRESSED = {
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "GIF": b"GIF89a",
    "zip": b"PK\x03\x04\x14\x00",
    "gzip": b"\x1f\x8b\x08",
    "zstd": b"\x28\xb5\x2f\xfd\x04",
    "xz": b"\xfd7zXZ\x00\x00",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "bzip2": b"BZh91AY",
    "Ogg": b"OggS\x00",
    "FLAC": b"fLaC\x00",
    "MP3": b"ID3\x04\x00",
    "Matroska": b"\x1aE\xdf\xa3\x01",
    "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "MP4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00",
    "AVIF": b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00",
}
PLAIN = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"label,x,y\n",
    "zeros": bytes(100),
    "WAV": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "the word at another place": b"\x00ftyp\x00\x00\x00\x00",
    "safetensors": b'\x58\x00\x00\x00\x00\x00\x00\x00{"a":',
}


@pytest.mark.parametrize("wrap", [bytes, memoryview])
@pytest.mark.parametrize("name", COMPRESSED)
def test_formats_that_are_compressed_already_are_known_by_their_first_bytes(name, wrap):
    assert looks_compressed(wrap(COMPRESSED[name] + bytes(1000)))
    # Whoever looks at the first byte alone must not miss one.
    assert COMPRESSED[name][0] in COMPRESSED_FIRST_BYTES


@pytest.mark.parametrize("name", PLAIN)
def test_other_content_is_tried(name):
    assert not looks_compressed(PLAIN[name])


# -- raw or zstd ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 5000, 20_000, 128 * 1024])
def test_text_is_compressed(size):
    kind, payload, stored = encoded(text(size))
    assert kind is Codec.ZSTD
    assert stored == len(joined(payload)) < size


@pytest.mark.parametrize("size", [1, 100, 5000, 20_000, 128 * 1024])
def test_what_does_not_compress_is_stored_as_it_is(size):
    parts = (noise(size),)
    kind, payload, stored = encode(parts, size)
    assert kind is Codec.RAW
    assert payload is parts  # not even copied
    assert stored == size


@pytest.mark.parametrize("size", [100, 64 * 1024])
def test_saving_less_than_a_32nd_does_not_pay(size):
    """A raw block is read by exactly the bytes wanted, a compressed one as a whole."""
    spare = size // 64
    assert encoded(noise(size - spare) + bytes(spare))[0] is Codec.RAW


def test_small_chunks_are_compressed_together():
    labels = [b'{"image": "%06d.jpg", "class": %d}' % (number, number % 7) for number in range(500)]
    kind, payload, stored = encoded(*labels)
    assert kind is Codec.ZSTD
    assert stored < sum(map(len, labels)) / 4
    assert decode(kind, joined(payload), sum(map(len, labels)), where="p") == b"".join(labels)


def test_a_block_is_judged_by_its_chunks_and_not_by_its_first_alone():
    assert encoded(noise(16_000), text(100_000), text(100_000))[0] is Codec.ZSTD


def test_noise_after_text_is_stored_as_it_is():
    """The block after one that paid is compressed without a probe: the result still decides."""
    assert encoded(text(50_000))[0] is Codec.ZSTD
    assert encoded(noise(50_000))[0] is Codec.RAW
    assert encoded(text(50_000))[0] is Codec.ZSTD


def test_a_block_without_bytes():
    kind, payload, stored = encoded(b"")
    assert (kind, joined(payload), stored) == (Codec.RAW, b"", 0)
    assert decode(kind, b"", 0, where="p") == b""


# -- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_blocks_come_back(seed):
    rng = random.Random(seed)
    parts = [
        rng.choice([noise, text, bytes])(rng.randrange(1, 60_000)) for _ in range(rng.randint(1, 5))
    ]
    size = sum(map(len, parts))
    kind, payload, stored = encode([memoryview(part) for part in parts], size)
    assert stored == len(joined(payload)) <= size
    assert decode(kind, joined(payload), size, where="p") == b"".join(parts)


def test_threads_do_not_get_in_each_others_way():
    contents = [text(1000 * number) + noise(100) for number in range(1, 60)]

    def there_and_back(data):
        kind, payload, _ = encoded(data)
        return bytes(decode(kind, joined(payload), len(data), where="p"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, contents)) == contents


# -- hostile and damaged payloads -----------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 4, 255])
def test_an_unknown_codec_is_for_a_newer_version(number):
    with pytest.raises(FormatError, match=f"uses codec {number}") as caught:
        decode(number, b"", 0, where="pack")
    assert "upgrade" in caught.value.hint
    assert caught.value.where == "pack"


@pytest.mark.parametrize("size", [0, 2, 4, 1 << 40])
def test_a_raw_block_has_the_size_that_it_says(size):
    with pytest.raises(CorruptionError, match="3 of"):
        decode(Codec.RAW, b"abc", size, where="pack")


def zstd(data, **options):
    parameters = zstandard.ZstdCompressionParameters(**options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("step", [-1, 1, 1000])
def test_a_compressed_block_has_the_size_that_it_says(known, step):
    payload = zstd(text(5000), write_content_size=known)
    with pytest.raises(CorruptionError):
        decode(Codec.ZSTD, payload, 5000 + step, where="pack")


def test_a_frame_that_states_its_size_is_read():
    """Ours do not, others may: the format allows it."""
    payload = zstd(text(5000), write_content_size=True)
    assert decode(Codec.ZSTD, payload, 5000, where="pack") == text(5000)


def refused_in_little_memory(payload, size):
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError):
            decode(Codec.ZSTD, payload, size, where="pack")
        return tracemalloc.get_traced_memory()[1] < size + MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claimed", [5001, 1 << 30, 1 << 40, (1 << 64) - 3])
def test_a_frame_that_claims_more_is_refused_before_memory_is_set_aside(claimed):
    # Magic; an 8-byte content size and a window of 1 KiB; one empty last block.
    frame = b"\x28\xb5\x2f\xfd\xc0\x00" + claimed.to_bytes(8, "little") + b"\x01\x00\x00"
    assert refused_in_little_memory(frame, 5000)


def test_a_bomb_that_hides_its_size_stops_at_the_size_it_was_announced_with():
    bomb = zstd(bytes(64 * MIB), write_content_size=False)
    assert len(bomb) < 10_000
    assert refused_in_little_memory(bomb, 5000)


def test_a_frame_with_a_huge_window_is_refused():
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            window_log=27, write_content_size=False
        )
    ).compressobj()
    payload = compressor.compress(text(5000)) + compressor.flush()
    with pytest.raises(CorruptionError, match="too much memory"):
        decode(Codec.ZSTD, payload, 5000, where="pack")


@pytest.mark.parametrize("frames", [b"", b"x", b"\x28\xb5\x2f\xfd", bytes(100)])
def test_what_is_no_frame_is_refused(frames):
    with pytest.raises(CorruptionError):
        decode(Codec.ZSTD, frames, 5000, where="pack")


def test_nothing_may_follow_a_frame():
    payload = zstd(text(5000), write_content_size=False)
    with pytest.raises(CorruptionError):
        decode(Codec.ZSTD, payload + b"x", 5000, where="pack")


def test_a_frame_cut_anywhere_is_refused():
    payload = zstd(text(300), write_content_size=False)
    for size in range(len(payload)):
        with pytest.raises(CorruptionError):
            decode(Codec.ZSTD, payload[:size], 300, where="pack")


def test_a_flipped_bit_gives_an_error_or_bytes_of_the_right_number():
    """zstd has no check of its own here: the digests above it tell."""
    payload = zstd(text(300), write_content_size=False)
    for at in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[at] ^= 1 << bit
            with contextlib.suppress(CorruptionError):
                assert len(decode(Codec.ZSTD, bytes(damaged), 300, where="pack")) == 300
