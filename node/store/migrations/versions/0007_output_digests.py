"""A result has a digest that names its method, beside its SHA-256; results of before have none and are told by that."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column("outputs", sa.Column("digest", sa.String(80), nullable=False, server_default=""))
