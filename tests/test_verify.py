"""Verification and repair of stores in folders: every file, every kind of damage, and nothing else touched."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
import zarr
from click.testing import CliRunner
from contents import BLOCK_BYTES, BLOCKS, CHUNKS, DOCUMENTS, ROOT, SWEEP, attributes, chunks, files, flipped, timeless
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import evaluate, planning
from servegrid.catalog import Catalog
from servegrid.cli import main
from servegrid.errors import InputError
from servegrid.place import LOCK, BusyError, place_of
from servegrid.quantity import quantity
from servegrid.solvers import Solver
from servegrid.verification import Verdict

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

GARBAGE = b"\x00garbage at the end\xff"
LABELS = "labels and metadata"  # what a document holds, in the words of a verdict


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "LARGEST_REGION", BLOCK_BYTES)
        yield


def make(out: Path, **changes: Any) -> dict[str, bytes]:
    """A new store of the sweep; its files."""
    sg.run(**{**SWEEP, **changes}, out=out).close()
    return files(out)


@pytest.fixture(scope="module")
def original(small_blocks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good store, which tests leave as it is."""
    out = tmp_path_factory.mktemp("original") / "x.zarr"
    assert len(chunks(make(out))) == CHUNKS
    return out


@pytest.fixture(scope="module")
def good(original: Path) -> dict[str, bytes]:
    """The files of a good store."""
    return files(original)


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy of the good store."""
    return Path(shutil.copytree(original, tmp_path / "x.zarr"))


FILES = sorted(
    f"{name}/{part}"
    for name, parts in {
        "itl": [f"c/{limit}/{precision}/0" for limit in range(3) for precision in range(2)],
        "feasible": [f"c/{limit}/{precision}/0" for limit in range(3) for precision in range(2)],
        "kv_bytes_per_request": ["c/0/0", "c/1/0"],
        "max_batch_size": ["c/0"],
        "precision": ["c/0"],
        "page_size": ["c/0"],
        "bytes_per_element": ["c/0"],
        "model": ["c"],
    }.items()
    for part in [*parts, "zarr.json"]
)


def region(key: str) -> str:
    """What a file holds, in words; the labels written out here once more."""
    variable, _, position = key.partition("/c/")
    if variable not in SWEEP["outputs"]:
        return LABELS
    axes = ["precision"] if variable == "kv_bytes_per_request" else ["max_batch_size", "precision"]
    places = [int(place) for place in position.split("/")]
    return ", ".join(f"{axis} {SWEEP['axes'][axis][place]}" for axis, place in zip(axes, places, strict=False))


Found = set[tuple[str, str, str]]


def found(verdict: Verdict) -> Found:
    """The faults: kind, file, region."""
    told: Found = {(fault.kind, fault.key, fault.region) for fault in verdict.faults}
    assert len(told) == len(verdict.faults)
    return told


def faults(kind: str, *keys: str) -> Found:
    """What a verdict should tell about these files."""
    return {(kind, key, region(key)) for key in keys}


Identity = dict[str, tuple[int, int]]


def identities(store: Path) -> Identity:
    """What tells whether somebody wrote a file, even if with the same bytes: inode and time of writing."""
    return {
        path.relative_to(store).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in store.rglob("*")
        if path.is_file()
    }


def written(store: Path, before: Identity) -> set[str]:
    """The files that were written, or taken away, since then."""
    return {key for key, _ in before.items() ^ identities(store).items()}


def ran(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the command."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="servegrid")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def refused(*arguments: object) -> tuple[int, str]:
    """Exit code and sentence of a command that ends with one."""
    code, output = ran(*arguments)
    assert output.startswith("servegrid: ")
    assert output.count("\n") == 1
    return code, output


# A good store.


def test_a_good_store_is_good(store: Path, good: dict[str, bytes]) -> None:
    before = identities(store)
    verdict = sg.verify(store, everything=True)
    assert (verdict.faults, verdict.changed, verdict.mended, verdict.is_good) == ((), (), False, True)
    assert (verdict.chunks, verdict.recomputed, verdict.blocks) == (CHUNKS, BLOCKS, BLOCKS)
    assert str(verdict.place) == str(store)
    assert ran("verify", store) == (
        0,
        f"{store}  {CHUNKS} chunks, {BLOCKS} of {BLOCKS} blocks computed again: nothing missing or damaged\n",
    )
    assert sg.verify(store, everything=True, repair=True).is_good
    assert written(store, before) == set()
    assert files(store) == good
    assert sorted(good) == sorted([*FILES, ROOT])
    assert len(good) == DOCUMENTS + CHUNKS


def test_a_store_of_a_file_without_a_name_is_good(tmp_path: Path) -> None:
    """It is called as the file is, which its sweep does not say."""
    (tmp_path / "gpus.yaml").write_text(yaml.safe_dump({key: value for key, value in SWEEP.items() if key != "name"}))
    sg.run(tmp_path / "gpus.yaml", out=tmp_path / "x.zarr")
    assert attributes(files(tmp_path / "x.zarr"))["title"] == "gpus"
    assert sg.verify(tmp_path / "x.zarr").faults == ()


def test_verification_writes_nothing_at_all(store: Path) -> None:
    """So a store that may only be read can be verified."""
    items = [store, *store.rglob("*")]
    for item in items:
        item.chmod(0o555 if item.is_dir() else 0o444)
    before = {item: item.stat().st_mtime_ns for item in items}
    try:
        assert sg.verify(store, everything=True).is_good
        assert {item: item.stat().st_mtime_ns for item in [store, *store.rglob("*")]} == before
    finally:
        for item in items:
            item.chmod(0o755)


@pytest.mark.parametrize(("sample", "recomputed"), [(0, 0), (1, 1), (4, 4), (BLOCKS, BLOCKS), (1000, BLOCKS)])
def test_a_sample_is_so_many_blocks(sample: int, recomputed: int, store: Path) -> None:
    assert sg.verify(store, sample=sample).recomputed == recomputed
    code, output = ran("verify", store, "--sample", sample)
    assert code == 0
    assert f"{recomputed} of {BLOCKS} blocks computed again" in output


def test_without_a_sample_only_checksums_are_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_program(program: object) -> None:
        raise AssertionError("something was computed")

    (store / "itl/c/0/1/0").unlink()
    monkeypatch.setattr(evaluate, "compile_program", compile_program)
    assert found(sg.verify(store, sample=0)) == faults("missing", "itl/c/0/1/0")


# Damage. Each way to spoil a file, as it was, so that it is no longer what it was.

Spoil = Callable[[bytes], bytes | None]
WAYS: Mapping[str, Spoil] = {
    "deleted": lambda content: None,
    "emptied": lambda content: b"",
    "cut to one byte": lambda content: content[:1],
    "cut in half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "garbage appended": lambda content: content + GARBAGE,
    "a byte appended": lambda content: content + b"\x00",
    "first byte flipped": lambda content: flipped(content, 0),
    "last byte flipped": lambda content: flipped(content, len(content) - 1),
    "zeros": lambda content: bytes(len(content)),
}


def spoil(store: Path, key: str, way: Spoil) -> str:
    """Spoil a file; the kind of fault that this is."""
    return put(store, key, way((store / key).read_bytes()))


def put(store: Path, key: str, content: bytes | None) -> str:
    """Give a file wrong content, or none; the kind of fault that this is."""
    if content is None:
        (store / key).unlink()
        return "missing"
    (store / key).write_bytes(content)
    return "damaged"


def check_mended(store: Path, wrong: Found, good: dict[str, bytes], sample: int = 16) -> None:
    """Repair finds and mends exactly this, and leaves the store as it was before."""
    before = identities(store)
    verdict = sg.verify(store, sample=sample, repair=True)
    assert found(verdict) == wrong
    assert (verdict.mended, verdict.is_good) == (True, True)
    assert files(store) == good
    # The root says meanwhile that the store is unfinished.
    assert written(store, before) - {ROOT} == {key for _, key, _ in wrong}


@pytest.mark.parametrize("way", ["deleted", "last byte flipped"])
def test_each_file_is_named_and_mended_alone(way: str, store: Path, good: dict[str, bytes]) -> None:
    for key in FILES:
        kind = spoil(store, key, WAYS[way])
        check_mended(store, faults(kind, key), good, sample=0)
    assert sg.verify(store, everything=True).is_good


@pytest.mark.parametrize("way", sorted(WAYS))
def test_all_files_at_once_are_named_and_mended(way: str, store: Path, good: dict[str, bytes]) -> None:
    metadata = [key for key in FILES if key.endswith("zarr.json")]
    others = [key for key in FILES if key not in metadata]
    for keys in (others, metadata):
        kinds = {spoil(store, key, WAYS[way]) for key in keys}
        wrong = faults(*kinds, *keys)
        before = identities(store)
        assert found(sg.verify(store)) == wrong
        assert written(store, before) == set()
        check_mended(store, wrong, good)
        assert sg.verify(store).is_good


def test_a_flipped_bit_at_any_position_of_any_chunk_is_found(store: Path, good: dict[str, bytes]) -> None:
    keys = chunks(good)
    for position in range(max(len(good[key]) for key in keys)):
        hit = [key for key in keys if position < len(good[key])]
        for key in hit:
            (store / key).write_bytes(flipped(good[key], position, position % 8))
        assert found(sg.verify(store, sample=0)) == faults("damaged", *hit), position
        for key in hit:
            (store / key).write_bytes(good[key])
    assert sg.verify(store).is_good


def restore(store: Path, good: dict[str, bytes]) -> None:
    """Make the store good again, whatever the example before has left."""
    shutil.rmtree(store)
    for key, content in good.items():
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        (store / key).write_bytes(content)


def overwritten(content: bytes, position: int, more: bytes) -> bytes:
    """The bytes with some others in their place; the end may grow."""
    return content[:position] + more + content[position + len(more) :]


@st.composite
def damages(draw: st.DrawFn, good: dict[str, bytes]) -> dict[str, bytes | None]:
    """Some files, and what they hold instead of what they should."""
    spoilt: dict[str, bytes | None] = {}
    for key in draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=5, unique=True)):
        content = good[key]
        position = draw(st.integers(0, len(content) - 1))
        more = draw(st.binary(min_size=1, max_size=40))
        ways = [None, content[:position], content + more, overwritten(content, position, more)]
        spoilt[key] = draw(st.sampled_from(ways))
    return {key: content for key, content in spoilt.items() if content != good[key]}


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_some_files_is_named_and_mended(data: st.DataObject, store: Path, good: dict[str, bytes]) -> None:
    restore(store, good)
    spoilt = data.draw(damages(good))
    wrong: Found = set()
    for key, content in spoilt.items():
        wrong |= faults(put(store, key, content), key)
    # Without the metadata of its array nobody can tell whether a chunk is right, only that it is there.
    blind = {key.split("/")[0] for key in spoilt if key.endswith("zarr.json")}
    unseen = {
        fault for fault in wrong if fault[0] == "damaged" and fault[2] != LABELS and fault[1].split("/")[0] in blind
    }
    assert found(sg.verify(store, sample=0)) == wrong - unseen
    if wrong:
        check_mended(store, wrong, good, sample=0)


def test_a_variable_that_is_gone_is_named_and_mended(store: Path, good: dict[str, bytes]) -> None:
    for name in ("itl", "precision"):
        shutil.rmtree(store / name)
    gone = [key for key in FILES if key.split("/")[0] in ("itl", "precision")]
    assert found(sg.verify(store)) == faults("missing", *gone)
    check_mended(store, faults("missing", *gone), good)


def exchange(store: Path, one: str, other: str) -> None:
    """Give two files each other's name."""
    (store / one).rename(store / "aside")
    (store / other).rename(store / one)
    (store / "aside").rename(store / other)


