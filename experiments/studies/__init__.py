"""The studies: one per file, which exports one `Study`."""
