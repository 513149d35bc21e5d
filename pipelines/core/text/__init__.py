"""Text: descriptors, duplicates, contamination, template and mask audits."""
