"""Content-defined chunk boundaries.

The format is in ``docs/reference/format/chunking.md``; `datastore.kernel.reference` is its
executable form, and this module runs the same rule through the compiled ``pyfastcdc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from pyfastcdc import FastCDC

from datastore.errors import UsageError

KIB: Final = 1024
WHOLE_FILE_SIZE: Final = 128 * KIB
"""Files up to this many bytes are one chunk: cutting a small image only multiplies rows."""


class Chunker(Protocol):
    """Cuts bytes where their content says so."""

    @property
    def name(self) -> str:
        """The registered name; it carries the parameters and never changes its meaning."""
        ...

    @property
    def max_size(self) -> int:
        """No chunk is longer, in bytes."""
        ...

    def cut(self, data: memoryview, *, final: bool) -> list[int]:
        """Returns the lengths of the chunks at the start of `data`.

        Args:
            data: A window of the file that begins at a chunk boundary.
            final: Whether the file ends where the window ends. If it does not, a boundary that
                bytes past the window could still move is left out, and the caller gives the
                rest again with more bytes behind it.

        Returns:
            Lengths in bytes; their sum is ``len(data)`` when `final`.
        """
        ...


class FastCdc2020:
    """FastCDC as published in 2020 (Xia et al., IEEE TPDS 31(9)), two bytes a step.

    Args:
        name: The registered name.
        min_size: No cut before this many bytes.
        avg_size: The strict mask holds up to here, the loose one behind; a power of two.
        max_size: A cut at the latest here.
        normalization: How many bits the two masks are apart from the average, each way.
    """

    def __init__(
        self, name: str, *, min_size: int, avg_size: int, max_size: int, normalization: int
    ) -> None:
        self.name = name
        self.min_size = min_size
        self.avg_size = avg_size
        self.max_size = max_size
        self.normalization = normalization

    def cut(self, data: memoryview, *, final: bool) -> list[int]:
        """See `Chunker.cut`."""
        # One wheel object a call: its documentation forbids concurrent use, and it costs 1 us.
        cutter = FastCDC(
            self.avg_size,
            min_size=self.min_size,
            max_size=self.max_size,
            normalized_chunking=self.normalization,  # type: ignore[arg-type]
        )
        if final:
            return [chunk.length for chunk in cutter.cut_buf(data)]
        # The cutter takes the window's end for the file's end, so a chunk that begins less than
        # max_size before it may be cut short: it is not settled yet.
        settled = len(data) - self.max_size
        lengths, start = [], 0
        for chunk in cutter.cut_buf(data):
            if start > settled:
                break
            lengths.append(chunk.length)
            start += chunk.length
        return lengths


DEFAULT_CHUNKER: Final = "fastcdc2020-32k"
CHUNKERS: Final[Mapping[str, Chunker]] = {
    DEFAULT_CHUNKER: FastCdc2020(
        DEFAULT_CHUNKER,
        min_size=8 * KIB,
        avg_size=32 * KIB,
        max_size=128 * KIB,
        normalization=1,
    ),
}


def chunker_named(name: str) -> Chunker:
    """Looks up a chunker.

    Raises:
        UsageError: No chunker has that name.
    """
    try:
        return CHUNKERS[name]
    except KeyError:
        raise UsageError(
            f"no chunker is named {name!r}", hint=f"known: {', '.join(sorted(CHUNKERS))}"
        ) from None
