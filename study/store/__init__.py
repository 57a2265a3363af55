"""A study's folder on a disk or an object store: everything that is written and read there."""
