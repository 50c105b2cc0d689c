"""The studies: one file each, which exports one `Study`."""