EXCHANGED = ["itl/c/0/1/0", "itl/c/2/1/0"]


def test_chunks_that_changed_places_are_found_by_computing_them_again(store: Path, good: dict[str, bytes]) -> None:
    exchange(store, *EXCHANGED)
    before = identities(store)
    assert sg.verify(store, sample=0).is_good  # each is whole
    assert found(sg.verify(store, everything=True)) == faults("stale", *EXCHANGED)
    assert written(store, before) == set()
    assert sg.verify(store, everything=True, repair=True).mended
    assert files(store) == good
    assert written(store, before) - {ROOT} == set(EXCHANGED)
    assert sg.verify(store, everything=True).is_good


def test_a_sample_is_chosen_at_random(store: Path) -> None:
    """One block of six in two is wrong: samples of one find it now and then."""
    exchange(store, *EXCHANGED)
    random.seed(7)
    names = {key for _ in range(25) for _, key, _ in found(sg.verify(store, sample=1))}
    assert names == set(EXCHANGED)


def test_labels_that_changed_places_are_found_by_any_verification(store: Path, good: dict[str, bytes]) -> None:
    exchange(store, "max_batch_size/c/0", "page_size/c/0")
    check_mended(store, faults("damaged", "max_batch_size/c/0", "page_size/c/0"), good, sample=0)


