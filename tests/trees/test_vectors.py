"""The tree format, frozen: other values here mean that old stores can no longer be read alike.

``python -m tests.trees.test_vectors`` writes the vectors anew, for a new format only.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from datastore.kernel.hashing import format_digest
from datastore.trees.prolly import Shape, scan
from tests.trees.memory import MemoryNodes

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "tree.json"
PAGE = TOP / "docs" / "reference" / "format" / "tree.md"

WORKED = "ten numbers"
MAPS = {
    "empty": (0, "%d", "%d", 128, 512),
    WORKED: (10, "%d", "v", 8, 8),
    "one row": (1, "%d", "%d", 128, 512),
    "numbers, smallest nodes": (1000, "%d", "%d", 4, 4),
    "numbers, odd targets": (5000, "%x", "", 33, 9),
    "paths": (20000, "images/%08d.jpg", "value %d", 128, 512),
    "paths, leaves of 16 KiB": (20000, "train/%05d/label.json", "%d", 234, 512),
    "long keys": (700, "a/" * 100 + "%d", "v", 16, 16),
}


def rows(count, key, value):
    """Keys and values from patterns with at most one number in them."""
    made = {
        (key % number).encode(): (value % number if "%" in value else value).encode()
        for number in range(count)
    }
    return dict(sorted(made.items()))


def tree_vector(name, count, key, value, leaf_rows, inner_rows):
    nodes = MemoryNodes()
    tree = nodes.build(rows(count, key, value), Shape(leaf_rows, inner_rows))
    assert dict(scan(tree, nodes)) == rows(count, key, value)
    return {
        "name": name,
        "count": count,
        "key": key,
        "value": value,
        "leaf_rows": leaf_rows,
        "inner_rows": inner_rows,
        "top": format_digest(tree.top),
        "level": tree.level,
        "rows": tree.rows,
        "nodes": len(nodes.nodes),
    }


def node_vectors():
    """The empty tree, and the nodes of the format page's worked example."""
    nodes = MemoryNodes()
    nodes.build({})
    nodes.build(rows(*MAPS[WORKED][:3]), Shape(*MAPS[WORKED][3:]))
    return [
        {"digest": format_digest(digest), "hex": nodes.nodes[digest].hex()}
        for digest in nodes.written
    ]


def boundary_vectors():
    return [
        {"key": key.hex(), "level": level, "xxh3_64": f"{xxh3_64_intdigest(key, level):016x}"}
        for key in (b"", b"images/00000001.jpg", *(b"%d" % number for number in range(10)))
        for level in (0, 1)
    ]


def vectors():
    return {
        "nodes": node_vectors(),
        "boundaries": boundary_vectors(),
        "trees": [tree_vector(name, *parameters) for name, parameters in MAPS.items()],
    }


@pytest.fixture(scope="module")
def golden():
    return json.loads(VECTORS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MAPS)
def test_a_map_has_the_root_it_always_had(golden, name):
    (expected,) = [each for each in golden["trees"] if each["name"] == name]
    assert tree_vector(name, *MAPS[name]) == expected


def test_every_vector_is_checked(golden):
    assert [each["name"] for each in golden["trees"]] == list(MAPS)


def test_nodes_have_the_bytes_they_always_had(golden):
    assert node_vectors() == golden["nodes"]


def test_keys_have_the_boundary_values_they_always_had(golden):
    assert boundary_vectors() == golden["boundaries"]


def test_the_format_page_shows_these_vectors(golden):
    page = PAGE.read_text(encoding="utf-8")
    for node in golden["nodes"]:
        assert node["digest"] in page
        assert node["hex"] in page.replace(" ", "").replace("\n", "")
    for boundary in golden["boundaries"]:
        assert boundary["xxh3_64"] in page
    for tree in golden["trees"]:
        assert tree["top"] in page


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
