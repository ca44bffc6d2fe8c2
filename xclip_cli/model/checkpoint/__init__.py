"""A model's name to the files of its checkpoint folder: bundled, on disk, or from the hub."""
