"""Makes the buckets that places lie in."""

from __future__ import annotations

import json
import urllib.request

from tests.servers.places import KEY, SECRET, AzurePlace
from tests.servers.processes import DIRECT, Address, library


def make_s3_bucket(address: Address, name: str) -> None:
    """Makes a bucket on a server that speaks S3."""
    library("botocore", "pip install datastore-ml[s3]")
    import botocore.session

    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=address.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=name)
    client.close()


def make_gcs_bucket(address: Address, name: str) -> None:
    """Makes a bucket on an emulator of Google Cloud Storage."""
    request = urllib.request.Request(
        f"{address.url}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with DIRECT.open(request, timeout=10):
        pass


def make_azure_container(address: Address, name: str) -> None:
    """Makes a container, which is Azure's word for a bucket."""
    library("adlfs", "pip install datastore-ml[azure]")
    from azure.storage.blob import ContainerClient

    environment = AzurePlace(url="", endpoint=address).environment
    text = environment["AZURE_STORAGE_CONNECTION_STRING"]
    with ContainerClient.from_connection_string(text, name) as client:
        client.create_container()
