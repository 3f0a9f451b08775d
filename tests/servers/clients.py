"""File systems on the test servers, as a client with nothing of ours in it sees them."""

from __future__ import annotations

import os
from typing import Any

from tests.servers.places import AzurePlace, GcsPlace, S3Place, WebPlace


def file_system(place: WebPlace) -> Any:
    """The fsspec file system of a place whose environment is in force."""
    plain = {"use_listings_cache": False, "skip_instance_cache": True}
    match place:
        case S3Place():
            import s3fs

            return s3fs.S3FileSystem(**plain, **place.options)
        case GcsPlace():
            import gcsfs

            return gcsfs.GCSFileSystem(**plain, **place.options)
        case AzurePlace():
            import adlfs

            text = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
            return adlfs.AzureBlobFileSystem(**plain, connection_string=text)
    raise TypeError(f"no client for {place}")


def top_of(place: WebPlace) -> str:
    """The place in the words of its file system: bucket and prefix."""
    return place.url.partition("://")[2]
