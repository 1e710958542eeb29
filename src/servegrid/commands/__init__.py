"""Commands of the command line, one file each; `cli` puts them together.

Imports stand inside the functions, so that `--help` answers in a fraction of a second.
"""
