"""Speed, memory and learning, measured beside peers; never asserted in tests."""
