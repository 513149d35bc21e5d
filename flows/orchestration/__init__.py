"""What Prefect runs: the only modules that import it when they are loaded."""
