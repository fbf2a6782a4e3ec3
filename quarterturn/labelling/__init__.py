"""Where the next label goes: how many labels are needed, which images to label, and which labels look wrong."""
