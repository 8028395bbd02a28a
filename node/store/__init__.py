"""The store: bytes in files, questions in a database, both durable before anyone is told so."""
