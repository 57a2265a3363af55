"""Packs on a cluster: Ray, its trials, what fails there, and how far it all is."""
