from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.storage import reasons
from datastore.storage.reasons import Call, Trouble, error_of, reason_of_status, retry_after_of

CALL = Call("s3", "s3://bucket/prefix", "read", "packs/x")
WORDS = [value for name, value in vars(reasons).items() if name.isupper() and type(value) is str]


@pytest.mark.parametrize("word", WORDS)
def test_every_reason_makes_a_sentence(word):
    error = error_of(Trouble(word, "the server said so"), CALL)
    assert error.message.startswith("cannot read 's3://bucket/prefix/packs/x': ")
    assert error.where == "s3://bucket/prefix/packs/x"
    if word == reasons.MISSING:
        assert isinstance(error, NotFoundError)
        return
    assert isinstance(error, StorageError)
    assert error.reason == word
    assert error.retryable == (word in reasons.RETRYABLE)
    assert "the server said so" in error.message


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "sftp"])
def test_who_lacks_credentials_is_told_where_they_go(scheme):
    error = error_of(Trouble("credentials"), CALL._replace(scheme=scheme))
    assert error.hint


def test_what_a_server_said_is_one_short_line():
    error = error_of(Trouble("server", "<html>\n  <p>" + "x" * 1000), CALL)
    assert "\n" not in error.message
    assert len(error.message) < 450


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "credentials"),
        (403, "denied"),
        (404, "missing"),
        (409, "refused"),
        (412, "exists"),
        (416, "short"),
        (429, "throttled"),
        (500, "server"),
        (501, "unsupported"),
        (503, "throttled"),
        (504, "timeout"),
        (599, "server"),
    ],
)
def test_statuses(status, reason):
    assert reason_of_status(status) == reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 120 "}, 120),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": formatdate(1000, usegmt=True), "date": formatdate(970, usegmt=True)}, 30),
        ({"retry-after": formatdate(1000, usegmt=True), "date": formatdate(2000, usegmt=True)}, 0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_of(headers) == seconds


def test_retry_after_by_our_own_clock():
    there = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
    assert 90 < retry_after_of(there) <= 101
