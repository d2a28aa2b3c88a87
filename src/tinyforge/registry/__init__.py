"""The runs below a folder: what each was made from, how good it is, and whether it may be used.

Everything is read from the run folders; the SQLite file beside them only saves reading them again, and is rebuilt from
them when it is lost.
"""
