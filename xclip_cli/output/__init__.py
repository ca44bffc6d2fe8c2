"""How results look, to people and to programs.

A format is a function; what a command can write is a table of them: ``tables.FORMATS`` of predictions,
``timelines.FORMATS`` of timelines. ``files.SUFFIXES`` says which suffix of a file asks for which.
"""
