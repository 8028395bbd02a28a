"""What a site decides: `config.toml` and the environment, read once and checked before anything starts."""

from node.settings.load import load_settings
from node.settings.records import (
    CompleteSettings,
    Condition,
    DeliverSettings,
    Destination,
    DicomDestination,
    DicomSettings,
    EngineSettings,
    Hl7Destination,
    InferSettings,
    LogSettings,
    Peer,
    ReportSettings,
    Rule,
    Settings,
    StoreSettings,
)

__all__ = [
    "CompleteSettings",
    "Condition",
    "DeliverSettings",
    "Destination",
    "DicomDestination",
    "DicomSettings",
    "EngineSettings",
    "Hl7Destination",
    "InferSettings",
    "LogSettings",
    "Peer",
    "ReportSettings",
    "Rule",
    "Settings",
    "StoreSettings",
    "load_settings",
]
