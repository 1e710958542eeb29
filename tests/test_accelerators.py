"""The accelerators of the catalogue: their sources, and their figures against other published ones."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pydantic import ValidationError

from servegrid.catalog import FORMATS, Accelerator, Catalog
from servegrid.units import to_number

CATALOG = Catalog.default()
ACCELERATORS = CATALOG.accelerators
FIGURES = ("memory_capacity", "memory_bandwidth", "link_bandwidth", "power", "price_per_hour")

FACTS = {
    "title": "My GPU",
    "vendor": "me",
    "release_year": 2030,
    "memory_capacity": "80 GiB",
    "memory_bandwidth": "3.35 TB/s",
    "memory_type": "HBM9",
    "peak_flops": {"bf16": "1 PFLOP/s", "int8": "2 POP/s"},
    "link": "NVLink 9",
    "link_bandwidth": "450 GB/s",
}


def _reference() -> list[dict[str, str]]:
    path = Path(__file__).parent / "data" / "accelerators_reference.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _figure(accelerator: Accelerator, fact: str) -> float | None:
    """A figure by its path, such as peak_flops.fp8."""
    name, _, number_format = fact.partition(".")
    value = getattr(accelerator, name)
    figure: float | None = value.get(number_format) if number_format else value
    return figure


def _agrees(row: dict[str, str]) -> bool:
    """Ours differs by less than one in the last digit that the source prints."""
    ours = _figure(CATALOG.accelerator(row["accelerator"]), row["fact"])
    unit = Accelerator.UNITS.get(row["fact"].partition(".")[0], "count")
    printed, digits = row["value"], len(row["value"].partition(".")[2])
    last = f"{10.0**-digits:.{digits}f}"
    theirs, step = (to_number(f"{number} {row['unit'] or 'count'}", unit) for number in (printed, last))
    return ours is not None and abs(ours - theirs) < step * (1 - 1e-9)


@pytest.mark.parametrize("row", _reference(), ids=lambda row: f"{row['accelerator']}-{row['fact']}-{row['value']}")
def test_figures_agree_with_other_published_ones_or_say_why_not(row: dict[str, str]) -> None:
    assert _agrees(row) is not bool(row["differs"])


def test_the_reference_covers_most_accelerators() -> None:
    rows = _reference()
    assert len(rows) == 237
    assert sum(bool(row["differs"]) for row in rows) == 25
    assert len({row["accelerator"] for row in rows}) == 29


def test_all_accelerators_are_there() -> None:
    assert set(ACCELERATORS) == {
        "v100-sxm", "v100-sxm-16gb", "t4", "a10", "a10g", "a30", "a40", "a100-40gb", "a100-80gb", "a100-pcie",
        "l4", "l40s", "h100-sxm", "h100-pcie", "h100-nvl", "h200", "h20", "b200", "b300", "gb200", "gb300",
        "rtx-4090", "rtx-5090", "rtx-pro-6000", "mi210", "mi250x", "mi300x", "mi325x", "mi350x", "mi355x",
        "gaudi-2", "gaudi-3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "trainium-1", "trainium-2",
        "inferentia-2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fact", "value"),
    [
        ("h100-sxm", "peak_flops.bf16", 989.4e12),  # dense: the product page prints 1,979 with sparsity
        ("h100-sxm", "memory_capacity", 80 * 2**30),
        ("h100-sxm", "memory_bandwidth", 3.35e12),
        ("h100-sxm", "link_bandwidth", 450e9),  # one way: NVIDIA prints 900
        ("a100-80gb", "memory_bandwidth", 2.039e12),
        ("h200", "memory_capacity", 141 * 2**30),
        ("gb200", "peak_flops.fp4", 10e15),  # one GPU: a superchip has two, and 20 with sparsity each
        ("mi300x", "memory_capacity", 192 * 2**30),
        ("trainium-2", "peak_flops.fp8", 1.299e15),
        ("tpu-v7", "memory_bandwidth", 7.38e12),
        ("rtx-4090", "peak_flops.bf16", 165.2e12),  # FP32 accumulation
        ("l4", "price_per_hour", 0.8048),  # g6.xlarge
        ("v100-sxm", "price_per_hour", 31.212 / 8),  # p3dn.24xlarge
        ("tpu-v4", "price_per_hour", 9891.84 / 3072),  # the largest slice: 6,144 cores, two per chip
        ("tpu-v5p", "price_per_hour", 25804.8 / 6144),  # the largest slice: 12,288 cores, two per chip
        ("inferentia-2", "price_per_hour", 0.7582),  # inf2.xlarge
    ],
)
def test_well_known_figures(name: str, fact: str, value: float) -> None:
    assert _figure(ACCELERATORS[name], fact) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_value_has_a_source(name: str) -> None:
    accelerator = ACCELERATORS[name]
    rates = [f"peak_flops.{number_format}" for number_format in accelerator.peak_flops]
    for fact in (*FIGURES, *rates, "memory_type", "link", "release_year"):
        if not fact.startswith("p") or _figure(accelerator, fact) is not None:
            assert CATALOG.source("accelerator", name, fact) is not None


def test_every_source_is_used() -> None:
    used: set[str] = set()
    listed: set[str] = set()
    for name, accelerator in ACCELERATORS.items():
        used |= {accelerator.source or "", *accelerator.source_of.values()}
        listed |= set(CATALOG.sources["accelerator", name])
    assert listed == used


@pytest.mark.parametrize("name", ACCELERATORS)
def test_year_and_memory_type_have_a_source_that_states_them(name: str) -> None:
    assert {"release_year", "memory_type"} <= set(ACCELERATORS[name].source_of)


def test_three_quarters_of_the_accelerators_have_a_price() -> None:
    priceless = {name for name, accelerator in ACCELERATORS.items() if accelerator.price_per_hour is None}
    assert priceless == {
        "a30", "h20", "gb200", "gb300", "mi210", "mi250x", "gaudi-2", "gaudi-3", "tpu-v7", "trainium-2"
    }  # fmt: skip


@pytest.mark.parametrize("name", ACCELERATORS)
def test_prices_have_a_source_of_their_own(name: str) -> None:
    accelerator = ACCELERATORS[name]
    assert (accelerator.price_per_hour is not None) is ("price_per_hour" in accelerator.source_of)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_facts_with_a_source_of_their_own_exist(name: str) -> None:
    accelerator = ACCELERATORS[name]
    for fact in accelerator.source_of:
        field, _, number_format = fact.partition(".")
        value = getattr(accelerator, field)
        assert value is not None
        assert not number_format or number_format in value


@pytest.mark.parametrize("name", ACCELERATORS)
def test_rates_are_ordered_as_the_formats_are(name: str) -> None:
    rates = ACCELERATORS[name].peak_flops
    sixteen = ACCELERATORS[name].base_peak_flops
    assert rates.get("bf16", sixteen) == rates.get("fp16", sixteen)
    wide = [rates[number_format] for number_format in ("fp32", "tf32") if number_format in rates]
    narrow = [rates[number_format] for number_format in ("fp8", "fp4") if number_format in rates]
    assert [*wide, sixteen, *narrow] == sorted([*wide, sixteen, *narrow])
    assert set(rates) <= set(FORMATS)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_figures_are_of_the_right_magnitude(name: str) -> None:
    accelerator = ACCELERATORS[name]
    assert 16 * 2**30 <= accelerator.memory_capacity <= 288 * 2**30
    assert (accelerator.memory_capacity / 2**30).is_integer()
    assert 300e9 <= accelerator.memory_bandwidth <= 8e12
    assert 16e9 <= accelerator.link_bandwidth <= 900e9
    assert 30e12 <= accelerator.base_peak_flops <= 2.6e15
    assert 70 <= (accelerator.power or 70) <= 1400
    assert 0.1 <= (accelerator.price_per_hour or 0.1) <= 10


def test_the_base_figure_is_that_of_fp16_or_else_bf16() -> None:
    assert ACCELERATORS["t4"].base_peak_flops == 65e12
    assert ACCELERATORS["tpu-v5e"].base_peak_flops == 197e12


@pytest.mark.parametrize(
    ("precision", "name", "value"),
    [
        ("fp16", "h100-sxm", 989.4e12),
        ("fp8", "h100-sxm", 1978.9e12),
        ("fp4", "h100-sxm", 989.4e12),  # no fp4 units: cast up
        ("fp4", "b200", 9e15),
        ("int4", "a10", 500e12),
        ("bf16", "t4", 65e12),  # fp16 stands for bf16
        ("fp16", "tpu-v7", 2307e12),
        ("fp32", "a100-80gb", 19.5e12),
        ("tf32", "a100-80gb", 156e12),
        ("fp32", "gaudi-2", 432e12),
    ],
)
def test_a_precision_computes_at_its_rate_or_the_base(precision: str, name: str, value: float) -> None:
    assert CATALOG.precision(precision).peak_flops(ACCELERATORS[name]) == pytest.approx(value, rel=1e-12)


def test_bytes_per_element_are_those_of_mlsysim() -> None:
    plain = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4", "fp4")
    held = {name: CATALOG.precision(name).bytes_per_element for name in plain}
    assert held == {
        "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "int4": 0.5, "fp4": 0.5
    }  # fmt: skip
    for name in held:
        assert CATALOG.source("precision", name, "bytes_per_element") is not None


def test_values_are_read_with_their_units() -> None:
    accelerator = Accelerator.model_validate({**FACTS, "power": "0.7 kW", "price_per_hour": "2.99 USD/h"})
    assert accelerator.memory_capacity == 80 * 2**30
    assert accelerator.peak_flops == {"bf16": 1e15, "int8": 2e15}
    assert accelerator.power == pytest.approx(700)
    assert accelerator.price_per_hour == 2.99


def test_power_and_price_may_be_unknown() -> None:
    accelerator = Accelerator.model_validate(FACTS)
    assert accelerator.power is None
    assert accelerator.price_per_hour is None


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("memory_capacity", 80),  # the unit is missing
        ("memory_capacity", "80 GB/s"),
        ("memory_bandwidth", "-3 TB/s"),
        ("memory_bandwidth", "inf"),
        ("peak_flops", {}),
        ("peak_flops", {"fp8": "1 PFLOP/s"}),
        ("peak_flops", {"bf16": "1 PFLOP/s", "fp7": "1 PFLOP/s"}),
        ("power", 0),
        ("price_per_hour", "-1 USD/h"),
        ("release_year", 202),
        ("colour", "green"),
    ],
)
def test_nonsense_is_refused(fact: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        Accelerator.model_validate({**FACTS, fact: value})
    assert refusal.value.errors()[0]["loc"][0] == fact
