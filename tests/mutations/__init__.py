"""Mistakes that somebody could make in `itnas/`, and the tests that must notice them."""
