"""The catalogue entry of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from servegrid.catalog.architecture import Architecture
from servegrid.catalog.entry import Entry, Positive
from servegrid.catalog.precision import Part


class Published(BaseModel):
    """The sizes that the publisher gives; the architecture is checked against them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Positive | None = None
    active_parameters: Positive | None = None
    """Per token; mixture-of-experts models only."""
    active_embedding: bool = True
    """The publisher counts the embedding as active."""
    other_parameters: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """What `parameters` counts besides the language model, such as a vision tower."""


class Model(Entry):
    """A language model: its architecture and its published sizes."""

    architecture: Architecture
    published: Published = Published()
    checkpoint_precision: Mapping[Part, str] = Field(default_factory=dict)
    """The format of each part in the publisher's checkpoint, where its files say so; sweeps choose a precision."""

    @model_validator(mode="after")
    def _active_means_experts(self) -> Model:
        if self.published.active_parameters and not self.architecture.experts:
            raise ValueError("published.active_parameters: expected only for a model with experts")
        return self
