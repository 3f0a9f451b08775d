"""Where files are cut: the compiled chunker, the reference and the frozen vectors agree.

``python -m tests.kernel.test_chunking`` writes the vectors anew, for a new chunker only.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path

import pytest

from datastore.errors import UsageError
from datastore.kernel.chunking import (
    CHUNKERS,
    DEFAULT_CHUNKER,
    KIB,
    WHOLE_FILE_SIZE,
    FastCdc2020,
    chunker_named,
)
from datastore.kernel.hashing import chunk_digest, format_digest
from datastore.kernel.reference import GEAR, MASKS
from tests.kernel.samples import CONTENTS, SMALL, cut_in_windows, noise, reference

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "chunking.json"
PAGE = TOP / "docs" / "reference" / "format" / "chunking.md"

DEFAULT = CHUNKERS[DEFAULT_CHUNKER]
# -- the compiled chunker is the reference ---------------------------------------------------------


def around(*sizes):
    return sorted({max(0, size + step) for size in sizes for step in (-2, -1, 0, 1, 2)})


@pytest.mark.parametrize("name", CONTENTS)
def test_small_chunks_are_cut_as_the_reference_cuts(name):
    # Where the rule has a corner: nothing, the minimum, the average, the maximum, each also odd.
    sizes = around(0, SMALL.min_size, SMALL.avg_size, SMALL.max_size, 2 * SMALL.max_size)
    for size in [*sizes, 100_001]:
        data = CONTENTS[name](size)
        assert SMALL.cut(memoryview(data), final=True) == reference(SMALL, data), size


@pytest.mark.parametrize("name", CONTENTS)
def test_files_are_cut_as_the_reference_cuts(name):
    data = CONTENTS[name](700_001)
    assert DEFAULT.cut(memoryview(data), final=True) == reference(DEFAULT, data)


@pytest.mark.parametrize("normalization", [0, 1, 2])
def test_masks_are_chosen_by_normalization(normalization):
    chunker = FastCdc2020(
        "other", min_size=4096, avg_size=32768, max_size=65536, normalization=normalization
    )
    data = noise(300_000)
    assert chunker.cut(memoryview(data), final=True) == reference(chunker, data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_sizes_are_cut_as_the_reference_cuts(seed):
    rng = random.Random(seed)
    data = CONTENTS[rng.choice(list(CONTENTS))](rng.randrange(2_000_000))
    for chunker in (DEFAULT, SMALL):
        assert chunker.cut(memoryview(data), final=True) == reference(chunker, data)


def test_the_gear_table_is_the_first_half_of_md5():
    assert len(GEAR) == len(set(GEAR)) == 256
    page = PAGE.read_text(encoding="utf-8")
    for byte in (0, 1, 255):
        assert f"{GEAR[byte]:016x}" in page


def test_a_mask_has_as_many_bits_as_it_says():
    assert all(mask.bit_count() == bits for bits, mask in MASKS.items())


# -- windows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("seed", range(4))
def test_windows_of_any_size_give_the_same_cuts(name, seed):
    rng = random.Random(seed)
    data = CONTENTS[name](400_000 + rng.randrange(1000))
    whole = SMALL.cut(memoryview(data), final=True)
    for largest in (1000, 40_000, 200_000):
        sizes = iter(lambda largest=largest: rng.randint(1, largest), None)
        assert cut_in_windows(SMALL, data, sizes) == whole


def test_a_window_that_ends_where_a_cut_could_still_move_settles_nothing():
    data = noise(DEFAULT.max_size)
    assert DEFAULT.cut(memoryview(data[:-1]), final=False) == []
    assert len(DEFAULT.cut(memoryview(data), final=False)) == 1
    assert DEFAULT.cut(memoryview(b""), final=False) == []
    assert DEFAULT.cut(memoryview(b""), final=True) == []


# -- the registry ----------------------------------------------------------------------------------


def test_the_default_has_the_parameters_of_its_name():
    assert DEFAULT_CHUNKER == "fastcdc2020-32k"
    assert (DEFAULT.min_size, DEFAULT.avg_size, DEFAULT.max_size) == (8 * KIB, 32 * KIB, 128 * KIB)
    assert DEFAULT.normalization == 1
    assert WHOLE_FILE_SIZE == 128 * KIB


def test_chunkers_are_found_by_name():
    assert all(chunker_named(name) is CHUNKERS[name] for name in CHUNKERS)
    assert all(chunker.name == name for name, chunker in CHUNKERS.items())


def test_an_unknown_chunker_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match="no chunker is named 'rabin-1m'") as caught:
        chunker_named("rabin-1m")
    assert DEFAULT_CHUNKER in caught.value.hint


# -- frozen vectors --------------------------------------------------------------------------------

FROZEN = {
    "noise": 1_000_000,
    "text": 1_000_000,
    "zeros": 300_001,
    "a short period": 500_000,
    "zeros between noise": 900_000,
}


def vector(name):
    data = CONTENTS[name](FROZEN[name])
    lengths = DEFAULT.cut(memoryview(data), final=True)
    starts = [0, *itertools.accumulate(lengths)]
    return {
        "name": name,
        "chunker": DEFAULT_CHUNKER,
        "size": FROZEN[name],
        "sha256": hashlib.sha256(data).hexdigest(),
        "lengths": lengths,
        "digests": [
            format_digest(chunk_digest(data[start:end]))
            for start, end in itertools.pairwise(starts)
        ],
    }


@pytest.fixture(scope="module")
def golden():
    return json.loads(VECTORS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FROZEN)
def test_content_is_cut_where_it_always_was(golden, name):
    (expected,) = [each for each in golden if each["name"] == name]
    assert vector(name) == expected


def test_every_vector_is_checked(golden):
    assert [each["name"] for each in golden] == list(FROZEN)


def test_the_format_page_shows_these_vectors(golden):
    page = PAGE.read_text(encoding="utf-8")
    for each in golden:
        shown = " ".join(map(str, each["lengths"][:5]))
        assert f"| {each['name']} | {each['size']} | {len(each['lengths'])} | {shown} " in page
        assert each["sha256"] in page
        assert each["digests"][0] in page


if __name__ == "__main__":
    made = json.dumps([vector(name) for name in FROZEN], indent=1)
    VECTORS.write_text(made + "\n", encoding="utf-8")
