"""What images and tables at a path tell: classes, given parts, groups and companions."""
