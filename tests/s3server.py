"""A real S3 server on this machine: moto's, behind a door at which a test counts requests, refuses or delays them."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import boto3  # type: ignore[import-untyped]
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from zarr.core.sync import _get_loop as zarr_loop

REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)
_NUMBERS = itertools.count(1)

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Request(NamedTuple):
    """What somebody asked of the server; `key` without the bucket."""

    method: str
    bucket: str
    key: str


Door = Callable[[Request], bool]
"""Sees every request before it is answered; False refuses it, as a server does with those who lost their rights."""


def open_to_all(request: Request) -> bool:
    """Let everybody in."""
    return True


class Server:
    """The running server. A test may set its `door`; `answered` is what was let in, in order."""

    def __init__(self) -> None:
        self.door: Door = open_to_all
        self.answered: list[Request] = []
        self._port = 0
        self.is_dead = False
        self.start()

    def start(self) -> None:
        """Listen, after `die` at the same address as before; what was stored is still there."""
        if self.is_dead:
            self._dying.join()
        self._moto = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._moto.start()
        self._port, self.is_dead = self._moto.get_host_and_port()[1], False
        self._inner = cast(Any, self._moto._server)
        self._answer: Application = self._inner.app
        self._inner.app = self._at_the_door

    def _at_the_door(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        bucket, _, key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")
        request = Request(environ["REQUEST_METHOD"], bucket, key)
        admitted = self.door(request)
        if admitted:
            self.answered.append(request)
            return self._answer(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or it is taken for the next request
        if self.is_dead:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSAL)))])
        return [] if request.method == "HEAD" else [REFUSAL]

    @property
    def url(self) -> str:
        """Where it listens."""
        return "http://{}:{}".format(*self._moto.get_host_and_port())

    def die(self) -> None:
        """Answer nobody any more whom the door does not let in: connections are cut, new ones refused."""
        self.is_dead = True
        self._dying = threading.Thread(target=self.stop)  # called at the door, by a thread of the server itself
        self._dying.start()

    def stop(self) -> None:
        """End the server."""
        self._moto.stop()
        self._inner.server_close()


@contextmanager
def serving() -> Iterator[Server]:
    """A server of one's own."""
    server, log = Server(), logging.getLogger("werkzeug")
    level = log.level
    log.setLevel(logging.ERROR)  # not a line for each request
    try:
        yield server
    finally:
        server.stop()
        log.setLevel(level)


@cache
def _client(url: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="owner", aws_secret_access_key="secret"
    )


class Bucket:
    """A bucket, seen without servegrid and without fsspec: what is really there."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = f"bucket-{next(_NUMBERS)}"
        self.client = _client(server.url)
        self.client.create_bucket(Bucket=self.name)
        self._seen = len(server.answered)

    def url(self, name: str = "x.zarr") -> str:
        """The URL of a store in it."""
        return f"s3://{self.name}/{name}"

    def asked(self, *methods: str) -> list[str]:
        """The keys of all requests of these kinds since this was last called, in order."""
        asked, self._seen = self.server.answered[self._seen :], len(self.server.answered)
        return [request.key for request in asked if request.bucket == self.name and request.method in methods]

    def list(self) -> list[str]:
        """All keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def objects(self, name: str = "x.zarr") -> dict[str, bytes]:
        """Key below the store -> bytes."""
        return {key.removeprefix(f"{name}/"): self.read(key) for key in self.list() if key.startswith(f"{name}/")}

    def read(self, key: str) -> bytes:
        """The bytes of a key."""
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Set the bytes of a key."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        """Take a key away."""
        self.client.delete_object(Bucket=self.name, Key=key)


def point_to(server_url: str, patch: pytest.MonkeyPatch) -> None:
    """Let the environment, which child processes inherit, lead to a server, and to nobody's own credentials.

    What is at work already does not notice: see `forget`.
    """
    settings = {
        "AWS_ENDPOINT_URL": server_url,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy"):
        patch.delenv(name, raising=False)


def forget() -> None:
    """Close connections and drop file systems: fsspec keeps them, with the endpoint and credentials of before."""
    for system in list(s3fs.S3FileSystem._cache.values()):
        creator = getattr(system, "_s3creator", None)
        if creator is not None:
            loop = zarr_loop() if system.asynchronous else system.loop
            system.close_session(loop, creator)
    s3fs.S3FileSystem.clear_instance_cache()
