"""Networks: a file for each family, the catalogue of all of them, and functions to create one."""

from fleetfoot.models.base import Backbone, Config, FeatureExtractor, FeatureInfo
from fleetfoot.models.catalogue import (
    FAMILIES,
    Family,
    ModelInfo,
    configure,
    family_of,
    list_models,
    model_info,
)
from fleetfoot.models.conversion import convert
from fleetfoot.models.creation import create_model
from fleetfoot.models.identification import Fit, Inspection, identify, inspect_weights
from fleetfoot.models.loader import load_weights

__all__ = [
    "FAMILIES",
    "Backbone",
    "Config",
    "Family",
    "FeatureExtractor",
    "FeatureInfo",
    "Fit",
    "Inspection",
    "ModelInfo",
    "configure",
    "convert",
    "create_model",
    "family_of",
    "identify",
    "inspect_weights",
    "list_models",
    "load_weights",
    "model_info",
]
