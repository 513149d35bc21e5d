"""Pure code: values in, values out; no paths, clock, environment or network."""
