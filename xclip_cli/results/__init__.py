"""Records of a run: what they are, and the files that hold them."""
