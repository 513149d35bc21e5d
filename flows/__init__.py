"""The model is looked after here: lifecycle, command line, report."""
