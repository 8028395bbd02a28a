"""Digests say by which method they were made, instances their Modality, and open studies are found by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Mark what was hashed so far as SHA-256; drop an index that every received object had to change."""
    with op.batch_alter_table("instances") as table:
        table.alter_column("sha256", new_column_name="digest", type_=sa.String(80))
        table.add_column(sa.Column("modality", sa.String(16), nullable=False, server_default=""))
    op.execute("UPDATE instances SET digest = 'sha256:' || digest")
    op.drop_index("ix_studies_last_instance_at", "studies")
    op.create_index("studies_open", "studies", ["study_uid"], sqlite_where=sa.text("is_open = 1"))
