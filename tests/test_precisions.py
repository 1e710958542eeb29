"""Precisions: bytes with scales against arithmetic, the format of each part, and how devices compute with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from servegrid.catalog import Catalog, CatalogError
from servegrid.errors import InputError

CATALOG = Catalog.default()
PARTS = ("attention", "ffn", "experts", "head", "kv_cache")


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("fp32", 4),
        ("bf16", 2),
        ("fp8", 1),
        ("int8", 1),
        ("nvfp4", (16 * 4 + 8) / 16 / 8),  # bits of a block: 16 numbers of 4, a scale of 8
        ("mxfp4", (32 * 4 + 8) / 32 / 8),
        ("int4-weight-only", (128 * 4 + 16 + 4) / 128 / 8),  # a scale of 16 and a zero of 4 bits
        ("int4-g32", (32 * 4 + 16) / 32 / 8),
    ],
)
def test_bytes_of_a_weight_include_its_share_of_the_scales(name: str, held: float) -> None:
    assert CATALOG.precision(name).held_bytes == pytest.approx(held, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("bf16", "bf16 bf16 bf16 bf16 bf16"),
        ("fp32", "fp32 fp32 fp32 fp32 fp32"),
        ("fp8", "fp8 fp8 fp8 bf16 fp8"),
        ("int8", "int8 int8 int8 bf16 bf16"),
        ("int4", "int4 int4 int4 bf16 bf16"),
        ("fp4", "fp4 fp4 fp4 bf16 fp8"),
        ("nvfp4", "nvfp4 nvfp4 nvfp4 bf16 fp8"),
        ("nvfp4-ffn", "bf16 nvfp4 nvfp4 bf16 fp8"),
        ("mxfp4-experts", "bf16 bf16 mxfp4 bf16 fp8"),
        ("w4a16", "int4-weight-only int4-weight-only int4-weight-only bf16 bf16"),
        ("int4-experts", "bf16 bf16 int4-g32 bf16 bf16"),
    ],
)
def test_the_format_of_each_part(name: str, formats: str) -> None:
    scheme = CATALOG.scheme(name)
    assert [getattr(scheme, part) for part in PARTS] == [CATALOG.precision(form) for form in formats.split()]


@pytest.mark.parametrize(
    ("device", "form", "rate"),
    [
        ("h100", "bf16", (989.4e12, 16, False)),
        ("h100", "fp8", (1978.9e12, 8, False)),
        ("h100", "nvfp4", (989.4e12, 16, True)),  # no units for it
        ("b200", "nvfp4", (9e15, 4, False)),
        ("b200", "w4a16", (2250e12, 16, True)),
        ("a100-80gb", "fp8", (312e12, 16, True)),
        ("a100-80gb", "int8", (624e12, 8, False)),
        ("a10", "int4", (125e12, 16, True)),  # it has units, but engines hold weights alone so
        ("a100-80gb", "fp32", (19.5e12, 16, False)),
        ("h100", "fp32", (66.9e12, 16, False)),
    ],
)
def test_a_device_computes_in_a_format_or_in_16_bits(device: str, form: str, rate: tuple[float, int, bool]) -> None:
    assert CATALOG.precision(form).rate(CATALOG.accelerator(device)) == pytest.approx(rate, rel=1e-12)


def test_every_fact_of_a_precision_has_a_source() -> None:
    for name, precision in CATALOG.precisions.items():
        for fact in ("bytes_per_element", "bytes_with_scales", *(f"parts.{part}" for part in precision.parts)):
            assert CATALOG.source("precision", name, fact) is not None


def test_a_scheme_has_no_one_size() -> None:
    with pytest.raises(InputError) as refusal:
        CATALOG.precision("nvfp4-ffn").number_bytes  # noqa: B018 (it is a property)
    assert str(refusal.value) == (
        "precision: got 'NVFP4 in FFN and experts, attention in bf16', which holds its parts in different formats, "
        "expected one format for all of them, such as fp8"
    )


def test_a_scheme_of_the_user(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("precisions: {odd: {title: Odd, parts: {attention: FP8, ffn: int8, experts: mxfp4, head: fp8}}}")
    scheme = CATALOG.extended(own).scheme("odd")
    assert [getattr(scheme, part).held_bytes for part in PARTS] == [1, 1, 0.53125, 1, 2]


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("{parts: {attention: fp8}}", "precisions.odd: expected bytes_per_element, or a format for ffn among parts"),
        ("{}", "precisions.odd: expected bytes_per_element, or a format for attention among parts"),
        ("{bytes_per_element: 1}", "precisions.odd: bytes_per_element and peak_flops_formats: expected both or "),
        (
            "{parts: {attention: fp8, ffn: fp8, experts: fp9}}",
            "unknown precision 'fp9' (did you mean fp8 or fp4?); ",
        ),
        (
            "{parts: {attention: fp8, ffn: fp8, experts: nvfp4-ffn}}",
            "the experts of the precision odd: got 'nvfp4-ffn', expected one number format",
        ),
        ("{parts: {head: fp8, heat: fp8}}", "precisions.odd.parts.heat: got 'heat', expected 'attention', 'ffn', "),
    ],
)  # fmt: skip
def test_a_precision_that_cannot_be_is_refused(precision: str, message: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("precisions: {odd: {title: Odd, " + precision[1:] + "}")
    with pytest.raises(CatalogError) as refusal:
        CATALOG.extended(own)
    assert str(refusal.value).startswith(f"own.yaml: {message}")
