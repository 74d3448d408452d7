"""Zarr v3 arrays in shards, written and read directly: the bytes are those of the standard, the speed is the disk's.

``layout`` says what an array's ``zarr.json`` says; ``codecs`` turns chunks into bytes and back; ``files`` reads and writes
bytes, here and in object stores; ``writing`` and ``reading`` put these together. Whatever this package writes, any Zarr
library reads. It reads the arrays of others too, where they use the codecs that it knows.
"""

from sensorium.catalog.shards.codecs import Compressor, little
from sensorium.catalog.shards.files import forget as forget_files
from sensorium.catalog.shards.files import sync_folder
from sensorium.catalog.shards.layout import Layout, UnknownLayout
from sensorium.catalog.shards.reading import ShardedArray, groups, is_range
from sensorium.catalog.shards.writing import write_array, write_group

__all__ = [
    "Compressor",
    "Layout",
    "ShardedArray",
    "UnknownLayout",
    "forget_files",
    "groups",
    "is_range",
    "little",
    "sync_folder",
    "write_array",
    "write_group",
]
