"""A hospital on one machine, for a first try: a RIS and a PACS that listen on the loopback address only."""