def test_processes_find_and_mend_the_same(store: Path, good: dict[str, bytes]) -> None:
    exchange(store, *EXCHANGED)
    (store / "feasible/c/1/0/0").write_bytes(b"")
    (store / "kv_bytes_per_request/c/0/0").unlink()
    wrong = (
        faults("stale", *EXCHANGED)
        | faults("damaged", "feasible/c/1/0/0")
        | faults("missing", "kv_bytes_per_request/c/0/0")
    )
    verdict = sg.verify(store, everything=True, repair=True, workers=2)
    assert found(verdict) == wrong
    assert verdict.mended
    assert files(store) == good


def test_leftovers_of_a_killed_run_are_no_faults_and_go_with_a_repair(store: Path, good: dict[str, bytes]) -> None:
    left = [store / LOCK, store / ".zarr.json.5f.partial", store / "itl/c/0/0/.0.5f.partial"]
    for path in left:
        path.write_bytes(GARBAGE)
    assert sg.verify(store, everything=True).is_good
    assert all(path.exists() for path in left)
    assert sg.verify(store, repair=True).is_good
    assert files(store) == good


# What the command says.


def test_the_command_names_files_and_regions(store: Path, good: dict[str, bytes]) -> None:
    spoil(store, "itl/c/1/1/0", WAYS["last byte flipped"])
    spoil(store, "kv_bytes_per_request/c/1/0", WAYS["deleted"])
    code, output = ran("verify", store)
    rows = [line.split("  ") for line in output.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert code == 1
    assert ["damaged", "itl/c/1/1/0", "max_batch_size 7, precision int4"] in cells
    assert ["missing", "kv_bytes_per_request/c/1/0", "precision int4"] in cells
    summary = f"{CHUNKS} chunks, {BLOCKS} of {BLOCKS} blocks computed again: "
    assert output.splitlines()[-1].startswith(f"{store}  {summary}")
    assert "1 damaged" in output
    assert "1 missing" in output

    code, output = ran("verify", store, "--repair")
    assert code == 0
    assert output.rstrip().endswith("all mended")
    assert files(store) == good
    assert ran("verify", store)[0] == 0


def test_of_many_faults_the_first_are_shown(store: Path) -> None:
    for key in FILES:
        (store / key).unlink()
    code, output = ran("verify", store)
    assert code == 1
    assert sum("missing  " in line for line in output.splitlines()) == 20
    assert f"and {len(FILES) - 20} more" in output
    assert f"{len(FILES)} missing" in output


# Stores that were made with other values, or other equations.

NEW_INT4 = {
    "title": "4-bit integer, scales counted",
    "bytes_per_element": 0.5625,
    "peak_flops_formats": ["int8"],
}


@pytest.fixture
def new_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package comes with another number for int4 from now on."""
    newer = Catalog.default().extended({"precisions": {"int4": NEW_INT4}})
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: newer))


@pytest.mark.usefixtures("new_catalogue")
def test_values_that_changed_are_named_and_a_sample_is_no_repair(store: Path) -> None:
    before = identities(store)
    verdict = sg.verify(store, sample=0)
    assert verdict.changed == ("bytes_per_element",)
    assert not verdict.is_good
    code, output = ran("verify", store)
    assert code == 1
    assert "stale: made with other values or equations of bytes_per_element" in output
    code, sentence = refused("verify", store, "--repair")
    assert code == 2
    assert sentence == (
        f"servegrid: {store}: was made with other values or equations (bytes_per_element); "
        "add --all to compute all of it again\n"
    )
    assert written(store, before) == set()


@pytest.mark.usefixtures("new_catalogue")
def test_repair_of_all_mends_what_differs_and_nothing_else(store: Path, good: dict[str, bytes], tmp_path: Path) -> None:
    before = identities(store)
    new = timeless(make(tmp_path / "new.zarr"))
    differing = {key for key in good if timeless(good)[key] != new[key]} - {ROOT}
    assert {key.split("/")[0] for key in differing} >= {"bytes_per_element", "itl", "kv_bytes_per_request"}
    assert all(key in differing or region(key).endswith("fp16") or "int4" in region(key) for key in chunks(good))
    assert not any("fp16" in region(key) for key in differing)

    wrong = faults("stale", *differing)
    assert found(sg.verify(store, everything=True)) == wrong
    verdict = sg.verify(store, everything=True, repair=True)
    assert found(verdict) == wrong
    assert verdict.mended
    assert timeless(files(store)) == new
    assert written(store, before) == differing | {ROOT}
    assert sg.verify(store, everything=True).is_good


def test_a_store_keeps_the_users_own_catalogue(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"precisions": {"odd": {**NEW_INT4, "title": "odd"}}}))
    axes = {**SWEEP["axes"], "precision": ["fp16", "odd"]}
    make(tmp_path / "x.zarr", axes=axes, catalog=[str(mine)])
    mine.unlink()
    assert sg.verify(tmp_path / "x.zarr", everything=True).is_good


def older_solver() -> Solver:
    @quantity(unit="s", long_name="time of a step with a margin")
    def guarded_itl(itl: float) -> float:
        """Return 2 ITL."""
        return 2 * itl

    return sg.CONTINUOUS_BATCHING.extended(guarded_itl)


def newer_solver() -> Solver:
    @quantity(unit="s", long_name="time of a step with a margin")
    def guarded_itl(itl: float) -> float:
        """Return 2 ITL, from 25 ms on 3 ITL."""
        return 2 * itl if itl < 0.025 else 3 * itl

    return sg.CONTINUOUS_BATCHING.extended(guarded_itl)


def test_equations_that_changed_are_named_and_only_regions_that_differ_are_mended(tmp_path: Path) -> None:
    outputs = [*SWEEP["outputs"], "guarded_itl"]
    older, newer = older_solver(), newer_solver()
    old = make(tmp_path / "x.zarr", solver=older, outputs=outputs)
    new = timeless(make(tmp_path / "new.zarr", solver=newer, outputs=outputs))
    differing = {key for key in old if timeless(old)[key] != new[key]} - {ROOT}
    assert 0 < len(differing) < BLOCKS

    store = tmp_path / "x.zarr"
    before = identities(store)
    assert sg.verify(store, everything=True, solver=older).is_good
    verdict = sg.verify(store, everything=True, solver=newer)
    assert verdict.changed == ("guarded_itl",)
    assert {(fault.kind, fault.key) for fault in verdict.faults} == {("stale", key) for key in differing}
    with pytest.raises(InputError, match=r"\(guarded_itl\); add --all"):
        sg.verify(store, repair=True, solver=newer)
    assert written(store, before) == set()
    assert sg.verify(store, everything=True, repair=True, solver=newer).mended
    assert timeless(files(store)) == new
    assert written(store, before) == differing | {ROOT}


def test_a_store_of_equations_that_nobody_has_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    make(store, solver=older_solver(), outputs=[*SWEEP["outputs"], "guarded_itl"])
    code, sentence = refused("verify", store)
    assert code == 2
    assert sentence.startswith(f"servegrid: {store}: ")
    assert "guarded_itl" in sentence


def test_a_fingerprint_that_differs_is_mended_without_writing_a_chunk(store: Path, good: dict[str, bytes]) -> None:
    root = json.loads(good[ROOT])
    lines = root["attributes"]["fingerprint"].splitlines()
    root["attributes"]["fingerprint"] = "\n".join([f"{lines[0].split()[0]} 0123456789abcdef", *lines[1:]])
    (store / ROOT).write_text(json.dumps(root, indent=2))
    before = identities(store)
    assert sg.verify(store).changed == (lines[0].split()[0],)
    assert refused("verify", store, "--repair")[0] == 2
    assert sg.verify(store, everything=True, repair=True).is_good
    assert files(store) == good
    assert written(store, before) == {ROOT}


# Unfinished stores.


class Interrupting:
    """A progress that ends the run when a third of the points is finished."""

    def start(self, points: int, done: int) -> None:
        self.left = points // 3

    def __call__(self, points: int) -> None:
        self.left -= points
        if self.left <= 0:
            raise KeyboardInterrupt


def test_what_an_unfinished_store_lacks_is_named_and_repair_finishes_it(tmp_path: Path, good: dict[str, bytes]) -> None:
    store = tmp_path / "x.zarr"
    with pytest.raises(KeyboardInterrupt):
        make(store, progress=Interrupting(), threads=1)
    before = files(store)
    lacking = set(chunks(good)) - set(before)
    assert 0 < len(lacking) < CHUNKS
    assert found(sg.verify(store)) == faults("missing", *lacking)
    code, output = ran("verify", store, "--repair")
    assert code == 0
    assert f"{len(lacking)} missing; all mended" in output
    assert timeless(files(store)) == timeless(good)
    with xr.open_zarr(store) as finished:
        assert "status" not in finished.attrs


def test_a_part_of_a_store_is_an_unfinished_store(tmp_path: Path, good: dict[str, bytes]) -> None:
    store = tmp_path / "x.zarr"
    make(store, part="2/3")
    assert found(sg.verify(store)) == faults("missing", *set(chunks(good)) - set(files(store)))
    assert sg.verify(store, repair=True).mended
    assert timeless(files(store)) == timeless(good)


def test_a_store_that_only_says_that_it_is_unfinished_is_finished(store: Path, good: dict[str, bytes]) -> None:
    root = json.loads(good[ROOT])
    root["attributes"]["status"] = "unfinished"
    (store / ROOT).write_text(json.dumps(root, indent=2))
    before = identities(store)
    verdict = sg.verify(store)
    assert [fault.key for fault in verdict.faults] == [ROOT]
    assert sg.verify(store, repair=True).is_good
    assert files(store) == good
    assert written(store, before) == {ROOT}


# Somebody is writing.


def test_a_store_that_is_being_written_can_be_verified_but_not_repaired(store: Path) -> None:
    (store / "itl/c/0/0/0").unlink()
    with place_of(store).locked():
        assert found(sg.verify(store)) == faults("missing", "itl/c/0/0/0")
        assert ran("verify", store)[0] == 1
        with pytest.raises(BusyError):
            sg.verify(store, repair=True)
        code, sentence = refused("verify", store, "--repair")
        assert code == 3
        assert sentence.startswith(f"servegrid: {store}: another run is writing this store")
    assert sg.verify(store, repair=True).mended


def test_parts_that_are_at_work_keep_a_repair_away(store: Path) -> None:
    with place_of(store).locked(shared=True):
        assert sg.verify(store).is_good
        assert refused("verify", store, "--repair")[0] == 3


# What is no store.


def root_without(store: Path, *path: str) -> str:
    """The root's metadata without one of its parts."""
    root = part = json.loads((store / ROOT).read_text())
    for word in path[:-1]:
        part = part[word]
    del part[path[-1]]
    return json.dumps(root)


BROKEN: Mapping[str, Callable[[Path], str | bytes]] = {
    "empty": lambda store: "",
    "cut": lambda store: (store / ROOT).read_bytes()[:1000],
    "no text": lambda store: b"\xff\xfe\x00",
    "no mapping": lambda store: "[1, 2]",
    "nothing": lambda store: "null",
    "a mapping of nothing": lambda store: "{}",
    "no attributes": lambda store: root_without(store, "attributes"),
    "no metadata of arrays": lambda store: root_without(store, "consolidated_metadata"),
    "no sweep": lambda store: root_without(store, "attributes", "sweep"),
    "no fingerprint": lambda store: root_without(store, "attributes", "fingerprint"),
    "no version": lambda store: root_without(store, "attributes", "servegrid_version"),
}


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_root_that_is_broken_is_said_so(how: str, repair: bool, store: Path) -> None:
    content = BROKEN[how](store)
    (store / ROOT).write_bytes(content.encode() if isinstance(content, str) else content)
    before = identities(store)
    code, sentence = refused("verify", store, *(["--repair"] if repair else []))
    assert code == 2
    assert sentence.startswith(f"servegrid: {store}: is no store that servegrid made, or its zarr.json is missing")
    assert written(store, before) == set()


def test_a_missing_root_is_said(store: Path) -> None:
    (store / ROOT).unlink()
    for arguments in ([store], [store, "--repair"]):
        code, sentence = refused("verify", *arguments)
        assert code == 2
        assert "its zarr.json is missing or damaged" in sentence


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    empty, text, foreign = tmp_path / "empty", tmp_path / "text", tmp_path / "foreign.zarr"
    empty.mkdir()
    text.write_text("hello")
    zarr.create_group(foreign).create_array("itl", shape=(3,), dtype="float64")
    before = identities(tmp_path)
    for path in (empty, text, foreign, tmp_path / "nowhere", tmp_path / "nowhere" / "deep", text / "below"):
        for arguments in ([path], [path, "--repair"], [path, "--all", "--repair"]):
            code, sentence = refused("verify", *arguments)
            assert code == 2, sentence
            assert sentence.startswith(f"servegrid: {path}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "foreign.zarr", "text"]
    assert list(empty.iterdir()) == []
    assert written(tmp_path, before) == set()


def spoil_itl(root: dict[str, Any], member: str, value: object) -> None:
    root["consolidated_metadata"]["metadata"]["itl"][member] = value


NONSENSE: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "chunks of no length": lambda root: spoil_itl(root, "chunk_grid", {"configuration": {"chunk_shape": [0, 1, 3]}}),
    "chunks of text": lambda root: spoil_itl(root, "chunk_grid", {"configuration": {"chunk_shape": ["a", 1, 3]}}),
    "chunks with an axis too many": lambda root: spoil_itl(
        root, "chunk_grid", {"configuration": {"chunk_shape": [1, 1, 3, 1]}}
    ),
    "no chunks": lambda root: spoil_itl(root, "chunk_grid", {}),
    "a sweep that is no YAML": lambda root: root["attributes"].update(sweep="axes: [1"),
    "a sweep that is no mapping": lambda root: root["attributes"].update(sweep="spare"),
    "a sweep with a model that nobody knows": lambda root: root["attributes"].update(
        sweep=root["attributes"]["sweep"].replace("llama-3.1-70b", "llama-3.1-71b")
    ),
    "a fingerprint of one word": lambda root: root["attributes"].update(fingerprint="itl"),
    "a fingerprint that is a number": lambda root: root["attributes"].update(fingerprint=5),
    "attributes that are a list": lambda root: root.update(attributes=["sweep"]),
}


@pytest.mark.parametrize("how", sorted(NONSENSE))
def test_nonsense_in_the_root_is_refused_in_a_sentence_or_mended(how: str, store: Path, good: dict[str, bytes]) -> None:
    root = json.loads(good[ROOT])
    NONSENSE[how](root)
    (store / ROOT).write_text(json.dumps(root))
    before = identities(store)
    code, output = ran("verify", store)
    assert code in (1, 2)
    assert written(store, before) == set()
    if code == 1:
        assert ran("verify", store, "--repair")[0] == 0
        assert files(store) == good
    else:
        for options in ([], ["--repair"], ["--all", "--repair"]):
            code, output = refused("verify", store, *options)
            assert code == 2
            assert output.startswith(f"servegrid: {store}: ")
        assert written(store, before) == set()


@pytest.mark.parametrize("how", sorted(NONSENSE))
def test_a_run_does_not_stumble_over_nonsense_in_the_root(
    how: str, store: Path, tmp_path: Path, good: dict[str, bytes]
) -> None:
    root = json.loads(good[ROOT])
    NONSENSE[how](root)
    (store / ROOT).write_text(json.dumps(root))
    (tmp_path / "spare.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    code, output = ran("run", tmp_path / "spare.yaml", "--out", store)
    if code == 0:
        assert files(store) == good
    else:
        assert (code, output.count("\n")) == (2, 1)
        assert output.startswith(f"servegrid: {store}: ")


@pytest.mark.parametrize("change", ["attributes.title", "itl.attributes.units", "itl.fill_value", "itl.shape"])
def test_a_root_that_does_not_say_what_the_arrays_say_is_damaged(
    change: str, store: Path, good: dict[str, bytes]
) -> None:
    """Readers take the metadata of all arrays from the root."""
    root = json.loads(good[ROOT])
    arrays = root["consolidated_metadata"]["metadata"]
    if change == "attributes.title":
        root["attributes"]["title"] = "spire"
    elif change == "itl.attributes.units":
        arrays["itl"]["attributes"]["units"] = "r"
    elif change == "itl.fill_value":
        arrays["itl"]["fill_value"] = 0.0
    else:
        arrays["itl"]["shape"] = [3, 2, 2]
    (store / ROOT).write_text(json.dumps(root, indent=2))
    assert [(fault.kind, fault.key) for fault in sg.verify(store).faults] == [("damaged", ROOT)]
    assert sg.verify(store, repair=True).mended
    assert files(store) == good


def told(root: dict[str, Any]) -> dict[str, Any]:
    """What a root tells, but for who made it and when, which nothing else knows, and for the case of names."""
    attributes = dict(root["attributes"])
    for name in ("created", "servegrid_version", "numba_version"):
        del attributes[name]
    return {**root, "attributes": {**attributes, "sweep": attributes["sweep"].lower()}}


@given(position=st.integers(0), bit=st.integers(0, 7))
@example(position=0, bit=0)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_of_the_root_passes_unseen(position: int, bit: int, store: Path, good: dict[str, bytes]) -> None:
    spoilt = flipped(good[ROOT], position % len(good[ROOT]), bit)
    (store / ROOT).write_bytes(spoilt)
    code, output = ran("verify", store, "--sample", 0)
    assert "Traceback" not in output
    if code == 0:
        assert told(json.loads(spoilt)) == told(json.loads(good[ROOT]))
    else:
        assert code in (1, 2)
        assert code == 1 or output.count("\n") == 1
    (store / ROOT).write_bytes(good[ROOT])


# Options that cannot be.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "2", "--threads", "2"], "threads and workers are given together"),
        (["--memory", "1 MiB"], "memory: got '1 MiB'"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], words: str, store: Path) -> None:
    code, sentence = refused("verify", store, *arguments)
    assert code == 2
    assert words in sentence


def test_a_folder_that_may_not_be_written_cannot_be_repaired(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what the system says to everybody but root
    (store / "itl/c/0/0/0").unlink()
    assert ran("verify", store)[0] == 1
    code, sentence = refused("verify", store, "--repair")
    assert code == 3
    assert "cannot be written" in sentence
