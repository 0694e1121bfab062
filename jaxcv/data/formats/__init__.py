"""Formats of annotations, one file each: raw numbers and where they stand, handed to `jaxcv.data.example`."""
