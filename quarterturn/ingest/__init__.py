"""From image files to a table of images: finding, decoding, removing duplicates, splitting."""
