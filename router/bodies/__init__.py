"""Bodies that are stored apart from their events: uploads and reads, in chunks."""
