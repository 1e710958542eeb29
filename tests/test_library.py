"""The catalogue's loader: lookup, user files, and what it says about files that it refuses."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from servegrid.catalog import Catalog, CatalogError, Kind, Source, written_out
from servegrid.catalog.library import _catalog
from servegrid.catalog.precision import Part
from servegrid.catalog.records import read_yaml
from servegrid.errors import InputError

CATALOG = Catalog.default()
CONFIGS = Path(__file__).parent / "data" / "configs"

LETTER = "sources: {letter: {document: A letter, read: 2030-01-02}}\n"
GPU = """\
accelerators:
  my-gpu:
    title: My GPU
    vendor: me
    release_year: 2030
    memory_capacity: 80 GiB
    memory_bandwidth: 3 TB/s
    memory_type: HBM9
    peak_flops: {bf16: 1 PFLOP/s}
    link: PCIe
    link_bandwidth: 64 GB/s
"""


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """A file for a test to write."""
    return tmp_path / "my-gpus.yaml"


def _refusal(path: Path) -> str:
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(path)
    return str(refusal.value)


# Lookup.


def test_the_default_catalogue_is_read_once() -> None:
    assert Catalog.default() is CATALOG


def test_entries_are_found_by_any_name_in_any_case() -> None:
    for kind, entries in (
        ("model", CATALOG.models),
        ("accelerator", CATALOG.accelerators),
        ("precision", CATALOG.precisions),
        ("engine", CATALOG.engines),
        ("link", CATALOG.links),
        ("trace", CATALOG.traces),
        ("scheduler", CATALOG.schedulers),
        ("length", CATALOG.lengths),
    ):
        for short, entry in entries.items():
            for name in (short, *entry.aliases):
                for spelt in (name, name.upper(), name.lower(), name.swapcase()):
                    assert CATALOG.short_name(kind, spelt) == short  # type: ignore[arg-type]  # keys of a literal


def test_a_kind_has_a_method_of_its_own() -> None:
    assert CATALOG.model("META-LLAMA/Llama-3.1-8B") is CATALOG.models["llama-3.1-8b"]
    assert CATALOG.accelerator("H100") is CATALOG.accelerators["h100-sxm"]
    assert CATALOG.precision("half") is CATALOG.precisions["fp16"]
    assert CATALOG.scheduler("Sarathi") is CATALOG.schedulers["chunked"]
    assert CATALOG.length("Uniform") is CATALOG.lengths["uniform"]
    assert CATALOG.trace("Azure-Code") is CATALOG.traces["azure-2023-code"]


def test_names_of_one_kind_are_unknown_to_another() -> None:
    with pytest.raises(CatalogError):
        CATALOG.model("h100-sxm")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "accelerator",
            "H100-SXN",
            "unknown accelerator 'H100-SXN' (did you mean h100-sxm or v100-sxm or h100-nvl?); "
            "'servegrid catalog list accelerators' shows all 40",
        ),
        ("precision", "fp17", "unknown precision 'fp17' (did you mean fp16?); "
         "'servegrid catalog list precisions' shows all 17"),
        ("precision", "zzz", "unknown precision 'zzz'; 'servegrid catalog list precisions' shows all 17"),
    ],
)  # fmt: skip
def test_unknown_names_get_the_nearest(kind: Kind, name: str, message: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        CATALOG.short_name(kind, name)
    assert str(refusal.value) == message


def test_an_unknown_model_gets_the_nearest() -> None:
    with pytest.raises(CatalogError, match=r"unknown model 'lama-3.1-8b' \(did you mean llama-3.1-8b or "):
        CATALOG.model("lama-3.1-8b")


def test_a_catalogue_error_is_an_input_error() -> None:
    assert issubclass(CatalogError, InputError)
    assert issubclass(CatalogError, ValueError)


# Sources.


def test_a_fact_has_its_own_source_or_its_entry_s() -> None:
    price = CATALOG.source("accelerator", "h100", "price_per_hour")
    assert price is not None
    assert price.document.startswith("RunPod Secure Cloud price list of 2026-11-09")
    capacity = CATALOG.source("accelerator", "H100", "memory_capacity")
    assert capacity is not None
    assert capacity.url == "https://glennklockwood.com/garden/processors/h100"


def test_a_part_of_a_fact_has_the_source_of_the_fact() -> None:
    whole = CATALOG.source("accelerator", "mi300x", "peak_flops")
    assert CATALOG.source("accelerator", "mi300x", "peak_flops.bf16") == whole
    assert CATALOG.source("accelerator", "mi300x", "peak_flops.fp8") != whole
    of_rates = CATALOG.source("accelerator", "h200", "peak_flops")
    assert CATALOG.source("accelerator", "h200", "peak_flops.fp8") == of_rates
    assert CATALOG.source("accelerator", "h200", "power") != of_rates


def test_every_entry_of_the_package_has_a_source() -> None:
    for name in CATALOG.models:
        assert CATALOG.source("model", name, "architecture") is not None
    for name in CATALOG.accelerators:
        assert CATALOG.source("accelerator", name, "title") is not None


# User files.


def test_a_user_s_accelerator_joins_the_catalogue(write: Path) -> None:
    write.write_text(GPU)
    extended = CATALOG.extended(write)
    assert extended.accelerator("MY-GPU").memory_bandwidth == 3e12
    assert extended.source("accelerator", "my-gpu", "power") is None
    assert extended.accelerators.keys() == {*CATALOG.accelerators, "my-gpu"}
    assert extended.models == CATALOG.models
    assert "my-gpu" not in CATALOG.accelerators


def test_a_user_s_sources_are_kept(write: Path) -> None:
    write.write_text(LETTER + GPU + "    source: letter\n")
    source = CATALOG.extended(write).source("accelerator", "my-gpu", "power")
    assert source == Source(document="A letter", read=date(2030, 1, 2))


def test_a_user_s_entry_replaces_that_of_the_same_name(write: Path) -> None:
    write.write_text(GPU.replace("my-gpu", "H100-SXM"))
    extended = CATALOG.extended(write)
    assert len(extended.accelerators) == len(CATALOG.accelerators)
    assert extended.accelerator("h100-sxm").title == "My GPU"
    assert extended.short_name("accelerator", "h100-sxm") == "H100-SXM"


def test_files_are_added_in_turn(write: Path, tmp_path: Path) -> None:
    write.write_text(GPU)
    later = tmp_path / "later.yaml"
    later.write_text(GPU.replace("3 TB/s", "4 TB/s"))
    assert CATALOG.extended(write, later).accelerator("my-gpu").memory_bandwidth == 4e12
    assert CATALOG.extended(later, write).accelerator("my-gpu").memory_bandwidth == 3e12


def test_a_section_may_be_empty(write: Path) -> None:
    write.write_text("sources:\naccelerators:\n")
    assert CATALOG.extended(write).accelerators == CATALOG.accelerators


def test_a_precision_may_be_added(write: Path) -> None:
    write.write_text("precisions: {fp6: {title: 6-bit float, bytes_per_element: 0.75, peak_flops_formats: [fp6, fp8]}}")
    extended = CATALOG.extended(write)
    assert extended.precision("FP6").peak_flops(extended.accelerator("mi355x")) == 10066.3e12
    assert extended.precision("fp6").peak_flops(extended.accelerator("h100")) == 1978.9e12


def _config(folder: Path, name: str) -> Path:
    """A config.json in a folder of its own."""
    source = next(CONFIGS.glob("*Meta-Llama-3.1-8B*"))
    folder.mkdir()
    path = folder / name
    shutil.copyfile(source, path)
    return path


def test_a_config_json_is_named_after_its_folder(tmp_path: Path) -> None:
    path = _config(tmp_path / "My-Model", "config.json")
    for given in (path, path.parent):
        extended = CATALOG.extended(given)
        assert extended.models["my-model"].title == "My-Model"
        assert extended.model("my-model").architecture == CATALOG.model("llama-3.1-8b").architecture


def test_another_json_is_named_after_itself(tmp_path: Path) -> None:
    path = _config(tmp_path / "folder", "meta-llama--Meta-Llama-3.1-8B.json")
    assert CATALOG.extended(path).models["meta-llama--meta-llama-3.1-8b"].title == path.stem


# What is refused.

WHERE = "my-gpus.yaml: accelerators.my-gpu"
LAYOUT = "expected a mapping with models, accelerators, precisions, engines, links, traces, schedulers or lengths"
REFUSED = {
    "unit": (
        GPU.replace("3 TB/s", "3 GiB"),
        f"{WHERE}.memory_bandwidth: got '3 GiB', expected a value in byte/s",
    ),
    "number": (
        GPU.replace("3 TB/s", "fast"),
        f"{WHERE}.memory_bandwidth: got 'fast', expected a value in byte/s",
    ),
    "no unit": (
        GPU.replace("80 GiB", "80"),
        f"{WHERE}.memory_capacity: got 80, expected a value in byte that is greater than or equal to 1000000",
    ),
    "negative": (
        GPU + "    power: -3 W\n",
        f"{WHERE}.power: got -3.0, expected a value in W that is greater than 0",
    ),
    "missing": (
        GPU.replace("    memory_bandwidth: 3 TB/s\n", ""),
        f"{WHERE}.memory_bandwidth: got nothing, expected a value in byte/s",
    ),
    "missing text": (GPU.replace("    vendor: me\n", ""), f"{WHERE}.vendor: got nothing, expected a value"),
    "misspelt": (
        GPU.replace("vendor", "vender"),
        f"{WHERE}.vender: got an unknown key, expected a fact (did you mean vendor?)",
    ),
    "format": (
        GPU.replace("bf16", "bf17"),
        f"{WHERE}.peak_flops.bf17: got 'bf17', expected 'fp64', 'fp32', 'tf32', 'bf16', 'fp16', 'fp8', "
        "'fp6', 'fp4', 'int8' or 'int4'",
    ),
    "no base": (
        GPU.replace("bf16", "fp8"),
        f"{WHERE}.peak_flops: got fp8, expected fp16 or bf16 among them",
    ),
    "rate": (
        GPU.replace("1 PFLOP/s", "1 GB"),
        f"{WHERE}.peak_flops.bf16: got '1 GB', expected a value in FLOP/s",
    ),
    "rates": (
        GPU.replace("{bf16: 1 PFLOP/s}", "[1]"),
        f"{WHERE}.peak_flops: got a list, expected a mapping",
    ),
    "year": (GPU.replace("2030", "soon"), f"{WHERE}.release_year: got 'soon', expected a whole number"),
    "early": (
        GPU.replace("2030", "1066"),
        f"{WHERE}.release_year: got 1066, expected a value greater than or equal to 1990",
    ),
    "title": (GPU.replace("My GPU", "[a]"), f"{WHERE}.title: got a list, expected text"),
    "alias": (GPU + "    aliases: mine\n", f"{WHERE}.aliases: got 'mine', expected a list"),
    "price": (
        GPU + "    price_per_hour: cheap\n",
        f"{WHERE}.price_per_hour: got 'cheap', expected a value in USD/h",
    ),
    "alias of another": (
        GPU + "    aliases: [H100]\n",
        "my-gpus.yaml: got the name 'H100' for two accelerators, h100-sxm and my-gpu, "
        "expected names and aliases to be unique",
    ),
    "named as an alias": (
        GPU.replace("my-gpu", "h100"),
        "my-gpus.yaml: got the name 'h100' for two accelerators, h100-sxm and h100, "
        "expected names and aliases to be unique",
    ),
    "twice": (
        GPU + GPU.partition("\n")[2].replace("my-gpu", "My-GPU"),
        "my-gpus.yaml: got the name 'My-GPU' for two accelerators, my-gpu and My-GPU, "
        "expected names and aliases to be unique",
    ),
    "source": (
        GPU + "    source: letter\n",
        f"{WHERE}.source: got 'letter', expected a key of the file's sources",
    ),
    "source of a fact": (
        "sources: {letter: {document: A letter, read: 2030-01-02}}\n" + GPU + "    source_of: {power: leter}\n",
        f"{WHERE}.source_of.power: got 'leter', expected a key of the file's sources (did you mean letter?)",
    ),
    "undated source": (
        "sources: {letter: {document: A letter}}\n",
        "my-gpus.yaml: sources.letter.read: got nothing, expected a value",
    ),
    "duplicate": (GPU + "    title: again\n", "my-gpus.yaml: line 12: got the key 'title' twice"),
    "nested duplicate": (
        GPU.replace("1 PFLOP/s}", "1 PFLOP/s, bf16: 2 PFLOP/s}"),
        "my-gpus.yaml: line 9: got the key 'bf16' twice",
    ),
    "list": ("- a\n", f"my-gpus.yaml: got a list, {LAYOUT}"),
    "text": ("hello", f"my-gpus.yaml: got 'hello', {LAYOUT}"),
    "empty": ("", f"my-gpus.yaml: got nothing, {LAYOUT}"),
    "only comments": ("# nothing\n", f"my-gpus.yaml: got nothing, {LAYOUT}"),
    "not YAML": ("a: [b\n", "my-gpus.yaml: line 2: did not find expected ',' or ']'"),
    "key of another kind": ("? [a]\n: b\n", "my-gpus.yaml: line 1: found unhashable key"),
    "tab": ("a:\n\t- b\n", "my-gpus.yaml: line 2: got a tab, or another character that cannot begin a value"),
    "control character": ("a: \0", "my-gpus.yaml: not a YAML file, expected text"),
    "section": (
        GPU.replace("accelerators", "accelerator"),
        f"my-gpus.yaml: got an unknown key 'accelerator', {LAYOUT} (did you mean accelerators?)",
    ),
    "numeric name": (
        GPU.replace("my-gpu", "4090"),
        "my-gpus.yaml: accelerators: got the name 4090, expected text (write it in quotes)",
    ),
    "section of another kind": ("accelerators: 5\n", "my-gpus.yaml: accelerators: got 5, expected a mapping"),
    "entry of another kind": (
        "accelerators: {my-gpu: fast}\n",
        "my-gpus.yaml: accelerators.my-gpu: got 'fast', expected a mapping",
    ),
    "empty entry": (
        "accelerators: {my-gpu: }\n",
        "my-gpus.yaml: accelerators.my-gpu: got nothing, expected a mapping",
    ),
    "model": (
        "models: {mine: {title: Mine, architecture: {layers: 0}}}\n",
        "my-gpus.yaml: models.mine.architecture.layers: got 0, expected a value greater than or equal to 1",
    ),
    "precision": (
        "precisions: {fp5: {title: FP5, bytes_per_element: nothing, peak_flops_formats: [fp8]}}\n",
        "my-gpus.yaml: precisions.fp5.bytes_per_element: got 'nothing', expected a number",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file_gets_one_sentence(case: str, write: Path) -> None:
    text, message = REFUSED[case]
    write.write_text(text)
    assert _refusal(write) == message
    assert "\n" not in message


def test_a_file_in_another_encoding_is_refused(write: Path) -> None:
    write.write_bytes(b"title: caf\xe9")
    assert _refusal(write) == "my-gpus.yaml: not a YAML file, expected text"


def test_a_missing_file_is_refused(write: Path) -> None:
    assert _refusal(write) == f"{write}: no such file, expected YAML or the config.json of a model"


def test_a_folder_without_a_config_json_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "config.json"
    assert _refusal(tmp_path) == f"{missing}: no such file, expected YAML or the config.json of a model"


def test_a_path_through_a_file_is_refused(write: Path) -> None:
    write.write_text(GPU)
    beneath = write / "more.yaml"
    assert _refusal(beneath) == f"{beneath}: cannot be read (Not a directory)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{",
            "config.json: not a JSON file (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1))",
        ),
        ("[]", "config.json: got a list, expected the config.json of a model"),
    ],
)
def test_what_is_no_config_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert _refusal(path) == message


def test_what_the_importer_refuses_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model_type": "rnn"}))
    assert _refusal(path).startswith("config.json of mine: model_type: got 'rnn', expected ")


def test_a_name_that_two_files_of_the_package_share_is_refused() -> None:
    records = read_yaml(GPU.encode(), "one.yaml") + read_yaml(GPU.encode(), "two.yaml")
    with pytest.raises(CatalogError) as refusal:
        _catalog(records)
    assert str(refusal.value) == (
        "got the name 'my-gpu' for two accelerators, my-gpu and my-gpu, expected names and aliases to be unique"
    )


def test_the_formats_of_a_checkpoint_are_read_from_the_file_beside_it(tmp_path: Path) -> None:
    path = _config(tmp_path / "My-Model", "config.json")
    beside = path.with_name("hf_quant_config.json")
    beside.write_text('{"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["*.self_attn*", "lm_head"]}}')
    extended = CATALOG.extended(path.parent)
    formats = extended.model("my-model").checkpoint_precision
    assert formats == {"attention": "bf16", "ffn": "nvfp4"}
    assert extended.precision_of(formats) == "nvfp4-ffn"
    assert CATALOG.extended(written_out(path)).model("my-model").checkpoint_precision == formats
    beside.write_text("{")
    assert _refusal(path).startswith("hf_quant_config.json: not a JSON file (Expecting property name")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({}, None),
        ({"attention": "fp8", "experts": "fp8"}, "fp8"),
        ({"attention": "bf16", "ffn": "bf16", "experts": "int4-g32"}, "int4-experts"),
        ({"attention": "bf16", "experts": "mxfp4"}, "mxfp4-experts"),
        ({"attention": "int8", "ffn": "fp8"}, None),
    ],
)
def test_the_precision_that_a_checkpoint_has(parts: dict[Part, str], name: str | None) -> None:
    assert CATALOG.precision_of(parts) == name


SWITCHES = "iteration_level: {}, reservation: {}, mixed_passes: {}, chunked_prompts: no"


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (
            SWITCHES.format("no", "longest", "yes"),
            "got mixed_passes without iteration_level: a batch formed as a whole",
        ),
        (SWITCHES.format("yes", "exact", "yes") + ", watermark: 0.01", "got the reservation 'exact' with a swap or a"),
        (SWITCHES.format("yes", "exact", "yes") + ", preemption: swap", "got the reservation 'exact' with a swap or a"),
        (SWITCHES.format("yes", "pages", "no") + ", watermark: 1", "got 1, expected a value less than 1"),
        (
            SWITCHES.format("yes", "buddies", "no"),
            "got 'buddies', expected 'pages', 'exact', 'power_of_two' or 'longest'",
        ),
    ],
)
def test_a_scheduler_whose_switches_contradict_each_other_is_refused(
    switches: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(f"schedulers: {{mine: {{title: Mine, {switches}}}}}")
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(tmp_path / "own.yaml")
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("own.yaml: schedulers.mine")
