"""What a run will cost, and which size of a model a budget is best spent on."""
