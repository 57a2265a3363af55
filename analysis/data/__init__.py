"""A study folder as tables and arrays: files in, nothing computed."""
