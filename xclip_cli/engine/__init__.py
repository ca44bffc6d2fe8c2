"""Videos to encodings, texts to features. Knows no label files and no commands."""
