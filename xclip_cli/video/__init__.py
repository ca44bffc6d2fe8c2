"""Video files to frames, in worker processes. Never imports torch or the model."""
