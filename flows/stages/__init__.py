"""What is known of the stages without running them: their graph, what they cost, the figures they report."""
