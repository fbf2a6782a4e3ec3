"""From files as users have them to a table of images: finding, decoding, de-duplicating, splitting."""
