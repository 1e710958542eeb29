"""Stores behind URLs: a real S3 server on this machine, fsspec's memory, file URLs, and all that can go wrong there."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner
from contents import BLOCK_BYTES, CHUNKS, DOCUMENTS, ROOT, SWEEP, attributes, chunks, files, flipped, timeless
from s3server import Bucket, Door, Request, Server, forget, open_to_all, point_to, serving

import servegrid as sg
from servegrid import planning
from servegrid.cli import main
from servegrid.errors import InputError, MachineError
from servegrid.place import BusyError, Folder, place_of

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

COMMAND = [sys.executable, "-c", "from servegrid.cli import main; main(prog_name='servegrid')"]
GROWN: dict[str, Any] = {
    **SWEEP,
    "axes": {"max_batch_size": [1, 3, 7, 64], "precision": ["fp16", "int4"], "page_size": [1, 2, 16, 300]},
    "outputs": [*SWEEP["outputs"], "weight_bytes"],
}
OTHER: dict[str, Any] = {**SWEEP, "values": {**SWEEP["values"], "seq_len": 1000}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def environment(server: Server) -> Iterator[None]:
    """The environment leads to the server, and small sweeps have many blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "LARGEST_REGION", BLOCK_BYTES)
        point_to(server.url, patch)
        forget()
        yield
        forget()


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """The test changes endpoint or credentials, which nobody may remember."""
    forget()
    yield
    forget()


@pytest.fixture
def bucket(server: Server) -> Iterator[Bucket]:
    """A new bucket."""
    yield Bucket(server)
    server.door = open_to_all


