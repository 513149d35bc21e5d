"""What a lifecycle made, for a reader: the page, its charts, and a diagnosis."""
