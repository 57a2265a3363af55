"""Figures of result objects; nothing is computed here."""
