"""Places with runs that are not folders: a server that speaks S3, a web server, a folder in memory."""

import functools
import http.server
import threading
from collections.abc import Iterator

import fsspec
import pytest

from explorer.runs import elsewhere

BUCKET = "models"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    from moto.server import ThreadedMotoServer  # takes seconds

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket on that server."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    # What was asked in another module talked to another server.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    elsewhere.elsewhere.cache_clear()
    bucket = boto3.resource("s3").Bucket(BUCKET)
    bucket.create()
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()


@pytest.fixture
def in_memory(root) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.put(str(root), "/kept/runs", recursive=True)
    yield "memory://kept/runs"
    system.rm("/kept", recursive=True)


@pytest.fixture
def in_bucket(bucket, root) -> str:
    for file in root.rglob("*"):
        if file.is_file():
            bucket.upload_file(str(file), f"shared/runs/{file.relative_to(root)}")
    return f"s3://{BUCKET}/shared/runs"


@pytest.fixture
def on_web(root) -> Iterator[tuple[str, list[str]]]:
    """The address of a web server that lists folders, and what it is asked for, which grows."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(f"{self.command} {self.path}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    thread.join()
    server.server_close()
