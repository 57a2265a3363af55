"""Images: what a source gives, how it is split, and the batches of a pack."""

from itnas.data.batches import Batches
from itnas.data.images import PARTS, DataError, DataSettings, ImageData, Part
from itnas.data.sources import load_data

__all__ = ["PARTS", "Batches", "DataError", "DataSettings", "ImageData", "Part", "load_data"]
