"""The model that ships with the package: its checkpoint, and the code that makes, trains and measures it."""
