"""The tables behind every question a person asks of the node.

The bytes are in files (see ``files.py``); a row is written only after its file is durable, so a row
without a file is damage and a file without a row is an interrupted receive.
"""

import sqlalchemy as sa

from node.audit import METADATA

__all__ = [
    "ASSIGNMENTS",
    "COMMITMENTS",
    "DELIVERIES",
    "GENERATIONS",
    "HL7_MESSAGES",
    "INSTANCES",
    "METADATA",
    "ORDERS",
    "ORDER_USES",
    "OUTPUTS",
    "PATIENT_EVENTS",
    "QUARANTINE",
    "REMOVALS",
    "STUDIES",
]

UID = sa.String(64)  # PS3.5 9.1: a UID has at most 64 characters
AT = sa.Float  # seconds since the epoch, UTC

STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_uid", UID, primary_key=True),
    sa.Column("first_at", AT, nullable=False),
    sa.Column("last_instance_at", AT, nullable=False),
    sa.Column("released_at", AT),
    sa.Column("is_open", sa.Boolean, nullable=False),  # has instances that no generation holds
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("patient_id", sa.Text, nullable=False, default=""),
    sa.Column("accession_number", sa.Text, nullable=False, default=""),
    sa.Column("forced_at", AT),  # a person said it is whole; null again once it is frozen
    sa.Column("discarded_at", AT),  # a person said it is not to be read
    sa.Column("asked_at", AT),  # its sender was asked what it holds
    sa.Column("expected_count", sa.Integer),  # what it said; null if it did not answer
    sa.Column("let_go_at", AT),  # a person said that no hold keeps it from being read
    sa.Index("studies_open", "study_uid", sqlite_where=sa.text("is_open = 1")),
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
    sa.Column("digest", sa.String(80), nullable=False),  # of the dataset, with its method (see digest.py)
    sa.Column("modality", sa.String(16), nullable=False, default="", server_default=""),
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
    sa.Column("signal", sa.String(32), nullable=False),  # what settled it: quiet, release, count, forced
    sa.Column("instance_count", sa.Integer, nullable=False),
    # frozen, waiting, held, routed, unrouted, failed, discarded, superseded
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("tries", sa.Text, nullable=False, default="[]"),  # JSON: what each rule said
    sa.Column("calling_ae", sa.String(16), nullable=False, server_default=""),
    sa.Column("modality", sa.String(16), nullable=False, server_default=""),  # of the study's first image
    sa.Column("longest_pause_s", sa.Float, nullable=False, server_default="0"),  # between images, also before the first
    sa.Column("late_pause_s", sa.Float, nullable=False, server_default="0"),  # before the first; release came too soon
    sa.Column("basis", sa.Text, nullable=False, server_default=""),  # how long was waited, and why so long
    sa.Column("wait_until", AT),  # for a required series; null if it never waited
    sa.Index("generations_of_sender", "calling_ae", "modality", "frozen_at"),
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
    sa.Column("digest", sa.String(80), nullable=False, default="", server_default=""),  # of the file, with its method
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
    sa.Column("state", sa.String(16), nullable=False, index=True),  # see DeliveryState
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("queued_at", AT, nullable=False),
    sa.Column("next_attempt_at", AT, nullable=False),
    sa.Column("accepted_at", AT),
    sa.Column("answer", sa.String(32), nullable=False, default=""),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("rounds", sa.Integer, nullable=False, default=0, server_default="0"),  # how often a person sent it again
    sa.Column("check_at", AT),  # when the destination is asked next whether it has it; null if it is not asked
    sa.Column("check_step", sa.String(8), nullable=False, default="", server_default=""),  # ask, report, resend
    sa.Column("checks", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("resends", sa.Integer, nullable=False, default=0, server_default="0"),  # it had lost it
    sa.Column("verified_at", AT),
    sa.Column("verified_by", sa.String(16), nullable=False, default="", server_default=""),  # answer, commitment, find
    sa.Column("note", sa.Text, nullable=False, default="", server_default=""),  # what the last check said
    sa.Index("deliveries_to_check", "destination", "check_at", sqlite_where=sa.text("check_at IS NOT NULL")),
)
COMMITMENTS = sa.Table(  # what a PACS was asked to commit; a report names its transaction
    "commitments",
    METADATA,
    sa.Column("transaction_uid", UID, primary_key=True),
    sa.Column("delivery_id", sa.String(160), primary_key=True),
    sa.Column("sop_uid", UID, nullable=False),  # as the PACS knows it
    sa.Column("asked_at", AT, nullable=False),
    sa.Index("commitments_of_delivery", "delivery_id"),
)
REMOVALS = sa.Table(
    "removals",
    METADATA,
    sa.Column("removal_id", sa.Integer, primary_key=True),
    sa.Column("study_uid", UID, nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),  # what belongs to this generation or an earlier one goes
    sa.Column("kind", sa.String(16), nullable=False),  # expire: the rows stay and tell the story; erase: they go too
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("instance_count", sa.Integer, nullable=False),
    sa.Column("output_count", sa.Integer, nullable=False),
    sa.Column("begun_at", AT, nullable=False),
    sa.Column("ended_at", AT),  # null while files may still be there: the next tidying finishes it
)
HL7_MESSAGES = sa.Table(
    "hl7_messages",
    METADATA,
    sa.Column("message_id", sa.Integer, primary_key=True),
    sa.Column("at", AT, nullable=False, index=True),
    sa.Column("sender", sa.Text, nullable=False),  # MSH-3 and MSH-4; with MSH-10 they tell a message from every other
    sa.Column("control_id", sa.Text, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # such as ORM^O01
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of the message
    sa.Index("hl7_messages_by_id", "control_id", "sender"),
)
ORDERS = sa.Table(
    "orders",
    METADATA,
    sa.Column("order_id", sa.Integer, primary_key=True),
    sa.Column("message_id", sa.Integer, nullable=False, index=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("accession_number", sa.Text, nullable=False, index=True),
    sa.Column("content", sa.Text, nullable=False),  # JSON: the rest of what the order says (see orders.py)
)
PATIENT_EVENTS = sa.Table(
    "patient_events",
    METADATA,
    sa.Column("event_id", sa.Integer, primary_key=True),
    sa.Column("message_id", sa.Integer, nullable=False, index=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("trigger", sa.String(3), nullable=False),  # A01, A04, A08, A40
    sa.Column("patient_id", sa.Text, nullable=False, index=True),  # of A40: the old one
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON: where the patient is, or the id that stays
)
ORDER_USES = sa.Table(
    "order_uses",
    METADATA,
    sa.Column("order_id", sa.Integer, primary_key=True),
    sa.Column("assignment_id", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(16), primary_key=True),  # priority, report, resend, left
    sa.Column("at", AT, nullable=False),
)
