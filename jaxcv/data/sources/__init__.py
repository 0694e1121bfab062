"""What gives examples by number: image files, arrays in memory, others' records, features of a frozen network."""
