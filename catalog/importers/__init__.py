"""The built-in importers, one file each."""
