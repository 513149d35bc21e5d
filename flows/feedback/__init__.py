"""Rankings and ratings by people: brought in, given out to be made elsewhere, or made here."""
