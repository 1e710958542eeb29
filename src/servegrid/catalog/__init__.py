"""The catalogue: models, accelerators, engines, traces, schedulers and more, each fact with its source."""

from servegrid.catalog.accelerator import FORMATS, Accelerator
from servegrid.catalog.architecture import Architecture
from servegrid.catalog.engine import Constant, Engine
from servegrid.catalog.entry import Entry, Source
from servegrid.catalog.length import Length, shape_code
from servegrid.catalog.library import Catalog
from servegrid.catalog.link import Device, Link
from servegrid.catalog.model import Model
from servegrid.catalog.precision import Precision, Scheme
from servegrid.catalog.records import SECTIONS, CatalogError, Kind, written_out
from servegrid.catalog.scheduler import Scheduler
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
    "Length",
    "Link",
    "Model",
    "Precision",
    "Scheduler",
    "Scheme",
    "Source",
    "Trace",
    "shape_code",
    "written_out",
]
