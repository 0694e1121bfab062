"""Formats of annotations, one file each: raw numbers and where they stand, handed to `jaxcv.data.collector`.

A `scan_...` function reads every annotation of both splits, once for as long as the process lives. Its arguments:
`path` or `folder`, see the module; `classes`, names in order of their index, empty for what the set lists; `skip`,
whether examples of which a file is faulty are left out and counted; `hold_out`, of a set without a split of its own,
whether a fifth is kept for testing (False: both splits hold everything).
"""
