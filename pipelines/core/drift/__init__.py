"""Whether texts still are what a model was made from: two-sample tests, what carries a change, windows, policy."""
