"""The tables behind every question a person asks of the node.

The bytes are in files (see ``files.py``); a row is written only after its file is durable, so a row
without a file is damage and a file without a row is an interrupted receive.
"""

import sqlalchemy as sa

from node.audit import METADATA

__all__ = ["ASSIGNMENTS", "DELIVERIES", "GENERATIONS", "INSTANCES", "METADATA", "OUTPUTS", "QUARANTINE", "STUDIES"]

UID = sa.String(64)  # PS3.5 9.1: a UID has at most 64 characters
AT = sa.Float  # seconds since the epoch, UTC

STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_uid", UID, primary_key=True),
    sa.Column("first_at", AT, nullable=False),
    sa.Column("last_instance_at", AT, nullable=False, index=True),
    sa.Column("released_at", AT),
    sa.Column("is_open", sa.Boolean, nullable=False),  # has instances that no generation holds
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("patient_id", sa.Text, nullable=False, default=""),
    sa.Column("accession_number", sa.Text, nullable=False, default=""),
)
INSTANCES = sa.Table(
    "instances",
    METADATA,
    sa.Column("sop_uid", UID, primary_key=True),
    sa.Column("study_uid", UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("series_uid", UID, nullable=False),
    sa.Column("sop_class_uid", UID, nullable=False),
    sa.Column("transfer_syntax_uid", UID, nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to the store
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("patient_id", sa.Text, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("received_at", AT, nullable=False),
    sa.Column("generation", sa.Integer),  # the first generation that holds it; null until then
)
QUARANTINE = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("quarantine_id", sa.String(32), primary_key=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("sop_uid", sa.String(64), nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),  # the DIMSE status the sender was given
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
)
GENERATIONS = sa.Table(
    "generations",
    METADATA,
    sa.Column("study_uid", UID, sa.ForeignKey("studies.study_uid"), primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("frozen_at", AT, nullable=False),
    sa.Column("last_instance_at", AT, nullable=False),
    sa.Column("signal", sa.String(32), nullable=False),  # what settled it: quiet, release, forced
    sa.Column("instance_count", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # frozen, routed, unrouted, failed
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("tries", sa.Text, nullable=False, default="[]"),  # JSON: what each rule said
)
ASSIGNMENTS = sa.Table(
    "assignments",
    METADATA,
    sa.Column("assignment_id", sa.String(64), primary_key=True),
    sa.Column("study_uid", UID, sa.ForeignKey("studies.study_uid"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("handler", sa.String(64), nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("destinations", sa.Text, nullable=False),  # JSON list
    sa.Column("series_uids", sa.Text, nullable=False),  # JSON list
    sa.Column("state", sa.String(16), nullable=False, index=True),  # assigned, analysed, reported, failed
    sa.Column("assigned_at", AT, nullable=False),
    sa.Column("analysed_at", AT),
    sa.Column("reported_at", AT),
    sa.Column("status", sa.String(16), nullable=False, default=""),  # findings, no_findings, not_evaluable, failed
    sa.Column("summary", sa.Text, nullable=False, default=""),  # JSON: findings as stated
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("analysis_path", sa.Text, nullable=False, default=""),
)
OUTPUTS = sa.Table(
    "outputs",
    METADATA,
    sa.Column("output_id", sa.String(64), primary_key=True),
    sa.Column("assignment_id", sa.String(64), sa.ForeignKey("assignments.assignment_id"), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("sop_class_uid", UID, nullable=False, default=""),
    sa.Column("transfer_syntax_uid", UID, nullable=False, default=""),
    sa.Column("made_at", AT, nullable=False),
)
DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("delivery_id", sa.String(160), primary_key=True),
    sa.Column("output_id", sa.String(64), sa.ForeignKey("outputs.output_id"), nullable=False, index=True),
    sa.Column("destination", sa.String(64), nullable=False, index=True),
    sa.Column("patient_key", sa.String(64), nullable=False),  # digest: orders messages of one patient
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # pending, accepted, dead_letter
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("queued_at", AT, nullable=False),
    sa.Column("next_attempt_at", AT, nullable=False),
    sa.Column("accepted_at", AT),
    sa.Column("answer", sa.String(32), nullable=False, default=""),
    sa.Column("error", sa.Text, nullable=False, default=""),
)
