"""The catalogue: models, accelerators, precisions, engines, links and traces, each fact with its source."""

from servegrid.catalog.accelerator import FORMATS, Accelerator
from servegrid.catalog.architecture import Architecture
from servegrid.catalog.engine import Constant, Engine
from servegrid.catalog.entry import Entry, Source
from servegrid.catalog.library import Catalog
from servegrid.catalog.link import Device, Link
from servegrid.catalog.model import Model
from servegrid.catalog.precision import Precision, Scheme
from servegrid.catalog.records import SECTIONS, CatalogError, Kind, written_out
from servegrid.catalog.trace import Trace

__all__ = [
    "FORMATS",
    "SECTIONS",
    "Accelerator",
    "Architecture",
    "Catalog",
    "CatalogError",
    "Constant",
    "Device",
    "Engine",
    "Entry",
    "Kind",
    "Link",
    "Model",
    "Precision",
    "Scheme",
    "Source",
    "Trace",
    "written_out",
]
