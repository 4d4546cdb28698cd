"""The benchmark's own parts; `run.py` beside this package is the program."""
