"""Files as they lie on disk or in the network: images, crops, text with line numbers, paths, archives, downloads."""
