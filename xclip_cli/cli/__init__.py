"""The command line: flags in, library calls out."""