@pytest.fixture(scope="module")
def expected(environment: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the same sweep in a folder."""
    out = tmp_path_factory.mktemp("local") / "x.zarr"
    run(out)
    found = timeless(files(out))
    assert (len(chunks(found)), len(found)) == (CHUNKS, DOCUMENTS + CHUNKS)
    return found


@pytest.fixture(scope="module")
def stored(environment: None, server: Server) -> Bucket:
    """A bucket with a finished store, which tests leave as it is."""
    bucket = Bucket(server)
    run(bucket.url())
    bucket.asked()
    return bucket


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "spare.yaml"
    path.write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    return path


def run(out: object, sweep: dict[str, Any] = SWEEP, **options: Any) -> None:
    """Run a sweep by Python."""
    sg.run(**sweep, out=str(out), **options).close()


def started(*arguments: object) -> subprocess.Popen[str]:
    """The real command, at work."""
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str], limit: float | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    try:
        out, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, errors


def failed(*arguments: object) -> tuple[int, str]:
    """Exit code and sentence of a command that fails."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="servegrid")
    assert isinstance(result.exception, SystemExit), result.output
    assert result.output.startswith("servegrid: ")
    assert result.output.count("\n") == 1
    return result.exit_code, result.output.strip()


def refused(verb: str, url: str, sweep_file: Path, *more: object) -> tuple[int, str]:
    """Exit code and sentence, which begins with the URL, of a run into a place or of its verification."""
    what = ["run", sweep_file, "--out", url] if verb == "run" else ["verify", url]
    code, sentence = failed(*what, *more)
    assert sentence.startswith(f"servegrid: {url}: ")
    return code, sentence


def is_upload(request: Request) -> bool:
    return request.method == "PUT" and bool(request.key)


def after_uploads(count: int, act: Callable[[], bool]) -> Door:
    """Let so many uploads in; `act` at each one after these says whether to let it in."""
    numbers = itertools.count(1)
    return lambda request: not is_upload(request) or next(numbers) <= count or act()


def refuse() -> bool:
    return False


def below(name: str, keys: list[str]) -> list[str]:
    """The keys below a store, in order of the alphabet."""
    return sorted(key.removeprefix(f"{name}/") for key in keys)


# The same store as in a folder.


def test_a_bucket_holds_the_same_objects_as_a_folder(stored: Bucket, expected: dict[str, bytes]) -> None:
    assert timeless(stored.objects()) == expected


def test_plain_xarray_reads_it(stored: Bucket) -> None:
    wanted = sg.sweep(**SWEEP)
    with xr.open_zarr(stored.url()) as found:
        assert set(found.variables) == set(wanted.variables)
        for name, variable in wanted.variables.items():
            same = found.variables[name]
            assert (same.dims, same.dtype, same.attrs) == (variable.dims, variable.dtype, variable.attrs), name
            assert same.values.tobytes() == variable.values.tobytes(), name
        assert {**found.attrs, "created": ""} == {**wanted.attrs, "created": ""}


def test_a_finished_store_is_not_written_again(stored: Bucket) -> None:
    for url in (stored.url(), f"{stored.url()}/"):
        run(url)
    assert stored.asked("PUT", "POST", "DELETE") == []


def test_every_object_is_uploaded_once(bucket: Bucket, expected: dict[str, bytes]) -> None:
    run(bucket.url("deep/below/x.zarr/"))
    uploads = below("deep/below/x.zarr", bucket.asked("PUT"))
    assert uploads == sorted([*expected, ROOT])  # the root first, to name the store, and last, to finish it
    assert timeless(bucket.objects("deep/below/x.zarr")) == expected


def test_processes_write_to_a_bucket(bucket: Bucket, expected: dict[str, bytes]) -> None:
    run(bucket.url(), workers=2)
    assert timeless(bucket.objects()) == expected


# Runs that end early.


@pytest.mark.parametrize("let_in", [0, 1, DOCUMENTS + 7, DOCUMENTS + CHUNKS])
def test_a_run_that_loses_its_rights_keeps_what_is_whole_and_goes_on(
    let_in: int, bucket: Bucket, expected: dict[str, bytes]
) -> None:
    bucket.server.door = after_uploads(let_in, refuse)
    with pytest.raises(MachineError, match="could not be written") as error:
        run(bucket.url())
    assert str(error.value).startswith(f"{bucket.url()}: ")
    assert str(error.value).endswith("the same command goes on from there")
    left = bucket.objects()
    assert len(bucket.asked("PUT")) == let_in
    assert {key: content for key, content in left.items() if key != ROOT}.items() <= expected.items()
    if let_in:
        assert attributes(left)["status"] == "unfinished"

    bucket.server.door = open_to_all
    run(bucket.url())
    assert timeless(bucket.objects()) == expected
    again = [ROOT, ROOT] if let_in == 0 else [ROOT]
    assert below("x.zarr", bucket.asked("PUT")) == sorted([*(set(expected) - set(left) - {ROOT}), *again])


def test_a_killed_command_goes_on_with_the_chunks_that_are_missing(
    bucket: Bucket, sweep_file: Path, expected: dict[str, bytes]
) -> None:
    # The command itself would make one block of so small a sweep; it keeps the blocks of a store that is there.
    bucket.server.door = after_uploads(DOCUMENTS + 1, refuse)
    with pytest.raises(MachineError):
        run(bucket.url())

    begun: list[subprocess.Popen[str]] = []

    def kill() -> bool:
        begun[0].send_signal(signal.SIGKILL)
        return False

    bucket.server.door = after_uploads(4, kill)
    begun.append(started("run", sweep_file, "--out", bucket.url(), "--threads", "1"))
    assert said(begun[0])[0] == -signal.SIGKILL
    left = bucket.objects()
    assert len(chunks(left)) == 1 + 4
    with xr.open_zarr(bucket.url()) as unfinished:
        assert unfinished.attrs["status"] == "unfinished"

    bucket.server.door = open_to_all
    bucket.asked()
    code, out, errors = said(started("run", sweep_file, "--out", bucket.url(), "--threads", "1"))
    assert (code, errors) == (0, "")
    assert f"{1 + 4} of {CHUNKS} chunks were stored already" in out
    assert f"open it with xarray.open_zarr('{bucket.url()}')" in out
    assert below("x.zarr", bucket.asked("PUT")) == sorted([*(set(expected) - set(left)), ROOT])
    assert timeless(bucket.objects()) == expected


@pytest.mark.usefixtures("elsewhere")
def test_a_server_that_dies_ends_the_run_in_one_sentence_and_the_run_goes_on_when_it_is_back(
    sweep_file: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # 5 attempts, boto's own number, end as well, 10 s later
    with serving() as mortal:
        point_to(mortal.url, monkeypatch)
        bucket = Bucket(mortal)

        def die() -> bool:
            if not mortal.is_dead:
                mortal.die()
            return False

        mortal.door = after_uploads(DOCUMENTS + 5, die)
        code, sentence = failed("run", sweep_file, "--out", bucket.url(), "--threads", "1")
        assert code == 3
        assert sentence.startswith(f"servegrid: {bucket.url()}: ")
        assert sentence.endswith("the same command goes on from there")

        mortal.door = open_to_all
        mortal.start()
        left = bucket.objects()
        assert len(chunks(left)) == 5
        bucket.asked()
        run(bucket.url())
        assert below("x.zarr", bucket.asked("PUT")) == sorted([*(set(expected) - set(left)), ROOT])
        assert timeless(bucket.objects()) == expected


# Growing, replacing, sharing.


def test_a_bucket_grows_as_a_folder_does_and_old_chunks_stay(bucket: Bucket, tmp_path: Path) -> None:
    for out in (tmp_path / "x.zarr", bucket.url()):
        run(out)
    old_chunks = {f"x.zarr/{key}" for key in chunks(bucket.objects())}
    bucket.asked()
    for out in (tmp_path / "x.zarr", bucket.url()):
        run(out, GROWN)
    assert timeless(bucket.objects()) == timeless(files(tmp_path / "x.zarr"))
    # No axis ended within a chunk: all that was there is right.
    assert not old_chunks.intersection(bucket.asked("PUT", "DELETE", "POST"))
    with xr.open_zarr(bucket.url()) as found:
        assert found.page_size.values.tolist() == [1, 16, 300, 2]


def test_chunks_that_the_old_end_cut_short_are_made_anew(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 3 * BLOCK_BYTES)  # two batch limits in a block
    longer = {**SWEEP, "axes": {**SWEEP["axes"], "max_batch_size": [1, 7, 64, 65, 128]}}
    for out in (tmp_path / "x.zarr", bucket.url()):
        run(out)
    bucket.asked()
    for out in (tmp_path / "x.zarr", bucket.url()):
        run(out, longer)
    assert below("x.zarr", bucket.asked("DELETE")) == ["feasible/c/1/0/0", "itl/c/1/0/0"]
    assert timeless(bucket.objects()) == timeless(files(tmp_path / "x.zarr"))
    with xr.open_zarr(bucket.url()) as found:
        assert found.feasible.shape == (5, 2, 3)
        assert found.feasible.sel(precision="int4").all()
    assert sg.verify(bucket.url(), everything=True).is_good


def test_another_sweep_is_refused_and_touches_nothing(stored: Bucket, expected: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"seq_len is 8192.* there, 1000.* in the sweep") as error:
        run(stored.url(), OTHER)
    assert str(error.value).startswith(f"{stored.url()}: holds another sweep")
    assert stored.asked("PUT", "DELETE", "POST") == []
    assert timeless(stored.objects()) == expected


def test_overwrite_throws_the_store_away_and_nothing_beside_it(
    bucket: Bucket, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    neighbours = {"x.zarr2/zarr.json": b"{}", "x.zarr.txt": b"text", "y/x.zarr/zarr.json": b"{}"}
    for key, content in neighbours.items():
        bucket.write(key, content)
    run(bucket.url(), OTHER)
    run(bucket.url(), overwrite=True)
    assert timeless(bucket.objects()) == expected
    others = [key for key in bucket.list() if not key.startswith("x.zarr/")]
    assert {key: bucket.read(key) for key in others} == neighbours


def test_objects_that_are_no_store_are_left_alone(bucket: Bucket) -> None:
    bucket.write("x.zarr/notes.txt", b"mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is no store that servegrid made, and is left as it is"):
            run(bucket.url(), overwrite=overwrite)
    assert bucket.objects() == {"notes.txt": b"mine"}


def test_parts_in_any_order_make_the_same_store(bucket: Bucket, expected: dict[str, bytes]) -> None:
    run(bucket.url(), part="2/2")
    left = bucket.objects()
    assert attributes(left)["status"] == "unfinished"
    bucket.asked()
    run(bucket.url(), part="1/2")
    assert below("x.zarr", bucket.asked("PUT")) == sorted([*(set(expected) - set(left)), ROOT])
    assert timeless(bucket.objects()) == expected


# Python's catch_warnings, which silences it, is not made for two threads.
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("options", [[{}, {}], [{"part": "1/2"}, {"part": "2/2"}]], ids=["whole", "parts"])
def test_two_runs_at_once_end_right(options: list[dict[str, Any]], bucket: Bucket, expected: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, bucket.url(), **each) for each in options]:
            future.result()
    assert timeless(bucket.objects()) == expected


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_store_that_another_run_makes_between_two_looks_is_not_refused(
    bucket: Bucket, expected: dict[str, bytes]
) -> None:
    looked, made = threading.Event(), threading.Event()

    def door(request: Request) -> bool:
        if request.method == "GET" and not request.key and not looked.is_set():  # a list, the root was not there
            looked.set()
            made.wait()
        return True

    bucket.server.door = door
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(run, bucket.url())
        looked.wait()
        try:
            run(bucket.url())
        finally:
            made.set()
        slow.result()
    assert timeless(bucket.objects()) == expected


# Verification.


def test_verify_finds_what_is_wrong_in_a_bucket_and_repair_mends_that_alone(
    bucket: Bucket, expected: dict[str, bytes]
) -> None:
    run(bucket.url())
    bucket.write("x.zarr/itl/c/0/1/0", flipped(expected["itl/c/0/1/0"], 20))
    bucket.write("x.zarr/feasible/c/2/0/0", expected["feasible/c/2/0/0"][:-3])
    bucket.write("x.zarr/itl/c/2/1/0", b"")
    bucket.write("x.zarr/precision/c/0", flipped(expected["precision/c/0"], 3))
    bucket.remove("x.zarr/kv_bytes_per_request/c/1/0")
    wrong = {
        ("damaged", "precision/c/0", "labels and metadata"),
        ("damaged", "itl/c/0/1/0", "max_batch_size 1, precision int4"),
        ("damaged", "feasible/c/2/0/0", "max_batch_size 64, precision fp16"),
        ("damaged", "itl/c/2/1/0", "max_batch_size 64, precision int4"),
        ("missing", "kv_bytes_per_request/c/1/0", "precision int4"),
    }
    bucket.asked()
    found = sg.verify(bucket.url())
    assert {(fault.kind, fault.key, fault.region) for fault in found.faults} == wrong
    assert not found.is_good
    assert bucket.asked("PUT", "POST", "DELETE") == []

    assert sg.verify(bucket.url(), repair=True).is_good
    uploads = below("x.zarr", bucket.asked("PUT"))
    assert [key for key in uploads if key != ROOT] == sorted(key for _, key, _ in wrong)
    assert timeless(bucket.objects()) == expected
    assert sg.verify(bucket.url(), everything=True).faults == ()


# Other URLs.


@pytest.fixture
def memory() -> Iterator[str]:
    """A URL in fsspec's memory, which is empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield "memory://spare/x.zarr"
    system.store.clear()


def remembered() -> dict[str, bytes]:
    """What fsspec's memory holds."""
    store = fsspec.filesystem("memory").store
    return {path.removeprefix("/spare/x.zarr/"): file.getvalue() for path, file in store.items()}


def test_memory_holds_the_same_bytes(memory: str, expected: dict[str, bytes]) -> None:
    run(memory, threads=4)
    assert timeless(remembered()) == expected
    assert sg.verify(memory, everything=True).is_good


class Interrupting:
    """A progress that ends the run, as Ctrl-C does, when some points are finished."""

    def start(self, points: int, done: int) -> None:
        self.done = done

    def __call__(self, points: int) -> None:
        self.done += points
        if self.done >= 9:
            raise KeyboardInterrupt


def test_memory_goes_on_grows_and_is_overwritten(memory: str, expected: dict[str, bytes]) -> None:
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
        run(memory, threads=1, progress=Interrupting())
    left = remembered()
    assert attributes(left)["status"] == "unfinished"
    assert 0 < len(chunks(left)) < CHUNKS
    run(memory)
    assert timeless(remembered()) == expected
    run(memory, GROWN)
    assert len(chunks(remembered(), "itl")) == 4 * 2 * 2
    with pytest.raises(InputError, match="holds another sweep"):
        run(memory)
    run(memory, overwrite=True)
    assert timeless(remembered()) == expected


@pytest.mark.parametrize("verb", ["run", "verify"])
def test_memory_of_this_process_is_no_place_for_other_processes(verb: str, memory: str, sweep_file: Path) -> None:
    run(memory)
    before = remembered()
    code, sentence = refused(verb, memory, sweep_file, "--workers", 2)
    assert code == 2
    assert "in the memory of this process" in sentence
    assert remembered() == before


@pytest.mark.parametrize("scheme", ["file://", "local://"])
def test_a_file_url_is_a_folder(scheme: str, tmp_path: Path, expected: dict[str, bytes]) -> None:
    url = f"{scheme}{tmp_path / 'x.zarr'}"
    run(url)
    assert timeless(files(tmp_path / "x.zarr")) == expected
    assert isinstance(place_of(url), Folder)
    with place_of(tmp_path / "x.zarr").locked(), pytest.raises(BusyError, match="another run is writing this store"):
        run(url)
    assert sg.verify(url, everything=True).is_good


# What can go wrong, in one sentence.

WRONG = [
    ("foo://x", "Protocol not known: foo"),
    ("foo://x/y.zarr", "Protocol not known: foo"),
    ("s3://", "names no place"),
    ("s3:///", "names no place"),
    ("memory://", "names no place"),
    ("simplecache::s3://bucket/x.zarr", "expected a folder, or a URL such as s3://bucket/name.zarr"),
]
READ_ONLY = [
    ("http://127.0.0.1/x.zarr", "cannot be written over http"),
    ("https://127.0.0.1/x.zarr", "cannot be written over http"),
]


@pytest.mark.parametrize(("url", "words"), [*WRONG, *READ_ONLY])
def test_no_store_can_be_made_there(
    url: str, words: str, sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, sentence = refused("run", url, sweep_file)
    assert code == 2
    assert words in sentence
    assert list(tmp_path.iterdir()) == [sweep_file]


@pytest.mark.parametrize(("url", "words"), WRONG)
def test_no_store_can_be_verified_there(url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, sentence = failed("verify", url)
    assert code == 2
    assert sentence.startswith(f"servegrid: {url}: ")
    assert words in sentence


@pytest.mark.parametrize(("url", "words"), READ_ONLY)
def test_what_is_only_read_cannot_be_repaired(url: str, words: str) -> None:
    code, sentence = failed("verify", url, "--repair")
    assert (code, words in sentence) == (2, True), sentence


@pytest.mark.parametrize("verb", ["run", "verify"])
@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_missing_package_is_named(
    verb: str, scheme: str, package: str, extra: str, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    monkeypatch.delitem(import_module("fsspec.registry")._registry, scheme, raising=False)  # it was imported before
    url = f"{scheme}://bucket/x.zarr"
    code, sentence = refused(verb, url, sweep_file)
    assert code == 2
    assert f"pip install 'servegrid[{extra}]'" in sentence


@pytest.mark.parametrize("verb", ["run", "verify"])
def test_a_bucket_that_does_not_exist_is_wrong_input(verb: str, sweep_file: Path) -> None:
    url = "s3://no-such-bucket/x.zarr"
    assert refused(verb, url, sweep_file)[0] == 2


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("verb", ["run", "verify"])
def test_no_credentials(verb: str, bucket: Bucket, sweep_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    code, sentence = refused(verb, bucket.url(), sweep_file)
    assert code == 3
    assert sentence.startswith(f"servegrid: {bucket.url()}: ")
    assert "credentials" in sentence


@pytest.mark.parametrize("verb", ["run", "verify"])
def test_no_rights(verb: str, bucket: Bucket, sweep_file: Path) -> None:
    bucket.server.door = lambda request: False
    code, sentence = refused(verb, bucket.url(), sweep_file)
    assert code == 3
    assert sentence.startswith(f"servegrid: {bucket.url()}: ")
    assert "Forbidden" in sentence


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("verb", ["run", "verify"])
def test_no_server(verb: str, sweep_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    port = free_port()
    point_to(f"http://127.0.0.1:{port}", monkeypatch)
    url = "s3://bucket/x.zarr"
    code, sentence = refused(verb, url, sweep_file)
    assert code == 3
    assert f"http://127.0.0.1:{port}/" in sentence


def test_the_real_command_gives_up_when_there_is_no_server(sweep_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(f"http://127.0.0.1:{free_port()}", monkeypatch)
    # With boto's own number of attempts: some 10 s, by far not minutes.
    code, out, errors = said(started("run", sweep_file, "--out", "s3://bucket/x.zarr"), limit=100)
    assert (code, out) == (3, "")
    assert errors.startswith("servegrid: s3://bucket/x.zarr: ")
    assert errors.count("\n") == 1
